"""What a run starts from: its network, with weights of a file, of a stored run or of a library, and what is frozen."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from attnbench.errors import BadReference, BadSpec, StoreProblem
from attnbench.files import digest_of, expanded
from attnbench.networks.anywhere import ungraft
from attnbench.networks.checkpoints import Loaded, load_pretrained, plain_names
from attnbench.networks.network import fresh_network
from attnbench.networks.parts import head
from attnbench.networks.weights import weights_digest
from attnbench.networks.within import inside
from attnbench.spec.finetuning import Weights
from attnbench.spec.run import RunSpec
from attnbench.store.runs import Store
from attnbench.training.freezing import settle


def starting_network(
    spec: RunSpec, classes: int, image: tuple[int, int], device: torch.device, store: Store
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a run as its training begins, on the CPU, and what a record says of its initial weights.

    Args:
        image: channels and side in pixels.
        store: where a run is that the weights come from.

    Raises:
        BadSpec: weights that cannot be had or are another network's; nothing that would learn.
    """
    model = fresh_network(spec, classes, *image, device)
    initial = load_initial(spec, model, store)
    settle(spec, model)
    return model, initial


def load_initial(spec: RunSpec, model: nn.Module, store: Store) -> dict[str, Any]:
    """Give the backbone the weights that the run asks for; a head of another number of classes keeps its own.

    Returns what the record says of them: `source`, `sha256` (of a file its content's, of a run its `weights_sha256`,
    of a library that of names and values without the head), how many tensors were `loaded` and are `new`, and which
    are `missing` and `left_over`. Nothing where all was drawn.

    Raises:
        BadSpec: they cannot be read, are others than when the run was named, or do not fit.
    """
    wanted = spec.resolved.weights
    if wanted == Weights():
        return _of_library(spec, model)
    if wanted.run:
        given, sha256 = _of_run(wanted.run, spec, store)
    else:
        given, sha256 = _of_file(expanded(wanted.path), wanted.sha256), wanted.sha256
    found = _fitted(model, given, str(wanted))
    about: dict[str, Any] = {"source": str(wanted), "sha256": sha256}
    about |= {"loaded": len(found.loaded), "new": len(found.new)}
    return about | {"missing": list(found.missing), "left_over": list(found.left_over)}


def _of_library(spec: RunSpec, model: nn.Module) -> dict[str, Any]:
    """What is known of pretrained weights that a library gave."""
    backbone = spec.resolved.backbone
    if not backbone.settings.get("pretrained"):
        return {}
    names, values, heads = plain_names(model), model.state_dict(), head(model)
    given = {name: values[ours] for name, ours in names.items() if not inside(ours, heads)}
    about: dict[str, Any] = {"source": str(backbone), "sha256": weights_digest(given), "loaded": len(given)}
    return about | {"new": len(values) - len(names), "missing": [], "left_over": []}


def _of_run(run: str, spec: RunSpec, store: Store) -> tuple[dict[str, Any], str]:
    try:
        record = store.find(run)
    except StoreProblem as problem:
        raise BadSpec({"weights": f"run:{run}: {problem}; train it there first, or give a file"}) from None
    if record.canonical["attention"] != "none":
        attention = record.spec["attention"]
        raise BadSpec({"weights": f"run:{run} was trained with {attention}; give one without a mechanism"})
    if record.canonical["backbone"] != str(spec.resolved.backbone):
        raise BadSpec({"weights": f"run:{run} is of {record.spec['backbone']}, not of {spec.backbone}"})
    file = Path(record.folder) / "weights.safetensors"
    given = _read(file)
    if weights_digest(given) != record.weights_sha256:
        raise BadSpec({"weights": f"{file} holds other weights than its record says; delete its folder to train again"})
    return given, record.weights_sha256


def _of_file(file: Path, sha256: str) -> dict[str, Any]:
    given = _read(file)
    if digest_of(file) != sha256:
        raise BadSpec({"weights": f"{file} is not the file any more that the run was named by (SHA-256 {sha256})"})
    return given


def _read(file: Path) -> dict[str, Any]:
    """The tensors of a file, by name; of one that torch wrote, numbers and nothing else is unpickled."""
    try:
        given = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except FileNotFoundError:
        raise BadSpec({"weights": f"{file}: no such file"}) from None
    except MemoryError:
        raise
    except Exception as problem:  # what torch raises for a broken file is of many kinds
        raise BadSpec({"weights": f"{file} holds no weights that can be read ({type(problem).__name__})"}) from None
    if not isinstance(given, Mapping):
        raise BadSpec({"weights": f"{file} holds no state dict but {type(given).__name__}"})
    return dict(given)


def _fitted(model: nn.Module, given: Mapping[str, Any], source: str) -> Loaded:
    """What became of a checkpoint, all of which must fit but the head, and what stood where a mechanism stands now."""
    plain = ungraft(copy.deepcopy(model))
    names, known = plain_names(model), plain.state_dict()
    try:
        found = load_pretrained(model, given)
    except BadReference as problem:
        raise BadSpec({"weights": f"{source}: {problem}"}) from None
    heads = head(plain)
    wrong = [f"{name} is missing" for name in found.missing if not name.endswith("num_batches_tracked")]
    wrong += [f"{name} is left over" for name in found.left_over if name not in known or name in names]
    wrong = [what for what in wrong if not inside(what, heads)]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise BadSpec({"weights": f"{source} is of another network than {type(model).__name__}: {wrong[0]}{more}"})
    return found
