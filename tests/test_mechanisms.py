"""How a mechanism is asked for: options and their mistakes, controls, and somebody's own classes."""

import copy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import attnbench
from attnbench import build_attention
from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import BadReference
from attnbench.mechanisms.bot import _resized
from attnbench.seeding import seeded


def images(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_spatial_gate_of_the_released_cbam_starts_at_one_half():
    module, x = build_attention('cbam(variant="official")', 32), images(2, 32, 6, 6)
    assert torch.equal(module.sa(x, torch.ones(2, 32, 1, 1)), torch.full((2, 1, 6, 6), 0.5))


@pytest.mark.parametrize("name", ["lka", "lsk", "lska"])
def test_a_factor_without_bounds_starts_as_its_released_network_draws_it(name):
    with seeded(0, "first weights"):
        module, x = build_attention(name, 64), images(4, 64, 24, 24)
    assert 1 < module.gate(x).std() < 6  # with torch's own first weights 0.13 to 0.17


def test_an_external_memorys_values_start_as_its_keys():
    module = build_attention("external", 32)
    assert torch.equal(module.values.weight, module.keys.weight.transpose(0, 1))
    assert module.values.weight.data_ptr() != module.keys.weight.data_ptr()


@pytest.mark.parametrize("name", ["emau", "involution"])
def test_first_weights_have_the_variance_of_the_released_class(name):
    with seeded(0, "first weights"):
        module = build_attention(name, 64)
    for conv in module.modules():
        if isinstance(conv, torch.nn.Conv2d):
            assert float(conv.weight.detach().std()) == pytest.approx((2 / conv.out_channels) ** 0.5, rel=0.1)


@pytest.mark.parametrize("length", [2, 3, 5, 9])
def test_a_table_of_positions_is_interpolated_as_by_torch(length):
    """And so is its gradient, which torch's own has only in an order that changes from run to run on CUDA."""
    table, slope = images(9, 4).double().requires_grad_(), images(2 * length - 1, 4, seed=2).double()
    theirs = F.interpolate(table.T[None], 2 * length - 1, mode="linear", align_corners=True)[0].T
    found = [(made, *torch.autograd.grad((made * slope).sum(), table)) for made in (_resized(table, length), theirs)]
    torch.testing.assert_close(found[0], found[1])
    assert _resized(table, 1).equal(table[4:5])


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_neither_gradients_nor_moving_averages(reentrant):
    plain = build_attention("emau", 16).train()
    saving, start, found = copy.deepcopy(plain), plain.bases.clone(), []
    for module, call in ((plain, plain), (saving, lambda x: checkpoint(saving, x, use_reentrant=reentrant))):
        for step in range(3):
            x = images(2, 16, 6, 6, seed=step).requires_grad_()
            call(x).square().mean().backward()
        found.append((x.grad, module.bases))
    torch.testing.assert_close(found[1], found[0])
    assert not torch.equal(plain.bases, start)


@pytest.mark.parametrize("name", [entry.name for entry in ATTENTION if entry.builtin])
def test_a_card_says_where_a_batch_of_one_image_cannot_be_trained(name):
    said, refused = "batch of one image is refused" in ATTENTION.find(name).card.clamping, ""
    try:
        build_attention(name, 32).train()(images(1, 32, 8, 8))
    except ValueError as problem:
        refused = str(problem)
    assert said or not refused


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
