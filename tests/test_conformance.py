"""What every registered mechanism promises, and that each promise catches the module that breaks it."""

import copy

import pytest
import torch

from attnbench.catalogue.registry import ATTENTION, Entry
from attnbench.examine.conformance import CHANNELS, PROMISES, Subject, broken

SHAPE = "keeps the shape at every width and map, in training too"
WIDE = "is built and runs at 256 and 2,048 channels"
COUNT = "has the parameters that its card says, all of them registered"
LEARNS = "gives every parameter a gradient, but those that its card calls inert"
RANGE = "gates within the range on its card, and reaches both halves of it"
FACTOR = "multiplies its input by gate(x), where it has one"
ALONE = "computes an image's output without its neighbours in the batch"
INPUT = "leaves its input as it was"
FOLLOWS = "follows device, dtype and memory format"
SAVED = "is saved, loaded and copied"
EXPORTED = "is exported by torch.export"
REPEATS = "repeats itself to the bit in deterministic mode"
GRADIENT = "has the gradient of what it computes"

FAULTS = {
    "FixedWidth": (SHAPE, "8"),
    "LosesAPixel": (SHAPE, "at 8 channels on 7x5 gives the shape"),
    "RefusesASinglePixel": (SHAPE, "too small"),
    "DividesByTheSpread": (SHAPE, "not finite"),
    "NeedsAnOption": (SHAPE, "heads"),
    "TooWideForItself": (WIDE, "must be at most 256"),
    "LayersInAList": (COUNT, "plain lists or dictionaries"),
    "NoParameters": (COUNT, "has no parameters"),
    "OtherCount": (COUNT, "its card's formula says 64"),
    "NeverCalled": (LEARNS, "never uses norm.bias, norm.weight"),
    "DataOfAWeight": (LEARNS, "never uses mix.weight"),
    "SaysItRests": (LEARNS, "calls mix.bias inert"),
    "NamesNoParameter": (LEARNS, "names beta"),
    "NoSigmoid": (RANGE, "leave the range"),
    "ReluBeforeSigmoid": (RANGE, "never leave one half"),
    "GateIsNotTheFactor": (FACTOR, "not its input times gate(x)"),
    "SoftmaxOverTheBatch": (ALONE, "depends on its neighbours"),
    "InPlace": (INPUT, "in place"),
    "MaskOnTheCpu": (FOLLOWS, "meta"),
    "OneDtype": (FOLLOWS, "float32"),
    "ReadsMemoryOrder": (FOLLOWS, "channels_last"),
    "FiveAxes": (FOLLOWS, "rank 4 tensor"),
    "ForgetsItsState": (SAVED, "saved and loaded weights"),
    "SharesItsWeights": (SAVED, "shares its parameters"),
    "BranchesOnData": (EXPORTED, ""),
    "OtherEachTime": (REPEATS, "two equal steps"),
    "StraightThrough": (GRADIENT, "finite differences"),
}
"""A broken module -> the promise that it breaks, and a word of what is said about it."""


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test's modules register is forgotten after it."""
    monkeypatch.setattr(ATTENTION, "_added", {})


def spellings(entry: Entry) -> list[str]:
    """A mechanism at its defaults, and with each choice that its options offer."""
    others = [
        f"{entry.name}({option}={value!r})"
        for option, values in entry.choices.items()
        for value in values
        if value != entry.defaults[option]
    ]
    return [entry.name, *others]


EVERY = [spelling for entry in ATTENTION if entry.builtin for spelling in spellings(entry)]


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("name", EVERY)
def test_keeps_its_promise(name, promise):
    assert broken(name, promise) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_module_is_caught_and_told_why(fault):
    promise, needle = FAULTS[fault]
    assert promise in PROMISES
    found = broken(f"broken_modules:{fault}", promise)
    assert found, f"{fault} keeps the promise that it {promise}"
    assert needle in " ".join(found)


def test_every_promise_has_a_module_that_breaks_it():
    assert {promise for promise, _ in FAULTS.values()} == set(PROMISES)


@pytest.mark.parametrize("promise", PROMISES)
def test_a_sound_module_of_somebody_elses_passes(promise):
    assert broken("broken_modules:Sound", promise) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["se", "eca", "cbam", "coord", "gct", "simam", "fca", "triplet", "nl", "sk", "bot", "cot"]
)
def test_compiles_as_one_graph(name):
    """Forward and backward, as captured by torch.compile without a break; the graph is run by torch itself."""
    module, x = Subject(name).redrawn().double(), torch.randn(2, CHANNELS, 8, 8, dtype=torch.float64)
    compiled = torch.compile(copy.deepcopy(module), backend="aot_eager", fullgraph=True)
    one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
    plain, graph = module(one), compiled(two)
    torch.testing.assert_close(graph, plain, rtol=1e-9, atol=1e-9)
    plain.square().mean().backward()
    graph.square().mean().backward()
    torch.testing.assert_close(two.grad, one.grad, rtol=1e-9, atol=1e-9)
