"""One run: the loop, the record, and that the same spec gives the same bits."""

import dataclasses
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from rounding import clear
from safetensors.torch import load_file

import attnbench
from attnbench import RunSpec, Runtime
from attnbench.catalogue.registry import ATTENTION
from attnbench.data.batches import Batches
from attnbench.data.splits import constants, load_splits
from attnbench.errors import Diverged, MachineFault
from attnbench.networks.network import network_of
from attnbench.networks.weights import weights_digest
from attnbench.store.environment import environment
from attnbench.store.runs import RunRecord, Store
from attnbench.training import loop
from attnbench.training import run as runner
from attnbench.training.loop import Predicted, predict, training
from attnbench.training.state import State

CPU = torch.device("cpu")
NAMED = {"id", "spec", "recipe", "status", "test", "weights_sha256", "data_fingerprint", "split_fingerprint"}
FILES = {"record.json", "journal.jsonl", "weights.safetensors", "predictions.npz", "tracking.json"}
NAMED |= {"numerics", "environment", "cards", "cost", "timings", "resumed"}


def spec(**fields: object) -> RunSpec:
    return RunSpec(**{**TINY, **fields})


@pytest.fixture
def do(data_dir: Path):
    """Do a run in the test's own store."""

    def run(one: RunSpec, store: str = "runs") -> RunRecord:
        return attnbench.run(one, Runtime(data_dir=str(data_dir), store=store, tracker="none"))

    return run


@pytest.fixture
def parts(data_dir: Path):
    """The training batches and the fresh state of a run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a run does: other numbers give other bits

    def make(one: RunSpec) -> tuple[Batches, State]:
        splits = load_splits(one, data_dir)
        train = Batches(splits.train, one, constants(one, splits.train), CPU)
        model = network_of(one, splits.classes, splits.channels, splits.image_size)
        return train, State.fresh(one, model, train.steps(), CPU)

    yield make
    torch.set_num_threads(threads)


def test_a_card_exempts_parameters_from_weight_decay(parts, monkeypatch):
    entry = ATTENTION.find("se")
    card = dataclasses.replace(entry.card, no_decay=("fc.2.bias",))
    monkeypatch.setitem(ATTENTION._entries, "se", dataclasses.replace(entry, card=card))
    _, state = parts(spec(attention="se", weight_decay=0.25))
    decay = {id(p): group["weight_decay"] for group in state.optimizer.param_groups for p in group["params"]}
    named = {name: decay[id(p)] for name, p in state.model.named_parameters()}
    assert named == {name: 0.0 if name.endswith("bn2.1.fc.2.bias") else 0.25 for name in named}
    assert 0.0 in named.values()


OPTIMISERS = {
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=1e-2, weight_decay=1e-3, fused=True),
    "sgd": lambda weights: torch.optim.SGD(
        weights, lr=1e-2, momentum=0.8, weight_decay=1e-3, nesterov=True, fused=True
    ),
}


@pytest.mark.parametrize("kind", OPTIMISERS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_an_epoch_is_the_plain_loop_written_by_hand(parts, kind, smoothing):
    fields = {"attention": "se", "lr": 1e-2, "weight_decay": 1e-3, "momentum": 0.8, "epochs": 1}
    one = spec(optimizer=kind, label_smoothing=smoothing, **fields)
    (train, state), (_, hand) = parts(one), parts(one)
    for _pause in training(one, state, train, None, minutes=60):
        pass
    by_hand, total, right = OPTIMISERS[kind](hand.model.parameters()), 0.0, 0
    for _, images, labels in train.epoch(0):
        by_hand.zero_grad()
        logits = hand.model.train()(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        loss.backward()
        by_hand.step()
        total, right = total + loss.item() * len(labels), right + int((logits.argmax(1) == labels).sum())
    assert weights_digest(state.model.state_dict()) == weights_digest(hand.model.state_dict())
    (point,) = state.curves
    assert point["train_loss"] == pytest.approx(total / 100, rel=1e-12)  # the mean over images
    assert point["train_accuracy"] == right


@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
def test_a_loss_that_is_not_finite_stops_the_run_with_epoch_step_and_rate(do, schedule):
    one = spec(optimizer="sgd", lr=1e9, schedule=schedule)
    told = r"the loss is (nan|inf) at epoch [12], step \d+, learning rate [\d.]+e\+0[789]"
    with pytest.raises(Diverged, match=told):
        do(one)
    record = Store("runs").record(one.id)
    assert (record.status, "learning rate" in record.error) == ("failed", True)


def test_a_test_loss_that_is_not_finite_is_no_finished_run(do):
    one = spec(optimizer="sgd", lr=1e30, epochs=1, batch_size=100)  # the loss of its one step is finite
    with pytest.raises(Diverged):
        do(one)
    assert Store("runs").record(one.id).status == "failed"


def test_a_diverged_run_ends_with_exit_code_1_and_one_line(attnbench, data_dir):
    flags = [f"--{name}={value}" for name, value in {**TINY, "optimizer": "sgd", "lr": 1e9}.items()]
    result = attnbench("run", *flags, "--tracker", "none", "--data-dir", data_dir)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr
    assert "the loss is" in result.stderr


def test_the_best_epoch_on_validation_is_the_one_that_is_tested(do, parts, monkeypatch):
    one = spec(epochs=3, val_fraction=0.2, selection="best-val")
    shares = iter([0.1, 0.9, 0.9])  # the later of two equal epochs is no better

    def told(model: torch.nn.Module, batches: Batches) -> Predicted:
        labels = predict(model, batches).labels
        right = (torch.arange(len(labels)) < next(shares) * len(labels)).long()
        return Predicted(F.one_hot((labels + 1 - right) % 10, 10).float(), labels, 32)

    monkeypatch.setattr("attnbench.training.loop.predict", told)
    record = do(one)
    assert (record.selected["rule"], record.selected["epoch"]) == ("best-val", 2)
    train, state = parts(one)
    epochs = [weights_digest(state.model.state_dict()) for _ in training(one, state, train, None, minutes=60)]
    assert record.weights_sha256 == epochs[1]
    assert len(set(epochs)) == 3


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_what_is_tested_is_the_mean_of_the_last_weights(do, parts, share):
    one = spec(epochs=2, averaging=share)  # of eight steps
    record = do(one)
    train, state = parts(spec(epochs=2))
    steps, seen = train.steps(), []
    step = state.optimizer.step
    state.optimizer.step = lambda: (step(), seen.append({k: v.clone() for k, v in state.model.state_dict().items()}))
    for _pause in training(spec(epochs=2), state, train, None, minutes=60):
        pass
    last = seen[math.ceil((1 - share) * 2 * steps) :]
    tested = load_file(f"{record.folder}/weights.safetensors")
    for name, value in tested.items():
        mean = torch.stack([weights[name].double() for weights in last]).mean(0)
        if value.is_floating_point():  # and not the count of batches
            torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-6)
    assert weights_digest(tested) != weights_digest(state.model.state_dict())


def test_flipped_images_are_asked_too(parts):
    train, state = parts(spec(tta="flip"))
    plain, _ = parts(spec())
    with torch.inference_mode():
        pairs = [(state.model.eval()(x), state.model(x.flip(3))) for x, _ in plain.plain(32)]
    expected = torch.cat([(one + other) / 2 for one, other in pairs])
    assert torch.equal(predict(state.model, train).logits, expected)
    assert not torch.allclose(predict(state.model, plain).logits, expected)


def test_validation_images_are_evaluated_after_every_epoch(do):
    record = do(spec(val_fraction=0.2))
    assert record.selected == {"rule": "last", "epoch": 2}
    assert all(0 <= point["val_accuracy"] <= 100 and point["val_loss"] > 0 for point in record.curves)
    assert not any("val_loss" in point for point in do(spec()).curves)


def test_every_epoch_says_what_it_took(do):
    record = do(spec())
    assert all(point["seconds"] > 0 and point["cpu_seconds"] > 0 for point in record.curves)
    assert record.timings["train"] == sum(point["seconds"] for point in record.curves)


def test_an_epoch_gone_on_with_has_also_the_time_from_before(parts):
    train, begun = parts(spec())
    next(training(spec(), begun, train, None, minutes=0))
    saved = begun.to_dict()
    assert saved["seconds"] > 0
    assert saved["cpu_seconds"] > 0
    train, state = parts(spec())
    state.restore({**saved, "seconds": 2e6, "cpu_seconds": 1e6})
    for _pause in training(spec(), state, train, None, minutes=60):
        pass
    first, second = state.curves
    assert first["seconds"] > 2e6 > second["seconds"]
    assert first["cpu_seconds"] > 1e6 > second["cpu_seconds"]


def without_seconds(curves: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in point.items() if "seconds" not in name} for point in curves]


def logits(store: str, one: RunSpec) -> bytes:
    return np.load(Path(store) / one.id / "predictions.npz")["logits"].tobytes()


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_the_same_spec_twice_gives_the_same_bits(do, kind):
    one = spec(attention="cbam", augment="crop+cutout", optimizer=kind)
    first, second = do(one, "here"), do(one, "there")
    assert (first.weights_sha256, first.test) == (second.weights_sha256, second.test)
    assert logits("here", one) == logits("there", one)
    assert without_seconds(first.curves) == without_seconds(second.curves)


def test_the_precision_of_cuda_changes_nothing_on_a_cpu(do):
    found = [do(spec(precision=precision)) for precision in ("fp32", "fp16", "bf16")]
    assert len({record.weights_sha256 for record in found}) == 1
    assert {record.numerics["precision"] for record in found} == {"fp32"}


def test_another_seed_is_another_run(do):
    assert do(spec(seed=0)).weights_sha256 != do(spec(seed=1)).weights_sha256


def test_for_one_seed_two_arms_see_the_same_images(parts):
    seen = {}
    for attention in ("none", "cbam"):
        one = spec(attention=attention, augment="crop+flip", seed=4)
        train, state = parts(one)
        inputs = seen[attention] = []
        state.model.conv1.register_forward_pre_hook(lambda _module, x, kept=inputs: kept.append(x[0].clone()))
        for _pause in training(one, state, train, None, minutes=60):
            pass
    assert len(seen["none"]) == 2 * 4
    assert all(torch.equal(one, two) for one, two in zip(*seen.values(), strict=True))


@pytest.mark.parametrize("attention", ["none", 'cbam(variant="official")'])
def test_a_loaded_run_predicts_from_raw_images_what_it_predicted(do, data_dir, attention):
    record = do(spec(attention=attention))
    test = load_splits(spec(), data_dir).test
    raw = torch.from_numpy(test.source.images[test.indices]).permute(0, 3, 1, 2)
    stored = np.load(f"runs/{record.id}/predictions.npz")
    sure = clear(stored["logits"])
    for asked in (record.id, record.id[:7], f"runs/{record.id}", record):
        model = attnbench.load(asked)
        assert not model.training
        assert model(raw).argmax(1)[sure].tolist() == stored["predicted"][sure].tolist()
    logits = torch.from_numpy(stored["logits"]).float()  # stored in half precision
    torch.testing.assert_close(model(raw / 255), logits, rtol=2e-3, atol=2e-3)


def test_the_accuracy_is_recomputed_exactly_from_the_predictions(do):
    record = do(spec(test_limit=47))
    stored = np.load(f"runs/{record.id}/predictions.npz")
    assert record.test["accuracy"] == 100 * int((stored["predicted"] == stored["labels"]).sum()) / 47
    assert (stored["logits"].dtype, stored["logits"].shape) == (np.float16, (47, 10))
    assert (stored["labels"].dtype.kind, stored["predicted"].dtype.kind) == ("i", "i")


def test_the_record_says_everything_that_the_design_names(do):
    record = do(spec())
    on_disk = json.loads(Path(f"runs/{record.id}/record.json").read_text())
    assert {name for name in NAMED if on_disk.get(name) in (None, "", {}, [])} == {"recipe"}  # none was named
    assert (on_disk["status"], on_disk["id"], on_disk["resumed"]) == ("done", spec().id, 0)
    assert on_disk["weights_sha256"] == weights_digest(load_file(f"runs/{record.id}/weights.safetensors"))
    assert {file.name for file in Path(f"runs/{record.id}").iterdir()} == FILES


def test_the_test_images_are_read_once_after_the_last_epoch(do):
    record = do(spec())
    events = [line["event"] for line in Store("runs").journal(record.id)]
    assert events == ["start", "epoch", "epoch", "test", "done"]


def test_a_run_that_is_done_is_never_trained_again(do, monkeypatch):
    first = do(spec(attention="se"))
    monkeypatch.setattr("attnbench.training.run.training", lambda *_: pytest.fail("trained again"))
    assert do(spec(attention="SE(reduction=16)")).to_json() == first.to_json()


SHORT = {
    "torch on a CPU": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "torch on a card": torch.OutOfMemoryError("CUDA out of memory"),
    "Python": MemoryError(),
}


@pytest.mark.parametrize("failing", SHORT)
def test_an_evaluation_that_runs_out_of_memory_goes_on_with_smaller_batches(parts, monkeypatch, failing):
    """The images that were evaluated before stay, and the smaller size is told."""
    one = spec(batch_size=32)
    train, state = parts(one)
    whole, sizes = predict(state.model, train), []

    def short(model: torch.nn.Module, images: torch.Tensor, flip: bool) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > 8 and len(sizes) > 1:
            raise SHORT[failing]
        return evaluated(model, images, flip)

    evaluated = loop._logits
    monkeypatch.setattr(loop, "_logits", short)
    found = predict(state.model, train)
    assert sizes[:4] == [32, 32, 16, 8]
    assert (whole.batch_size, found.batch_size) == (32, 8)
    assert torch.equal(found.labels, whole.labels)
    assert found.logits.argmax(1).tolist() == whole.logits.argmax(1).tolist()


def test_an_epoch_lasts_until_the_device_has_done_its_steps(parts, monkeypatch):
    """A card is far behind the processor that starts its work."""
    train, state = parts(spec())
    monkeypatch.setattr(loop, "wait", lambda _device: time.sleep(0.5))
    next(pause for pause in training(spec(), state, train, None, 1e9) if pause.kind == "epoch")
    assert state.curves[0]["seconds"] >= 0.5


def test_an_evaluation_that_fails_for_another_reason_fails(parts, monkeypatch):
    train, state = parts(spec())
    monkeypatch.setattr(loop, "_logits", lambda *_: (_ for _ in ()).throw(RuntimeError("mat1 and mat2")))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        predict(state.model, train)


@pytest.mark.parametrize(
    ("words", "whose"),
    [
        ("CUDA error: uncorrectable ECC error encountered", "the machine's"),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", "the machine's"),
        ("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:5", "the machine's"),
        ("CUDA error: device-side assert triggered", "the run's"),
        ("mat1 and mat2 shapes cannot be multiplied", "the run's"),
    ],
)
def test_a_fault_of_the_machine_is_no_result_of_the_run(do, monkeypatch, words, whose):
    monkeypatch.setattr(runner, "training", lambda *_: (_ for _ in ()).throw(RuntimeError(words)))
    with pytest.raises(MachineFault if whose == "the machine's" else RuntimeError) as caught:
        do(spec())
    assert words.split("] ")[-1] in str(caught.value)
    assert [record.status for record in Store("runs").records()] == (["failed"] if whose == "the run's" else [])


def test_a_record_names_the_code_that_trained_and_not_what_is_there_at_the_end(do, monkeypatch):
    environment.cache_clear()
    monkeypatch.setattr("attnbench.store.environment._git", lambda: ("before", False))

    def later(*arguments):
        monkeypatch.setattr("attnbench.store.environment._git", lambda: ("after", True))
        return training(*arguments)

    monkeypatch.setattr(runner, "training", later)
    assert do(spec()).environment["git_commit"] == "before"
    environment.cache_clear()


def test_a_record_tells_the_size_of_its_test_batches(do):
    assert do(spec(batch_size=16)).test["batch_size"] == 16
