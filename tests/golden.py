"""A second witness: what the authors' released code computed for fixed weights and a fixed picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).parent / "golden"
CHANNELS, SIZE = 32, (7, 6)


@dataclass(frozen=True)
class Golden:
    """What somebody else's code gave for `case`, filled and shown as below."""

    case: str
    out: np.ndarray
    source: str


def read(name: str) -> Golden:
    with np.load(FOLDER / f"{name}.npz") as file:
        return Golden(str(file["case"]), file["out"], str(file["source"]))


def write(name: str, case: str, out: torch.Tensor, source: str, note: str = "") -> None:
    """Keep what another implementation gave; `name` is the mechanism's, with `-what` behind it for a second case."""
    np.savez_compressed(FOLDER / f"{name}.npz", case=case, out=out.detach().numpy(), source=source, note=note)


def filled(module: nn.Module) -> nn.Module:
    """The module in float64 and evaluation mode with weights from a fixed seed, in the order of their names."""
    draws = np.random.RandomState(0)
    module = module.double().eval()
    for name, tensor in sorted(module.state_dict().items()):
        if tensor.is_floating_point() and not name.endswith("fixed"):
            values = 0.3 * draws.standard_normal(tuple(tensor.shape))
            tensor.copy_(torch.from_numpy(np.abs(values) + 0.5 if name.endswith("running_var") else np.asarray(values)))
    return module


def picture(channels: int = CHANNELS, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """1 C H W in float64, the same everywhere."""
    return torch.from_numpy(np.random.RandomState(1).standard_normal((1, channels, *size)))
