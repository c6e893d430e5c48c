"""Every mechanism against its paper's equations, and against a second witness where there is one."""

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import golden
import numpy as np
import pytest
import torch
from torch import nn

from attnbench import build_attention
from attnbench.catalogue.registry import ATTENTION

REFERENCES: dict[str, ModuleType] = {
    file.stem: importlib.import_module(f"equations.{file.stem}")
    for file in sorted((Path(__file__).parent / "equations").glob("*.py"))
    if file.stem not in ("__init__", "numeric")
}
CASES = [case for reference in REFERENCES.values() for case in reference.CASES]
SIZES = [(8, 8), (7, 5), (1, 1)]
CHANNELS = 32


def test_every_mechanism_has_its_equations():
    assert set(REFERENCES) == {entry.name for entry in ATTENTION if not entry.card.control}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_computes_what_the_papers_equations_say(case, size):
    module = moved(build_attention(case, CHANNELS, size))
    x, weights = images(3, CHANNELS, *size, seed=2), {key: value.numpy() for key, value in module.state_dict().items()}
    name, options = resolved(case)
    expected = REFERENCES[name].written(weights, x.numpy(), **options)
    np.testing.assert_allclose(module.eval()(x).detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, reference in REFERENCES.items() if hasattr(reference, "witness")])
@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_computes_what_another_library_computes(name, size):
    reference = REFERENCES[name]
    case = getattr(reference, "WITNESSED", reference.CASES[0])
    module = moved(build_attention(case, CHANNELS, size)).eval()
    twin: nn.Module = reference.witness(module, CHANNELS).double().eval()
    x = images(3, CHANNELS, *size, seed=2)
    torch.testing.assert_close(module(x), twin(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [file.stem for file in sorted(golden.FOLDER.glob("*.npz"))])
def test_computes_what_the_released_code_computed(name):
    kept = golden.read(name)
    module = golden.filled(build_attention(kept.case, golden.CHANNELS, golden.SIZE))
    torch.testing.assert_close(module(golden.picture()), torch.from_numpy(kept.out), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", list(REFERENCES))
def test_the_equations_share_no_code_with_the_module(name):
    source = inspect.getsource(REFERENCES[name].written)
    assert "torch" not in source
    assert "attnbench" not in inspect.getsource(REFERENCES[name])


def resolved(case: str) -> tuple[str, dict[str, Any]]:
    """The mechanism's name and all its options, those left at their defaults too."""
    found = ATTENTION.resolve(case)
    return found.entry.name, found.settings


def moved(module: nn.Module) -> nn.Module:
    """In float64, with redrawn parameters and running statistics away from 0 and 1: defaults hide mistakes.

    They are drawn in float32, so that a second witness, which is built in float32, holds the same numbers.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.5, generator=generator)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(generator=generator)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2, generator=generator)
    return module.double()


def images(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
