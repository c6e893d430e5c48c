"""Sources of chance that are varied alone, and runs that are scored without opening the test images."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from conftest import TINY

import attnbench.data.splits as splits_module
from attnbench import RunSpec, Runtime, Store, Study, compare, run
from attnbench.data.batches import Batches
from attnbench.data.splits import constants, load_splits
from attnbench.errors import AttnbenchError, BadSpec, StoreProblem
from attnbench.examine.evaluate import evaluate
from attnbench.networks.network import network_of
from attnbench.seeding import seeded
from attnbench.spec.run import Source

CHANCE: dict[str, Any] = {**TINY, "augment": "crop+flip", "val_fraction": 0.2}
SOURCES = get_args(Source)


def drawn(spec: RunSpec, data_dir) -> dict[str, bytes]:
    """What each source of chance gives a run."""
    splits = load_splits(spec, data_dir)
    batches = Batches(splits.train, spec, constants(spec, splits.train), torch.device("cpu"))
    _, images, labels = next(batches.epoch(0))
    one_image = np.argsort(labels.numpy(), kind="stable")  # the order of the images is another source
    with seeded(spec.seed_of("noise"), "step", 0, 0):
        noise = torch.rand(3)
    weights = next(iter(network_of(spec, 10, 1, 8).parameters()))
    return {
        "init": weights.detach().numpy().tobytes(),
        "order": labels.numpy().tobytes(),
        "augment": images.numpy()[one_image].tobytes(),
        "noise": noise.numpy().tobytes(),
        "split": splits.split_fingerprint.encode(),
    }


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_is_varied_alone_moves_nothing_else(source, data_dir):
    plain, varied = (drawn(RunSpec(**CHANCE, vary=source, seed=seed), data_dir) for seed in (0, 3))
    moved = {name for name in SOURCES if plain[name] != varied[name]}
    consequences = {"order": {"augment"}, "split": {"order", "augment"}}  # other images stand in the first batch
    assert source in moved
    assert moved <= {source} | consequences.get(source, set())


def test_the_seed_of_a_run_moves_everything_but_the_split(data_dir):
    plain, varied = (drawn(RunSpec(**CHANCE, seed=seed), data_dir) for seed in (0, 3))
    assert {name for name in SOURCES if plain[name] != varied[name]} == set(SOURCES) - {"split"}


def test_under_seed_0_all_sources_share_one_run():
    assert len({RunSpec(**CHANCE, vary=source).id for source in ("all", *SOURCES)}) == 1
    assert len({RunSpec(**CHANCE, vary=source, seed=1).id for source in ("all", *SOURCES)}) == 1 + len(SOURCES)


@pytest.mark.parametrize(
    ("source", "fields", "said"),
    [("augment", {"dataset": "CIFAR10"}, "nothing is drawn"), ("split", {"dataset": "CIFAR10"}, "its own splits")],
)
def test_a_source_without_effect_is_refused(source, fields, said):
    with pytest.raises(BadSpec, match=said):
        RunSpec(**fields, vary=source, seed=1)


def test_other_draws_of_the_split_part_the_same_images(data_dir):
    one, two = (load_splits(RunSpec(**CHANCE | {"train_limit": None}, vary="split", seed=s), data_dir) for s in (1, 2))
    assert (len(one.train), len(one.val), len(one.scored)) == (len(two.train), len(two.val), len(two.scored))
    for splits in (one, two):
        parts = [set(part.indices.tolist()) for part in (splits.train, splits.val)]
        assert not parts[0] & parts[1]
    assert not np.array_equal(one.val.indices, two.val.indices)


# Scored on validation images


@pytest.fixture(scope="module")
def both(data_dir, tmp_path_factory):
    """The same training, scored on the test images and scored on the validation images."""
    runtime = Runtime(store=str(tmp_path_factory.mktemp("both")), data_dir=str(data_dir), tracker="none")
    return runtime, [run(RunSpec(**CHANCE, evaluate=which), runtime) for which in ("test", "val")]


def test_a_run_without_a_test_has_the_weights_of_the_one_with_it(both):
    _, (tested, validated) = both
    assert tested.id != validated.id
    assert tested.weights_sha256 == validated.weights_sha256


def test_a_run_without_a_test_records_its_validation_images_alone(both):
    runtime, (tested, validated) = both
    assert (tested.scored, validated.scored) == ("test", "val")
    assert validated.test == {}
    assert validated.val["accuracy"] == validated.score == validated.curves[-1]["val_accuracy"]
    assert len(validated.predictions.labels) == validated.val["images"]
    assert 100 * validated.predictions.correct.mean() == pytest.approx(validated.score)
    events = [line["event"] for line in Store(runtime.store).journal(validated.id)]
    assert "val" in events
    assert "test" not in events
    with pytest.raises(StoreProblem, match="no test accuracy"):
        _ = validated.accuracy


def test_a_run_without_a_test_never_opens_the_test_images(data_dir, monkeypatch):
    opened = []
    plain = splits_module.decoded
    monkeypatch.setattr(splits_module, "decoded", lambda d, part, *rest: opened.append(part) or plain(d, part, *rest))
    assert load_splits(RunSpec(**CHANCE, evaluate="val"), data_dir).test is None
    load_splits(RunSpec(**CHANCE), data_dir)
    assert opened in (["train", "train", "test"], ["all", "all"])


def test_a_run_without_validation_images_cannot_be_scored_on_them():
    with pytest.raises(BadSpec, match=r"evaluate.*val_fraction"):
        RunSpec(dataset="digits", evaluate="val")


def test_a_limit_of_test_images_is_nothing_to_a_run_that_is_not_tested():
    assert len({RunSpec(**CHANCE | {"test_limit": limit}, evaluate="val").id for limit in (None, 50)}) == 1


def test_runs_without_a_test_are_never_pooled_with_tested_ones(both):
    _, records = both
    found = compare(records)
    assert [arm.records for cell in found.cells for arm in cell.arms] == [(records[0],)]
    assert any("1 runs are scored on validation images only" in warning for warning in found.warnings)
    with pytest.raises(StoreProblem, match="no test accuracy"):
        compare(records[1:])


def test_a_report_of_a_search_is_refused_in_one_line(both, attnbench):
    runtime, _ = both
    study = {"base": {**CHANCE, "evaluate": "val"}, "grid": {"attention": ["none"]}}
    with pytest.raises(StoreProblem, match="s: its runs are scored on validation images only"):
        compare(Study(name="s", **study), Store(runtime.store))


def test_gates_are_not_changed_in_runs_without_a_test(both):
    runtime, (_, validated) = both
    with pytest.raises(AttnbenchError, match="validation images only"):
        evaluate(validated.id, "mean", runtime)


def test_a_run_scored_on_validation_images_says_so(attnbench, data_dir):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {**CHANCE, "evaluate": "val"}.items()]
    done = attnbench("run", *flags, "--tracker", "none", "--data-dir", data_dir)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("validation accuracy ")
