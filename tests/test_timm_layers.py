"""timm's own layers under `attnbench check`: what passes, and what is really wrong with the others."""

import functools
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn

from attnbench import build_attention
from attnbench.errors import ForeignError
from attnbench.examine.conformance import broken, outcomes

timm = pytest.importorskip("timm.layers")

WIDTHS = ("channels", "in_channels", "in_chs", "in_features", "dim", "num_channels", "num_features")
"""What a first argument is called that is the number of channels."""
SHAPE = "keeps the shape at every width and map, in training too"
WIDE = "is built and runs at 256 and 2,048 channels"
COUNT = "has the parameters that its card says, all of them registered"
LEARNS = "gives every parameter a gradient, but those that its card calls inert"
PLACES = "treats a pattern alike wherever it lies, unless its card says why not"
FOLLOWS = "follows device, dtype and memory format"
GRADIENT = "has the gradient of what it computes"
SIZE = "is exported for maps of any size, unless it is built for one"
SIDES = (
    SHAPE, WIDE, LEARNS, PLACES, FOLLOWS, GRADIENT, SIZE,
    "is saved, loaded and copied", "leaves its input as it was", "is exported by torch.export",
    "computes an image's output without its neighbours in the batch", "repeats itself to the bit in deterministic mode",
    "is exported and traced for any number of images", "computes the same in ONNX Runtime, for any number of images",
)  # fmt: skip
"""All promises that are tried on maps of several sizes."""

MULTIPLES = {SHAPE: "", GRADIENT: ""}
"""It takes widths that are multiples of its groups or heads (32) alone, and is tried at 8 and 24 channels too."""
ROTARY = {COUNT: "has no parameters", PLACES: "in another place", SIZE: ""}
"""Turns by an angle for each place and each size of map, and has nothing to learn."""
WRONG = {
    "Attention2d": MULTIPLES,
    "EvoNorm2dS0": MULTIPLES,
    "EvoNorm2dS0a": MULTIPLES,
    "EvoNorm2dS1": MULTIPLES,
    "EvoNorm2dS1a": MULTIPLES,
    "EvoNorm2dS2": MULTIPLES,
    "EvoNorm2dS2a": MULTIPLES,
    "GroupNorm": MULTIPLES,
    "GroupNormAct": MULTIPLES,
    # A softmax over all places takes away what is added to all of them.
    "GlobalContext": {LEARNS: "never uses conv_attn.bias"},
    # The same of the keys; and batch norm takes away the constants that the values and the last convolution add.
    "NonLocalAttn": {LEARNS: "never uses g.bias, p.bias, z.bias"},
    # Made for maps whose sides are multiples of its blocks, 8 and 7 px; told without a word, by an assertion.
    "HaloAttn": dict.fromkeys(SIDES, ""),
    "BatNonLocalAttn": dict.fromkeys(SIDES, ""),
    # Softmax or sum over a stacked axis: what comes out is laid out as B C H W, and the next convolution turns it.
    "SelectiveKernel": {FOLLOWS: "not channels_last"},
    "SplitAttn": {FOLLOWS: "not channels_last"},
    # A weight of five axes: `model.to(memory_format=channels_last)` raises.
    "LambdaLayer": {FOLLOWS: "rank 4 tensor"},
    # Statistics of parts of the batch: of two images on a map of one pixel each part has a single value.
    "SplitBatchNorm2d": {SHAPE: "more than 1 value per channel"},
    "FrozenBatchNormAct2d": {COUNT: "has no parameters"},
    "RotaryEmbedding": ROTARY,
    "RotaryEmbeddingCat": ROTARY,
    "RotaryEmbeddingDinoV3": ROTARY,
}
"""A layer -> each promise that it may break, with a word of why; a layer that is not here keeps all that apply."""
UNBUILDABLE = {
    "gather_excite:GatherExcite": "multiple values for argument 'act_layer'",  # its own call of its own ConvMlp
    "bottleneck_attn:BottleneckAttn": "A concrete feature size",  # give feat_size=(8, 8)
}


@functools.cache
def layers() -> dict[str, str]:
    """Every layer of timm that a width builds and that keeps maps B C H W: its name -> a reference."""
    found = {}
    for info in pkgutil.iter_modules(timm.__path__):
        module = importlib.import_module(f"timm.layers.{info.name}")
        for name, layer in inspect.getmembers(module, inspect.isclass):
            first = next(iter(inspect.signature(layer).parameters), "") if issubclass(layer, nn.Module) else ""
            if layer.__module__ == module.__name__ and first in WIDTHS and keeps(f"{module.__name__}:{name}"):
                found[name] = f"{module.__name__}:{name}"
    return found


def keeps(reference: str) -> bool:
    x = torch.rand(2, 32, 56, 56)  # a multiple of every block
    try:
        found = build_attention(reference, 32)(x)
    except Exception:
        return False
    return isinstance(found, torch.Tensor) and found.shape == x.shape


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_is_wrong_with_timms_layers_is_found_and_nothing_else():
    found = layers()
    assert len(found) > 50
    assert set(WRONG) <= set(found)
    surprises = []
    for name, reference in found.items():
        wrong = {sentence: " ".join(each.wrong) for sentence, each in outcomes(reference) if each.wrong}
        known = WRONG.get(name, {})
        surprises += [f"{name}: {says}: {why}" for says, why in wrong.items() if known.get(says, "\0") not in why]
        if name in WRONG and not wrong:
            surprises.append(f"{name} keeps everything by now")
    assert surprises == []


@pytest.mark.parametrize("path", UNBUILDABLE)
def test_what_no_width_builds_is_refused_in_one_line_and_not_for_each_promise(path):
    with pytest.raises(ForeignError, match=UNBUILDABLE[path]) as told:
        next(outcomes(f"timm.layers.{path}"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["LayerNorm2dFp32", "FilterResponseNormTlu2d"])
def test_what_computes_a_part_in_float32_has_its_gradient(name):
    assert broken(f"timm.layers:{name}", GRADIENT) == []
