"""A run without its mechanism: same logits where the gate is a constant, a test where it is not, else one line."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file, save_file
from scipy import stats as oracle
from scipy.optimize import minimize_scalar
from torch import nn

import attnbench
from attnbench import RunSpec, Runtime, Store, cli, network
from attnbench.analysis.same_images import change, interval, score
from attnbench.errors import AttnbenchError, BadReference
from attnbench.networks.cost import cost
from attnbench.networks.folding import folded
from attnbench.store.runs import RunRecord

LEARNT = {"epochs": 3, "train_limit": 200, "lr": 0.02, "val_fraction": 0.3, "init": "own"}


@pytest.fixture(scope="module")
def runtime(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(device="cpu", data_dir=str(data_dir), store=str(tmp_path_factory.mktemp("runs")), tracker="none")


@pytest.fixture(scope="module")
def run(runtime: Runtime) -> Callable[..., RunRecord]:
    """Train a run on the digits, once for all tests of this file."""
    return lambda attention, **fields: attnbench.run(
        RunSpec(**{**TINY, "attention": attention, **LEARNT, **fields}), runtime
    )


def without_looking(record: RunRecord, store: Path) -> RunRecord:
    """A run whose gates were made constants by hand: their last layer gives its bias, whatever it reads."""
    copy = Path(shutil.copytree(record.folder, store / record.id))
    weights = load_file(copy / "weights.safetensors")
    last = [name for name in weights if name.endswith("fc.2.weight")]
    assert last
    save_file({name: value * (name not in last) for name, value in weights.items()}, copy / "weights.safetensors")
    return Store(store).find(copy)


@pytest.mark.parametrize(
    ("attention", "fields"),
    [
        ("static", {}),
        ("constant", {}),
        ("static", {"init": "identity"}),
        ("static", {"site": "conv", "val_fraction": 0.0}),  # before convolutions
        ("static", {"backbone": "preact_resnet20(widths=(4, 8, 8))"}),  # behind convolutions
        ("static", {"backbone": "mobilenet_v2(width=0.25)", "site": "pattern:.*bn2", "epochs": 1}),
    ],
)
def test_a_gate_that_looks_at_nothing_folds_into_the_weights_and_nothing_else_changes(run, runtime, attention, fields):
    record = run(attention, **fields)
    found = attnbench.fold(record, runtime=runtime)
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        now, before = found.predictor(images), attnbench.load(record)(images)
    assert (now - before).abs().max() <= 1e-5 * before.abs().max()
    assert (found.parity <= 1e-5, found.spread, found.validation) == (True, 0.0, None)
    assert found.accuracy == pytest.approx(found.before)
    plain = network(record.spec["backbone"], "none", 10, 0, 1, 8)
    plain.load_state_dict(found.predictor.model.state_dict())
    assert found.cost == cost(plain, (1, 8, 8))
    assert found.cost["parameters"] <= found.cost_before["parameters"]
    assert {type(module) for module in found.predictor.model.modules()} == {type(module) for module in plain.modules()}


def test_what_is_written_are_weights_of_the_plain_network_and_the_evidence(run, runtime, attnbench, data_dir):
    record = run("static")
    done = attnbench("fold", record.folder, "--output", "new/mine.safetensors", "--data-dir", data_dir)
    assert done.returncode == 0, done.stderr
    assert "9 gates folded: they do not look at the image" in done.stdout
    assert done.stdout.endswith("written: new/mine.safetensors and new/mine.json\n")
    plain = network(record.spec["backbone"], "none", 10, 0, 1, 8)
    plain.load_state_dict(load_file("new/mine.safetensors"))
    told = json.loads(Path("new/mine.json").read_text())
    assert (told["run"], told["sites"], told["validation"]) == (record.id, 9, None)
    assert told["cost"] == cost(plain, (1, 8, 8))
    assert Store(Path(record.folder).parent).journal(record.id)[-1]["reading"] == "fold"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("mine.json", "mine.json: this is where the evidence goes, as JSON; call the weights mine.safetensors"),
        ("taken/mine.safetensors", "taken/mine.safetensors cannot be written: "),
        ("folder", "folder/ is a folder; call the weights folder/plain.safetensors"),
    ],
)
def test_a_place_where_weights_cannot_go_is_said_before_the_work(run, monkeypatch, capsys, output, says):
    Path("taken").write_text("a file")
    Path("folder").mkdir()
    monkeypatch.setattr("attnbench.examine.folding.fold", lambda *_: pytest.fail("folded all the same"))
    record, _ = run("static"), capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main(["fold", record.folder, "--output", output])
    told = capsys.readouterr().err
    assert (ended.value.code, told.count("\n")) == (2, 1), told
    assert says in told


def test_weights_are_never_written_where_their_evidence_goes(run, runtime):
    with pytest.raises(AttnbenchError, match=r"call the weights mine\.safetensors"):
        attnbench.fold(run("static"), runtime=runtime).write(Path("mine.json"))
    assert not Path("mine.json").exists()


def test_gates_that_matter_are_kept_and_the_figures_say_why(run, runtime):
    record = run("se", lr=0.1, epochs=6)
    with pytest.raises(
        AttnbenchError, match=r"change validation accuracy by .* points \[.*\] on \d+ images, not"
    ) as no:
        attnbench.fold(record, margin=1e-3, runtime=runtime)
    assert "\n" not in str(no.value)


def test_gates_that_look_and_do_not_matter_fold_by_the_test_on_validation_images(run, runtime):
    record = run("se")
    found = attnbench.fold(record, margin=99, runtime=runtime)
    assert found.spread > 1e-3
    assert found.validation.images == 1437 * 3 // 10
    assert -99 < found.validation.low < found.validation.mean < found.validation.high < 99
    network(record.spec["backbone"], "none", 10, 0, 1, 8).load_state_dict(found.predictor.model.state_dict())
    assert "9 gates folded: mean gates change validation accuracy by" in str(found)


def test_an_se_that_no_longer_looks_is_folded_without_a_test(run, runtime, tmp_path):
    record = without_looking(run("se", val_fraction=0.0), tmp_path / "blind")
    found = attnbench.fold(record, runtime=runtime)
    assert (found.validation, found.spread <= 1e-6, found.parity <= 1e-5) == (None, True, True)


@pytest.mark.parametrize(
    ("attention", "fields", "message"),
    [
        ("none", {}, "has no mechanism: there is nothing to fold"),
        (
            "eca",
            {"val_fraction": 0.0},
            "without validation images nothing tells whether that matters; a run with val_fr",
        ),
        ("cbam", {}, r"\(cbam\): layer1\.0\.bn2: the gate has the shape 4x8x8, not one value a channel"),
        ("nl", {}, r"nl has no gate\(x\)"),
        ("test_evaluate:Asking", {}, r"its SE has a gate\(x\), but is not called itself"),
        ("static", {"site": "post"}, "the gate stands behind a _Basic, and folds into the weights of a norm or conv"),
    ],
)
def test_what_cannot_be_folded_is_one_line(run, runtime, attention, fields, message):
    with pytest.raises(AttnbenchError, match=message) as told:
        attnbench.fold(run(attention, **fields), margin=99, runtime=runtime)
    assert "\n" not in str(told.value)


def test_a_margin_that_is_none_is_refused(run, runtime):
    with pytest.raises(AttnbenchError, match="margin 0: must be above 0"):
        attnbench.fold(run("static"), margin=0, runtime=runtime)


@pytest.mark.parametrize("groups", [1, 2])
def test_before_a_convolution_the_constant_goes_where_its_channel_is_read(groups):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(4, 6, 3, groups=groups, padding=1), nn.BatchNorm2d(6)).double().eval()
    image = torch.rand(2, 4, 5, 5).double()
    grafted = attnbench.graft(plain, "static", "0", example=image, position="before", init="own").double()
    grafted.get_submodule("0.0").scale.data.uniform_(-2, 2)
    torch.testing.assert_close(folded(grafted)(image), grafted(image))


def test_behind_a_norm_without_weights_nothing_folds():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False))
    grafted = attnbench.graft(plain, "static", "1", example=(3, 8, 8), init="own")
    with pytest.raises(BadReference, match="1: the gate stands behind a BatchNorm2d"):
        folded(grafted)


@pytest.mark.parametrize(("gained", "lost", "images", "gap"), [(5, 3, 40, 0.1), (5, 3, 40, -0.2), (1, 9, 30, 0.05)])
def test_the_score_takes_the_most_likely_share_under_the_gap(gained, lost, images, gap):
    def unlikely(share: float) -> float:
        both = images - gained - lost
        return -(gained * math.log(share + gap) + lost * math.log(share) + both * math.log(1 - 2 * share - gap))

    ends = (max(0.0, -gap) + 1e-12, (1 - gap) / 2 - 1e-12)
    share = minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    error = math.sqrt(images * (2 * share + gap * (1 - gap)))
    assert score(gained, lost, images, gap) == pytest.approx((gained - lost - images * gap) / error, rel=1e-6)


def test_no_image_that_differs_still_leaves_a_width_that_shrinks_with_the_images():
    for images in (20, 200, 2000):
        high = oracle.norm.ppf(0.95) ** 2 / (images + oracle.norm.ppf(0.95) ** 2)
        assert interval(0, 0, images) == pytest.approx((-high, high), abs=1e-8)
    right = np.arange(100) < 90
    found = change(right, right)
    assert (found.mean, found.accuracy, found.within(2.7), found.within(2.6)) == (0, 90, True, False)


@pytest.mark.parametrize("images", [40, 100])
@pytest.mark.parametrize("apart", [0.02, 0.1])
def test_a_difference_as_large_as_the_margin_passes_in_about_one_case_of_twenty(images, apart):
    """Over all tables, each as often as it comes: the one is worse by exactly the margin."""
    margin, passing = 0.1, 0.0
    for gained in range(images + 1):
        for lost in range(images + 1 - gained):
            chance = oracle.multinomial.pmf(
                [gained, lost, images - gained - lost], images, [apart, apart + margin, 1 - 2 * apart - margin]
            )
            if chance > 1e-9 and interval(gained, lost, images)[0] > -margin:
                passing += chance
    assert 0.02 < passing < 0.065
