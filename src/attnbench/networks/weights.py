"""A network's weights as they are stored, and their hash."""

import hashlib
from collections.abc import Mapping

from torch import Tensor, nn


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Every weight and buffer on the CPU, whole and apart from the others, under each of its names.

    A weight that two layers share, or a layer under two names, is stored once for each name: loading puts the same
    values into one place twice. Files of weights know no sharing.
    """
    found: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in model.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        shared = storage.data_ptr() in places or storage.nbytes() != tensor.nbytes
        found[name] = tensor.clone() if shared else tensor
        places.add(storage.data_ptr())
    return found


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values of a state dict, in hex."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + b"\0" + weights[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
