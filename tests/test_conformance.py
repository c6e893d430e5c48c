"""What every registered mechanism promises, and that each promise catches the module that breaks it."""

import copy
import importlib.util

import pytest
import torch

from attnbench.catalogue.registry import ATTENTION, Entry
from attnbench.examine.conformance import CHANNELS, PROMISES, Subject, broken, outcome
from attnbench.seeding import seeded

SHAPE = "keeps the shape at every width and map, in training too"
WIDE = "is built and runs at 256 and 2,048 channels"
COUNT = "has the parameters that its card says, all of them registered"
ONCE = "holds each of its layers and parameters under one name"
LEARNS = "gives every parameter a gradient, but those that its card calls inert"
RANGE = "gates within the range on its card, and reaches both halves of it"
FACTOR = "multiplies its input by gate(x), where it has one"
ORDER = "gates a channel alike however its positions are ordered, where its gate is one value a channel"
PLACES = "treats a pattern alike wherever it lies, unless its card says why not"
ALONE = "computes an image's output without its neighbours in the batch"
INPUT = "leaves its input as it was"
FOLLOWS = "follows device, dtype and memory format"
SAVED = "is saved, loaded and copied"
EXPORTED = "is exported by torch.export"
BATCH = "is exported and traced for any number of images"
SIZE = "is exported for maps of any size, unless it is built for one"
HALF = "is finite in float16, also where a sum over the map is not"
ONNX = "computes the same in ONNX Runtime, for any number of images"
REPEATS = "repeats itself to the bit in deterministic mode"
GRADIENT = "has the gradient of what it computes"

FAULTS = {
    "FixedWidth": (SHAPE, "8"),
    "LosesAPixel": (SHAPE, "at 8 channels on 7x5 gives the shape"),
    "RefusesASinglePixel": (SHAPE, "too small"),
    "DividesByTheSpread": (SHAPE, "not finite"),
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
    "OneLayerTwice": (ONCE, "mix and again are one"),
    "FirstRowAlone": (ORDER, "in another order"),
    "PositionsForChannels": (PLACES, "in another place"),
    "SaysThatPlacesMatter": (PLACES, "its card says that places matter"),
    "SoftmaxOverTheBatch": (ALONE, "depends on its neighbours"),
    "InPlace": (INPUT, "in place"),
    "MaskOnTheCpu": (FOLLOWS, "meta"),
    "OneDtype": (FOLLOWS, "float32"),
    "ReadsMemoryOrder": (FOLLOWS, "channels_last"),
    "LosesItsLayout": (FOLLOWS, "not channels_last"),
    "FiveAxes": (FOLLOWS, "rank 4 tensor"),
    "ForgetsItsState": (SAVED, "saved and loaded weights"),
    "SharesItsWeights": (SAVED, "shares its parameters"),
    "BranchesOnData": (EXPORTED, ""),
    "FixesTheBatch": (BATCH, ""),
    "FixesTheSize": (SIZE, ""),
    "SumsInHalf": (HALF, "not finite"),
    "UnknownToOnnx": (ONNX, ""),
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


QUICK = ("se", "cbam", "nl", "condconv", "external")
"""Those of which the ONNX export, which takes a second, is not left to the slow tests."""


def _trial(name: str, promise: str) -> object:
    marks = [pytest.mark.slow] if promise == ONNX and name not in QUICK else []
    return pytest.param(name, promise, marks=marks)


@pytest.mark.parametrize(("name", "promise"), [_trial(name, promise) for name in EVERY for promise in PROMISES])
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
@pytest.mark.parametrize("name", ["Sound", "GateIsALayer"])
def test_a_sound_module_of_somebody_elses_passes(name, promise):
    assert broken(f"broken_modules:{name}", promise) == []


SHARP = ["OneLayerTwice", "FirstRowAlone", "PositionsForChannels", "SumsInHalf", "FixesTheBatch", "FixesTheSize"]


@pytest.mark.parametrize("fault", SHARP)
def test_a_fault_breaks_no_promise_but_its_own(fault):
    tried = [promise for promise in PROMISES if promise != ONNX]  # a second each
    assert [promise for promise in tried if broken(f"broken_modules:{fault}", promise)] == [FAULTS[fault][0]]


@pytest.mark.parametrize(
    ("name", "promise", "needle"),
    [
        ("none", RANGE, "no range"),
        ("nl", FACTOR, "no method gate"),
        ("broken_modules:GateIsALayer", FACTOR, "no method gate"),
        ("cbam", ORDER, "not one value a channel"),
        ("fca", ORDER, "places matter to it: each channel"),
        ("mlca", PLACES, "places matter to it: averages"),
        ("random(of='fca')", PLACES, "places matter to it: each channel"),
        ("bot", SIZE, "built for maps of one size"),
    ],
)
def test_what_does_not_apply_says_why(name, promise, needle):
    found = outcome(name, promise)
    assert (found.word, needle in found.reason) == ("n/a", True)


def test_a_promise_about_what_is_not_installed_does_not_apply(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    assert outcome("se", ONNX).reason == "not installed: onnxruntime"


NAMES = pytest.mark.parametrize("name", [entry.name for entry in ATTENTION if entry.builtin])


@NAMES
def test_is_differentiated_twice_and_transformed_by_torch_func(name):
    module, x = Subject(name).redrawn(8, (4, 3)).double().eval(), torch.randn(2, 8, 4, 3, dtype=torch.float64)
    inputs = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(module(inputs).square().sum(), inputs, create_graph=True)
    if slope.requires_grad:
        slope.square().sum().backward()
    torch.testing.assert_close(torch.func.vmap(lambda one: module(one[None])[0])(x), module(x))
    torch.testing.assert_close(torch.func.grad(lambda x: module(x).square().sum())(x), slope)
    ahead = torch.func.jvp(lambda x: module(x).square().sum(), (x,), (torch.ones_like(x),))[1]
    torch.testing.assert_close(ahead, slope.sum())


@pytest.mark.slow
@NAMES
def test_compiles_as_one_graph_at_two_sizes(name):
    """Forward and backward, as captured by torch.compile without a break; the graph is run by torch itself."""
    module = Subject(name).redrawn().double()
    compiled = torch.compile(copy.deepcopy(module), backend="aot_eager", fullgraph=True)
    for batch, side in ((2, 8), (3, 12)):
        one, two = (torch.randn(batch, CHANNELS, side, side, dtype=torch.float64).requires_grad_() for _ in range(2))
        two.data.copy_(one.data)
        with seeded(0, "plain"):
            plain = module(one)
        with seeded(0, "plain"):
            graph = compiled(two)
        torch.testing.assert_close(graph, plain, rtol=1e-9, atol=1e-9)
        plain.square().mean().backward()
        graph.square().mean().backward()
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-9, atol=1e-9)
