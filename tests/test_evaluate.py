"""A trained run with other gates than its own: what is computed, what is kept, and what is refused."""

import os
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image
from rounding import clear
from scipy import stats as oracle
from torch import Tensor, nn

import attnbench
from attnbench import RunSpec, Runtime, Store, build_attention, cli, compare, network
from attnbench.catalogue.registry import ATTENTION
from attnbench.data.splits import Split, load_splits
from attnbench.examine.evaluate import evaluate
from attnbench.examine.gates import gated, swap
from attnbench.report.evidence import decomposition
from attnbench.seeding import stream
from attnbench.store.runs import RunRecord

LEARNT = {"epochs": 4, "train_limit": 200, "lr": 0.02, "test_limit": 257}  # the last batch is one image of 256 + 1
FORMULAS = {
    "SE": lambda se, x: se.fc(x.mean((2, 3))).sigmoid()[:, :, None, None],
    "CBAM": lambda cbam, x: cbam.ca(x) * cbam.sa(x, cbam.ca(x)),
    "Nested": lambda nested, x: nested.gate(x),
}
"""A class -> its gates, in terms of parts whose equations have tests of their own."""
SITES = 9  # the blocks of a resnet20
NESTED = f"{__name__}:Nested"
GATES = pytest.mark.parametrize("gate", ["shuffled", "mean"])
LOOKING = pytest.mark.parametrize("attention", ["se", "cbam", "random", NESTED])
HAVING = [entry.name for entry in ATTENTION if hasattr(build_attention(entry.name, 8), "gate")]


class Nested(nn.Sequential):
    """A gate that asks another gated mechanism."""

    def __init__(self, channels: int) -> None:
        super().__init__(build_attention("se", channels))

    def gate(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3), keepdim=True).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Asking(nn.Module):
    """An SE that is asked for its gate, and never called itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.se = build_attention("se", channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.se.gate(x)


class Adding(Asking):
    """More than x * gate(x)."""

    def gate(self, x: Tensor) -> Tensor:
        return self.se.gate(x)

    def forward(self, x: Tensor) -> Tensor:
        return x + x * self.gate(x)


class Flat(Adding):
    """A gate B C, which does not multiply B C H W."""

    def gate(self, x: Tensor) -> Tensor:
        return self.se.gate(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)[:, :, None, None]


class Layer(nn.Sequential):
    """A layer that happens to be called gate: there is no gate(x) to be swapped."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)


@pytest.fixture
def runtime(data_dir: Path) -> Runtime:
    return Runtime(device="cpu", data_dir=str(data_dir), store="runs", tracker="none")


@pytest.fixture(scope="module")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunRecord]:
    """Train a run on the digits, once for all tests of this file."""
    where = Runtime(device="cpu", data_dir=str(data_dir), store=str(tmp_path_factory.mktemp("trained")), tracker="none")
    return lambda attention, **fields: attnbench.run(RunSpec(**{**TINY, "attention": attention, **fields}), where)


@pytest.fixture
def run(trained: Callable[..., RunRecord]) -> Callable[..., RunRecord]:
    """A trained run in the test's own store, `runs/`."""

    def copied(attention: str, **fields: object) -> RunRecord:
        found = trained(attention, **fields)
        return Store("runs").find(shutil.copytree(found.folder, f"runs/{found.id}"))

    return copied


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data_dir: Path) -> Callable[..., tuple]:
    """Exit code, stdout and stderr of a verb; anything but SystemExit is a traceback."""
    monkeypatch.setattr(sys, "path", sys.path.copy())  # main puts the working folder there
    monkeypatch.setenv("ATTNBENCH_DATA_DIR", str(data_dir))

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(map(str, arguments)))
        return int(ended.value.code or 0), *capsys.readouterr()

    return call


def refused(answer: tuple[int, str, str], *parts: str) -> None:
    """One line on stderr, with these words in it, and exit code 2."""
    code, out, err = answer
    assert (code, out, err.count("\n"), err[:11]) == (2, "", 1, "attnbench: "), err
    assert all(part in err for part in parts), err


def arrays(record: RunRecord, name: str) -> dict[str, np.ndarray]:
    return dict(np.load(Path(record.folder) / name))


def contents(record: RunRecord) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(record.folder).iterdir()}


def raw(split: Split) -> Tensor:
    return torch.from_numpy(split.source.images[split.indices]).permute(0, 3, 1, 2)


class ByHand:
    """A stored run's network, with plain forward hooks at its sites."""

    def __init__(self, record: RunRecord) -> None:
        name = {"cbam": "CBAM", NESTED: "Nested"}.get(record.spec["attention"], "SE")
        self.model, self.formula = attnbench.load(record), FORMULAS[name]
        self.sites = [module for module in self.model.modules() if type(module).__name__ == name]

    def hooked(self, images: Tensor, hooks: list[Callable[..., Tensor | None]]) -> Tensor:
        handles = [site.register_forward_hook(hook) for site, hook in zip(self.sites, hooks, strict=True)]
        logits = self.model(images)
        for handle in handles:
            handle.remove()
        return logits

    def own(self, images: Tensor) -> list[Tensor]:
        """Each site's gates while the network runs as trained."""
        seen: list[Tensor] = []
        self.hooked(images, [lambda module, x, _: seen.append(self.formula(module, x[0]))] * SITES)
        return seen

    def given(self, images: Tensor, gates: list[Tensor]) -> Tensor:
        return self.hooked(images, [lambda _, x, _out, gate=gate: x[0] * gate for gate in gates])

    def mean(self, train: Tensor, test: Tensor) -> Tensor:
        return self.given(test, [gates.double().mean(0, keepdim=True).float() for gates in self.own(train)])

    def shuffled(self, _train: Tensor, test: Tensor) -> Tensor:
        order = torch.from_numpy(np.random.default_rng(stream(0, "gate")).permutation(len(test)))
        found = [self.given(test[at], [gates.roll(1, 0) for gates in self.own(test[at])]) for at in order.split(32)]
        return torch.cat(found)[order.argsort()]


@GATES
@LOOKING
def test_other_gates_give_what_hooks_give_in_the_order_of_the_test_images(run, runtime, attention, gate):
    record = run(attention, **LEARNT)
    found, stored = evaluate(record.id, gate, runtime), arrays(record, f"gate-{gate}.npz")
    own, splits = arrays(record, "predictions.npz"), load_splits(RunSpec.of(record.spec), runtime.data_dir)
    assert stored["labels"].tolist() == own["labels"].tolist() == splits.test.labels.tolist()
    assert found["accuracy"] == 100 * int((stored["predicted"] == stored["labels"]).sum()) / 257
    assert (found["gate"], found["images"], found["sites"]) == (gate, 257, SITES)
    assert np.abs(stored["logits"] - own["logits"]).max() > 0.01, "these are its own gates"
    with torch.no_grad():
        logits = getattr(ByHand(record), gate)(raw(splits.train), raw(splits.test))
    np.testing.assert_allclose(stored["logits"], logits, rtol=2e-3, atol=2e-3)  # kept in half precision
    sure = clear(logits)
    assert stored["predicted"][sure].tolist() == logits.argmax(1).numpy()[sure].tolist()
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(own["labels"]))
    assert found["loss"] == pytest.approx(float(loss), abs=1e-4)


@GATES
@pytest.mark.parametrize("attention", ["constant", "static"])
def test_a_gate_that_does_not_look_at_the_image_stays_as_it_is(run, runtime, attention, gate):
    record = run(attention, **LEARNT)
    found = evaluate(record.id, gate, runtime)
    stored, own = arrays(record, f"gate-{gate}.npz"), arrays(record, "predictions.npz")
    sure = clear(own["logits"])
    assert (stored["predicted"][sure].tolist(), found["sites"]) == (own["predicted"][sure].tolist(), SITES)
    assert found["loss"] == pytest.approx(record.test["loss"], abs=1e-5)


def test_the_one_image_of_a_last_batch_keeps_its_gates(run, runtime):
    record = run("se", **LEARNT)
    evaluate(record.id, "shuffled", runtime)
    ours, own = (arrays(record, name)["logits"] for name in ("gate-shuffled.npz", "predictions.npz"))
    close = np.isclose(ours, own, rtol=2e-3, atol=2e-3).all(1)
    assert (close[np.random.default_rng(stream(0, "gate")).permutation(257)[256]], close.sum() < 5) == (True, True)


@LOOKING
def test_a_runs_own_gates_put_back_give_its_own_answers(run, runtime, attention):
    record = run(attention, **LEARNT)
    model, test = attnbench.load(record), load_splits(RunSpec.of(record.spec), runtime.data_dir).test
    swap(gated(model, record), [lambda gates: gates] * SITES)
    own = arrays(record, "predictions.npz")
    sure = clear(own["logits"])
    assert model(raw(test)).argmax(1).numpy()[sure].tolist() == own["predicted"][sure].tolist()


@pytest.mark.parametrize("attention", [*HAVING, 'cbam(variant="official")', "random", NESTED])
def test_every_mechanism_with_a_gate_multiplies_by_it_at_every_site(attention):
    model = network(TINY["backbone"], attention, 10, 0, 1, 8).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # many start at a value that hides what they do
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)  # with 0.3 some overflow
    images = torch.randn(4, 1, 8, 8, generator=generator).double()
    own, sites = model(images), gated(model, RunRecord(id="", spec={}, status="done"))
    assert own.isfinite().all()
    swap(sites, [lambda gates: gates] * len(sites))
    torch.testing.assert_close(model(images), own, rtol=1e-9, atol=1e-9)
    swap(sites, [lambda gates: gates + 0.5] * len(sites))
    assert not torch.allclose(model(images), own, rtol=1e-2), "nothing was swapped"


@GATES
def test_what_the_run_left_is_untouched_and_the_reading_is_in_the_journal(run, runtime, gate):
    record = run("cbam")
    before, lines = contents(record), Store("runs").journal(record.id)
    evaluate(record.id, gate, runtime)
    after, (*old, read) = contents(record), Store("runs").journal(record.id)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"journal.jsonl", f"gate-{gate}.json", f"gate-{gate}.npz"}
    assert (before.keys() <= after.keys(), old) == (True, lines)
    assert (read["event"], read["reading"], read["images"]) == ("test", f"gate {gate}", 50)


@GATES
def test_a_second_call_reads_no_image_and_says_the_same(run, runtime, said, monkeypatch, gate):
    record = run("se")
    first, printed = evaluate(record.id, gate, runtime), said("evaluate", record.id, "--gate", gate)
    times = {file.name: file.stat().st_mtime_ns for file in Path(record.folder).iterdir()}
    for name in ("load", "splits_of", "predict"):
        monkeypatch.setattr(f"attnbench.examine.evaluate.{name}", lambda *_: pytest.fail("evaluated again"))
    assert evaluate(record.id, gate, runtime) == first == Store("runs").find(record.id).gates[gate]
    assert said("evaluate", record.id, "--gate", gate) == printed
    assert times == {file.name: file.stat().st_mtime_ns for file in Path(record.folder).iterdir()}
    line = f"test accuracy {first['accuracy']:.2f} % with {gate} gates at 9 sites, {record.accuracy:.2f} % with its own"
    assert printed == (0, f"{line} ({first['accuracy'] - record.accuracy:+.2f}, 50 images)\n", "")


@pytest.mark.parametrize("asked", ["{}", "{:.5}", "runs/{}", "runs/{}/", "../runs/{}", "."])
def test_a_run_is_named_by_its_id_its_beginning_or_its_folder(run, said, asked):
    record = run("se")
    folder = Path(record.folder).resolve()
    os.chdir({".": folder, "../runs/{}": "runs"}.get(asked, "."))
    code, out, err = said("evaluate", asked.format(record.id), "--gate", "mean")
    assert (code, out[:14], err) == (0, "test accuracy ", "")
    assert (folder / "gate-mean.json").is_file()


def test_training_a_run_again_forgets_the_gates_of_the_first_training(run, runtime):
    record = run("se")
    evaluate(record.id, "mean", runtime)
    (Path(record.folder) / "record.json").unlink()  # as the message about a damaged record advises
    assert attnbench.run(RunSpec.of(record.spec), runtime).gates == {}


def test_the_report_has_the_mean_change_and_students_interval_over_the_runs(run, runtime, said):
    runs = [run("se", seed=seed, **LEARNT) for seed in range(3)]
    changes = [
        [evaluate(each.id, gate, runtime)["accuracy"] - each.accuracy for each in asked]
        for gate, asked in (("shuffled", runs), ("mean", runs[:2]))  # a run that was not asked does not count
    ]
    steps = decomposition(compare(Store("runs").records()).cells[0])
    assert [(step.arm, step.part) for step in steps] == [("se", "gate shuffled"), ("se", "gate mean")]
    for step, values in zip(steps, changes, strict=True):
        centre, n = statistics.fmean(values), len(values)
        half = oracle.t.ppf(0.975, n - 1) * statistics.stdev(values) / n**0.5
        assert tuple(vars(step.estimate).values()) == pytest.approx((centre, centre - half, centre + half, n))
    assert said("report", "runs", "--out", "out")[0] == 0
    assert all(words in Path("out/index.html").read_text() for words in ("gate shuffled", "gate mean"))


@GATES
@pytest.mark.parametrize("attention", ["none", f"{__name__}:Layer"])
def test_a_run_without_gates_is_refused_in_one_line(run, trained, said, attention, gate):
    record = run(attention)
    refused(said("evaluate", record.id, "--gate", gate), record.id, attention, "no gate(x)")
    assert contents(record) == contents(trained(attention))


@GATES
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Asking", "its SE has a gate(x), but is not called itself"),
        ("Adding", "is not x * gate(x), with which logits differ by"),
        ("Flat", "as x * gate(x): RuntimeError: The size of tensor a"),
    ],
)
def test_gates_that_others_cannot_take_the_place_of_are_refused_in_one_line(run, trained, said, name, why, gate):
    attention = f"{__name__}:{name}"
    record = run(attention)
    refused(said("evaluate", record.id, "--gate", gate), record.id, attention, why)
    assert contents(record) == contents(trained(attention))


@pytest.mark.parametrize("asked", ["nope", "runs/nope", ""])
def test_a_run_that_is_not_there_is_refused_in_one_line(run, said, asked):
    run("se")
    refused(said("evaluate", asked, "--gate", "mean"), "no run begins with", "runs/")


def test_images_that_changed_are_refused_in_one_line(said):
    for number, pixels in enumerate(np.random.default_rng(0).integers(256, size=(24, 8, 8, 3), dtype=np.uint8)):
        file = Path(f"data/mine/{'ab'[number % 2]}/{number}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    given = {"dataset": 'imagefolder(path="mine")', "image_size": 8, "epochs": 1, "attention": "se"}
    record = attnbench.run(RunSpec(**{**TINY, **given}), Runtime(device="cpu", data_dir="data", tracker="none"))
    Image.new("RGB", (8, 8), "red").save(file)
    refused(said("evaluate", record.id, "--gate", "mean", "--data-dir", "data"), record.id, "other images", "data/")
    assert not list(Path(record.folder).glob("gate-*"))


@GATES
@pytest.mark.parametrize("text", ['{"gate": "mean", "accur', "[]"], ids=["truncated", "a list"])
@pytest.mark.parametrize("file", ["gate-mean.json", "weights.safetensors"])
def test_a_damaged_file_is_one_clear_line_for_every_verb_that_reads_it(run, said, file, text, gate):
    record = run("se")
    (Path(record.folder) / file).write_text(text)
    for call in (["evaluate", record.id, "--gate", gate], ["report", "runs"])[: 2 if "gate" in file else 1]:
        refused(said(*call), file, "cannot be read")
