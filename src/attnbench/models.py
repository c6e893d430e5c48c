"""Networks: a plain backbone, and a mechanism grafted at the sites that the backbone's card names."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.errors import BadReference
from attnbench.mechanisms import build_attention
from attnbench.refs import nearest
from attnbench.registry import ATTENTION, BACKBONES, own_site, sites
from attnbench.seeding import seeded


def network(
    backbone: str = "resnet50",
    attention: str = "none",
    classes: int = 1000,
    seed: int = 0,
    in_channels: int = 3,
    image_size: int | None = None,
    site: str | None = None,
    stages: tuple[int, ...] | None = None,
) -> nn.Module:
    """Build a backbone with a mechanism in it; B C H W images in, B `classes` logits out.

    For one `seed` the backbone's initial weights are the same whatever the mechanism is: backbone and each
    grafted module draw from streams of their own.

    Raises:
        BadReference: an unknown name, option or site, or a value the module refuses.
    """
    entry, options = BACKBONES.resolve(backbone)
    with seeded(seed, "backbone"):
        model: nn.Module = entry.construct(options, classes, in_channels)
    mechanism, _ = ATTENTION.resolve(attention)
    if mechanism.name == "none":
        return model
    known = sites(entry, options)
    pattern = site_pattern(known, site or own_site(attention), backbone, "" if known else _likely(model))
    size = image_size or entry.card.image_size
    graft(model, attention, pattern, (in_channels, size, size), seed, stages)
    return model


def graft(
    model: nn.Module,
    attention: str,
    pattern: str,
    image: tuple[int, int, int],
    seed: int = 0,
    stages: tuple[int, ...] | None = None,
) -> dict[str, nn.Module]:
    """Put a mechanism behind every module of `model` whose path matches `pattern`; returns path -> mechanism.

    Args:
        image: (channels, height, width) of the input, for one forward on `meta` that finds each site's shape.
        stages: only sites whose pattern's group `stage` is one of these; None for all.
    """
    paths = _sites(model, pattern, stages)
    grafted = {}
    for path, (channels, height, width) in _shapes(model, paths, image).items():
        with seeded(seed, "attention", path):
            added = build_attention(attention, channels, (height, width))
        model.set_submodule(path, nn.Sequential(model.get_submodule(path), added))
        grafted[path] = added
    return grafted


def site_pattern(known: Mapping[str, str], site: str, backbone: str, hint: str = "") -> str:
    """The pattern of module paths for a site: a key of `known`, or `pattern:REGEX`; `hint` ends the message.

    Raises:
        BadReference: the backbone has no such site.
    """
    if site.startswith("pattern:"):
        return site.removeprefix("pattern:")
    if site in known:
        return known[site]
    if not known:
        raise BadReference(f"site {site!r}: backbone {backbone!r} has no named sites; give pattern:REGEX{hint}")
    names = ", ".join(known)
    raise BadReference(
        f"site {site!r}: backbone {backbone!r} has the sites {names}{nearest(site, known)} (or pattern:REGEX)"
    )


class Predictor(nn.Module):
    """A trained network that takes images as they are: uint8 in 0..255 or float in 0..1, B C H W."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return self.model((images - self.mean) / self.std)


def _sites(model: nn.Module, pattern: str, stages: tuple[int, ...] | None) -> list[str]:
    try:
        regex = re.compile(pattern)
    except re.error as problem:
        raise BadReference(f"site pattern {pattern!r} is no regular expression: {problem}") from None
    found = {path: match for path, _ in model.named_modules() if (match := regex.fullmatch(path))}
    if not found:
        raise BadReference(f"site pattern {pattern!r} matches no module{_likely(model)}")
    if stages is None:
        return list(found)
    numbers = {path: _stage(match) for path, match in found.items()}
    missing = sorted(set(stages) - set(numbers.values()))
    if missing:
        raise BadReference(
            f"stages {missing} are not in this backbone, whose sites are in {sorted(set(numbers.values()))}"
        )
    return [path for path, number in numbers.items() if number in stages]


def _stage(match: re.Match[str]) -> int:
    """The stage's number: what the group `stage` holds, or N of a group `stageN` that matched; 0 for none."""
    groups = {name: text for name, text in match.groupdict().items() if text is not None}
    named = (name.removeprefix("stage") for name in groups if re.fullmatch(r"stage\d+", name))
    return int(groups.get("stage") or next(named, 0))


def _likely(model: nn.Module, limit: int = 12) -> str:
    """Say which kinds of module could be a site: norms and convolutions, numbers along the path left open."""
    kinds: dict[str, None] = {}
    for wanted in (nn.BatchNorm2d, nn.Conv2d):
        for path, module in model.named_modules():
            if isinstance(module, wanted):
                above, dot, last = path.rpartition(".")
                kinds[re.sub(r"\d+", r"\\d+", above.replace(".", r"\.")) + dot.replace(".", r"\.") + last] = None
    shown = [*kinds][:limit] + ["..."] * (len(kinds) > limit)
    return f"; it could be one of {', '.join(shown)}" if shown else ""


def _shapes(model: nn.Module, paths: list[str], image: tuple[int, int, int]) -> dict[str, tuple[int, int, int]]:
    """(channels, height, width) at each path, by one forward that computes nothing."""
    shapes: dict[str, tuple[int, int, int]] = {}

    def watch(path: str) -> Any:
        return lambda _module, _inputs, output: shapes.__setitem__(path, tuple(output.shape[1:]))

    hooks = [model.get_submodule(path).register_forward_hook(watch(path)) for path in paths]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    weights = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    training = model.training
    try:
        with torch.no_grad():
            torch.func.functional_call(model.eval(), weights, (torch.empty(1, *image, device="meta"),))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return {path: shapes[path] for path in paths}
