"""Gates of channels that a backbone was built with, exchanged for a mechanism or taken away."""

from collections.abc import Mapping, Sequence

from torch import nn

from attnbench.catalogue.cards import Backbone, Paper
from attnbench.catalogue.places import Place, built_in_sentence, sites
from attnbench.catalogue.registry import Choice
from attnbench.errors import BadReference
from attnbench.networks.graft import Init, chosen, insert, map_at, put, stage_at
from attnbench.networks.grafted import Grafted
from attnbench.networks.trial import Shape, Trial
from attnbench.networks.within import Shapes, attention_within, gates_within, observed


def exchange(
    model: nn.Module,
    backbone: Choice[Backbone],
    attention: Choice[Paper],
    where: Place,
    seen: Shapes,
    seed: int = 0,
    init: Init = "own",
    trial: Trial | None = None,
) -> list[str]:
    """Put a mechanism in the place of built-in gates, or nothing for `none`; returns the paths.

    Args:
        where: which stages, and every how many-th gate of a stage.
        seen: the shapes at every module, for images of the size that the network is to get.

    Raises:
        BadReference: there are none, or none in these stages.
    """
    paths = gates_within(model, seen)
    if not paths:
        held = built_in_sentence(str(backbone), attention_within(model, seen))
        what = f"{backbone} was built without squeeze-excitation"
        raise BadReference(f"site 'se': {what}" + (f"; {held}" if held else ""))
    if where.stages is not None or where.every > 1:
        paths = chosen(_stages(model, backbone, paths, seen), where)
    replace(model, attention, {path: map_at(model, seen, path, False) for path in paths}, seed, init, trial)
    return paths


def replace(
    model: nn.Module,
    attention: Choice[Paper],
    shapes: Mapping[str, Shape],
    seed: int = 0,
    init: Init = "own",
    trial: Trial | None = None,
) -> None:
    """Put a mechanism in the place of modules that keep the shape of their maps, or nothing for `none`."""
    if attention.entry.name != "none":
        insert(model, attention, shapes, seed, "instead", init, trial)
        return
    for path in shapes:
        put(model, path, Grafted(nn.Identity(), replaced=model.get_submodule(path)))


def _stages(model: nn.Module, backbone: Choice[Backbone], paths: Sequence[str], seen: Shapes) -> dict[str, int]:
    """Path -> its stage: that of the card's site `stage`, or else, counted from 1, of maps that have one size.

    Sizes are those at the images that the backbone was designed for: in small ones several stages have one pixel.
    """
    if pattern := sites(backbone).get("stage"):
        found = {path: stage_at(path, pattern) for path in paths}
        if all(found.values()):
            return found
    if backbone.entry.builtin:
        side = backbone.card.image_size
        seen = observed(model, (seen[""][0][1], side, side))
    sizes = {path: seen[path][0][2:] for path in paths}
    numbers = {size: number for number, size in enumerate(dict.fromkeys(sizes.values()), start=1)}
    return {path: numbers[sizes[path]] for path in paths}
