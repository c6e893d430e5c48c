"""How a mechanism is asked for: options and their mistakes, controls, and somebody's own classes."""

import sys
from pathlib import Path

import pytest
import torch

import attnbench
from attnbench import build_attention
from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import BadReference


def images(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_spatial_gate_of_the_released_cbam_starts_at_one_half():
    module, x = build_attention('cbam(variant="official")', 32), images(2, 32, 6, 6)
    assert torch.equal(module.sa(x, torch.ones(2, 32, 1, 1)), torch.full((2, 1, 6, 6), 0.5))


@pytest.mark.parametrize(
    ("text", "value"),
    [("none", 1.0), ("constant", 0.5), ("constant(value=0)", 0.0), ("constant(value=2)", 2.0)],
)
def test_the_controls_multiply_by_a_number_and_learn_nothing(text, value):
    module, x = build_attention(text, 16), images(2, 16, 6, 6)
    assert torch.equal(module(x), x * value)
    assert list(module.parameters()) == []


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ('se(variant="paperr")', "is not one of 'paper', 'classic'"),
        ('cbam(variant="fast")', "'paper', 'official', 'classic'"),
        ("se(reduction=0)", "reduction=0 must be at least 1"),
        ("cbam(reduction=-1)", "reduction=-1 must be at least 1"),
        ("se(reduction=1.5)", "reduction=1.5"),
        ('se(reduction="16")', "must be an int"),
        ("cbam(kernel=4)", "kernel=4 must be odd"),
        ("se(ratio=4)", "no option 'ratio'; its options: reduction, variant"),
        ("sse", "did you mean 'se'?"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line_that_says_what_would_work(text, needle):
    with pytest.raises(BadReference) as refused:
        build_attention(text, 32)
    assert needle in str(refused.value)
    assert "\n" not in str(refused.value)


USERS = """
from torch import nn
import attnbench
from attnbench.catalogue.cards import Paper

class Halver(nn.Module):
    def __init__(self, channels, option=2):
        super().__init__()
        self.channels, self.option = channels, option
    def forward(self, x):
        return x / self.option

@attnbench.attention("thirds", Paper(title="Somebody's own", gate=(0.0, 1.0)))
class Thirds(Halver):
    def __init__(self, channels, option=3):
        super().__init__(channels, option)
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of the user's, which is forgotten afterwards."""
    (tmp_path / "blocks_of_mine").mkdir()
    (tmp_path / "blocks_of_mine" / "gates.py").write_text(USERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(ATTENTION, "_added", {})
    monkeypatch.delitem(sys.modules, "blocks_of_mine.gates", raising=False)


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize(("options", "factor"), [("", 2), ("(option=1)", 1), ("(option=4)", 4)])
def test_somebodys_own_class_works_unwrapped(options, factor):
    module, x = build_attention(f"blocks_of_mine.gates:Halver{options}", 16), images(2, 16, 6, 6)
    assert module.channels == 16
    assert torch.equal(module(x), x / factor)


@pytest.mark.usefixtures("users")
def test_a_decorated_class_is_known_by_its_name():
    __import__("blocks_of_mine.gates")
    assert build_attention("thirds", 16).option == 3
    assert build_attention("Thirds(option=5)", 16).option == 5
    assert ATTENTION.find("thirds").card.title == "Somebody's own"


@pytest.mark.usefixtures("users")
def test_a_decorated_class_is_trained_in_a_network():
    __import__("blocks_of_mine.gates")
    model = attnbench.network("resnet20", "thirds", classes=10)
    assert [type(module).__name__ for module in model.modules()].count("Thirds") == 9


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("blocks_of_mine.gates:Halfer", "did you mean 'Halver'?"),
        ("blocks_of_mine.gates:Halver(opt=1)", "its options: option"),
        ("blocks_of_yours:Gate", "no module 'blocks_of_yours'"),
    ],
)
def test_a_mistake_in_somebodys_own_reference_is_one_line(text, needle):
    with pytest.raises(BadReference, match=needle.replace("?", r"\?")) as refused:
        build_attention(text, 16)
    assert "\n" not in str(refused.value)
