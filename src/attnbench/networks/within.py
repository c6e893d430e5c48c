"""What a backbone holds by itself: the shape of the maps at every module, and attention that it was built with."""

import contextlib
import copy
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.catalogue import foreign
from attnbench.catalogue.cards import Backbone
from attnbench.catalogue.registry import Choice
from attnbench.errors import AttnbenchError, BadReference
from attnbench.seeding import seeded

Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""Path of a module -> the shapes of its first input and of its output, where both are tensors; "" is the network."""

_CALLED = re.compile(
    r"Attention|Attn|SqueezeExcit|^E?SE(Module|Layer|Block|Unit|Gate)?$|EcaModule|Cbam|CBAM|GatherExcite|NonLocal"
    r"|GlobalContext$|LambdaLayer|FocalModulation"
)
"""Names of classes of attention, as libraries have them."""

_TELLING = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, nn.Linear, nn.LayerNorm)
"""Layers that tell by their kind which dimension of maps holds the channels."""

_GATES = re.compile(
    r"SqueezeExcit|^(E|Effective)?SE(Module|Layer|Block|Unit|Gate)?$|EcaModule|GatherExcite|GlobalContext$"
)
"""Those of classes whose maps are the input's times a gate of channels."""


def observed(model: nn.Module, image: tuple[int, int, int]) -> Shapes:
    """The shapes at every module, by one forward pass that computes nothing; by a real one where that cannot be.

    Args:
        image: (channels, height, width) of the input.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    ghosts = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    try:
        return watched(model, lambda: torch.func.functional_call(model, ghosts, (_blank(image, "meta"),)))
    except Exception:
        with probing(model, image) as blank:
            return watched(model, lambda: model(blank))


@contextlib.contextmanager
def probing(model: nn.Module, image: tuple[int, int, int]) -> Iterator[Tensor]:
    """A blank image where a network's tensors are; what the network draws for it moves no stream of random numbers."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    with seeded(0, "probe"):
        yield _blank(image, device)


def accepted(backbone: Choice[Backbone], model: nn.Module, image: tuple[int, int, int], classes: int) -> Shapes:
    """The same of a fresh backbone.

    Raises:
        BadReference: it cannot take such images, or gives something else than logits.
        ForeignError: it is somebody's own, and raised something.
    """
    size = image[1]
    try:
        with foreign.running(f"{backbone} on images of {size} px"):
            shapes = observed(model, image)
    except AttnbenchError as problem:
        if not backbone.entry.builtin:
            raise
        fits = backbone.card.image_size
        what = " ".join(str(problem.__cause__).split())[:160]
        raise BadReference(f"{backbone} cannot take images of {size} px, but those of {fits} px: {what}") from problem
    logits = shapes.get("", ((), ()))[1]
    if logits != (1, classes):
        shape = f"the shape {'x'.join(map(str, logits))}" if logits else "no tensor"
        raise BadReference(f"{backbone} gives {shape} for one image, not 1x{classes} logits")
    return shapes


def attention_within(model: nn.Module, shapes: Shapes) -> dict[str, str]:
    """Path -> class of each module of attention in a plain backbone: by its name, or by what it does.

    What keeps the shape of its maps and has something inside that gives one value a channel (B C 1 1) gates channels,
    whatever it is called; the innermost such module counts.
    """
    pooled = [path for path, (_, given) in shapes.items() if len(given) == 4 and given[2:] == (1, 1)]
    found = [
        path
        for path, module in model.named_modules()
        if path and (_CALLED.search(type(module).__name__) or (_keeps_maps(shapes.get(path)) and _below(path, pooled)))
    ]
    return {path: type(model.get_submodule(path)).__name__ for path in found if not _below(path, found)}


def gates_within(model: nn.Module, shapes: Shapes) -> list[str]:
    """The paths of squeeze-excitation and other gates of channels that a plain backbone was built with.

    They are known by their names, or by what they do; each gives maps of the shape that it takes, of one pixel too.
    """
    return [
        path
        for path, kind in attention_within(model, shapes).items()
        if (_GATES.search(kind) or not _CALLED.search(kind)) and shapes[path][0] == shapes[path][1] != ()
    ]


def _keeps_maps(shape: tuple[tuple[int, ...], tuple[int, ...]] | None) -> bool:
    """Whether a module gives maps of more than one pixel the shape that they had."""
    return shape is not None and shape[0] == shape[1] and len(shape[0]) == 4 and shape[0][2] * shape[0][3] > 1


def channels_last(model: nn.Module, shapes: Shapes, path: str, shape: tuple[int, ...]) -> bool:
    """Whether maps of this shape, at a module, are B H W C: linear layers or layer norms see such, no convolution does.

    The layers inside the module tell, or else those around it, the nearest first; where none does, they are B C H W.
    """
    above = path.split(".")
    for depth in range(len(above), -1, -1):
        root = ".".join(above[:depth])
        inner = {f"{root}.{name}".strip("."): part for name, part in model.get_submodule(root).named_modules()}
        telling = [at for at, part in inner.items() if isinstance(part, _TELLING) and shape in shapes.get(at, ())]
        if telling:
            return not any(_channels_first(inner[at], shapes[at][0][1]) for at in telling)
    return False


def _channels_first(layer: nn.Module, channels: int) -> bool:
    """Whether a layer takes maps B C H W, as some do that are layer norms or linear layers by their class."""
    if not isinstance(layer, nn.Linear | nn.LayerNorm):
        return True
    weight = next(layer.parameters(), torch.empty(0))
    maps = weight.new_zeros(1, channels, 1, channels + weight.shape[-1] + 1)  # its last dimension is nobody's
    try:
        copy.deepcopy(layer).eval()(maps)
    except RuntimeError:
        return False
    return True


def inside(path: str, others: Iterable[str]) -> bool:
    """Whether a module, or a tensor, lies in one of these modules."""
    return path.startswith(tuple(f"{other}." for other in others))


def _below(path: str, others: list[str]) -> bool:
    return any(inside(other, (path,)) for other in others)


def _blank(image: tuple[int, int, int], device: Any) -> Tensor:
    return torch.zeros(1, *image, device=device)


def watched(model: nn.Module, forward: Callable[[], Any]) -> Shapes:
    """The shapes at every module, while `forward` runs the network in evaluation mode."""
    shapes: Shapes = {}

    def watch(path: str) -> Any:
        def note(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                shapes[path] = (tuple(inputs[0].shape), tuple(output.shape))

        return note

    hooks = [module.register_forward_hook(watch(path)) for path, module in model.named_modules()]
    training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()
            forward()
    finally:
        for module, mode in training.items():
            module.training = mode
        for hook in hooks:
            hook.remove()
    return shapes
