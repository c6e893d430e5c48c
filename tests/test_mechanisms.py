"""What every registered mechanism promises, and what squeeze-and-excitation and CBAM compute."""

import copy
import io
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit as sigmoid
from torch import nn

import attnbench
from attnbench import build_attention
from attnbench.cards import Paper
from attnbench.errors import BadReference
from attnbench.registry import ATTENTION

CARDS = {entry.name: entry.card for entry in ATTENTION}
EVERY = pytest.mark.parametrize("name", [*CARDS, 'se(variant="classic")', 'cbam(variant="official")'])
GATED = pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.gate])
MAPS = [(8, 8), (7, 5), (1, 1)]


def card(name: str) -> Paper:
    return CARDS[name.partition("(")[0]]


def redrawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter anew, since many start at a value that hides what they do."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module


def images(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@EVERY
@pytest.mark.parametrize("width", [8, 16, 64, 256])
@pytest.mark.parametrize("size", MAPS)
def test_keeps_the_shape_at_every_width_and_map(name, width, size):
    module = build_attention(name, width, size)
    x = images(2, width, *size)
    assert module(x).shape == x.shape
    assert module(x).isfinite().all()


@EVERY
def test_every_parameter_learns(name):
    learned, paths = set(), {path for path, _ in build_attention(name, 32).named_parameters()}
    for seed in range(3):  # one draw may leave a unit dead
        module = redrawn(build_attention(name, 32), seed)
        module(images(8, 32, 8, 8, seed=seed).requires_grad_()).square().mean().backward()
        named = {path: p for path, p in module.named_parameters() if p.grad is not None}
        learned |= {path for path, p in named.items() if p.grad.norm() > 1e-6 * p.norm()}
    assert paths - learned == {p for p in paths if any(fnmatch(p, rest) for rest in card(name).inert)}, (
        f"{name}: what rests is not what its card says"
    )


@GATED
def test_the_gate_stays_in_its_range_and_reaches_both_halves(name):
    low, high = CARDS[name].gate
    gates = redrawn(build_attention(name, 32)).gate(images(8, 32, 8, 8))
    assert low <= gates.min()
    assert gates.max() <= high
    assert gates.min() < (low + high) / 2 < gates.max()


@pytest.mark.parametrize("name", [name for name in CARDS if hasattr(build_attention(name, 8), "gate")])
def test_the_output_is_the_input_times_its_gate(name):
    module, x = redrawn(build_attention(name, 32)).eval(), images(2, 32, 6, 6)
    torch.testing.assert_close(module(x), x * module.gate(x), rtol=1e-5, atol=1e-6)


@EVERY
def test_evaluates_one_image_as_in_a_batch(name):
    module, batch = redrawn(build_attention(name, 32)).eval(), images(4, 32, 8, 8)
    torch.testing.assert_close(module(batch)[:1], module(batch[:1]), rtol=1e-5, atol=1e-6)


@EVERY
def test_leaves_its_input_as_it_was(name):
    x = images(2, 16, 6, 6)
    before = x.clone()
    redrawn(build_attention(name, 16))(x)
    assert torch.equal(x, before)


@EVERY
def test_saved_weights_give_the_same_outputs(name):
    first, second, file = *(redrawn(build_attention(name, 16), seed) for seed in (0, 9)), io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    x = images(2, 16, 6, 6)
    assert torch.equal(first.eval()(x), second.eval()(x))


@EVERY
def test_a_deep_copy_is_equal_and_its_own(name):
    module, x = redrawn(build_attention(name, 16)).eval(), images(2, 16, 6, 6)
    twin, before = copy.deepcopy(module), module(x)
    assert torch.equal(twin(x), before)
    redrawn(twin, 7)
    assert torch.equal(module(x), before)


@EVERY
def test_runs_on_the_meta_device(name):
    module = build_attention(name, 16).to("meta")
    out = module(torch.empty(2, 16, 6, 6, device="meta"))
    assert (out.device.type, out.shape) == ("meta", (2, 16, 6, 6))


@EVERY
def test_computes_in_double_precision(name):
    module, x = redrawn(build_attention(name, 16)).eval(), images(2, 16, 6, 6)
    single, double = module(x), module.double()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [8, 16, 64, 256])
@pytest.mark.parametrize("reduction", [4, 16])
@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("se", lambda c, h: 2 * c * h + h + c),
        ("se-classic", lambda c, h: 2 * c * h),
        ("cbam", lambda c, h: 2 * c * h + 2 * 7 * 7),
        ("cbam-classic", lambda c, h: 2 * c * h + 2 * 7 * 7),
        ("cbam-official", lambda c, h: 2 * c * h + 2 * 7 * 7 + h + c + 2),
    ],
)
def test_has_as_many_parameters_as_its_card_says(name, formula, width, reduction):
    short, _, variant = name.partition("-")
    module = build_attention(f'{short}(reduction={reduction}, variant="{variant or "paper"}")', width)
    assert sum(p.numel() for p in module.parameters()) == formula(width, max(1, width // reduction))


def mlp(w: dict[str, np.ndarray], prefix: str, z: np.ndarray) -> np.ndarray:
    """W2 relu(W1 z + b1) + b2 on rows of channels; biases where there are any."""
    for layer in ("0", "2"):
        matrix = w[f"{prefix}.{layer}.weight"]
        z = z @ matrix.reshape(matrix.shape[:2]).T + w.get(f"{prefix}.{layer}.bias", 0.0)
        z = np.maximum(z, 0) if layer == "0" else z
    return z


def convolved(planes: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """B 2 H W with 1 2 K K to B 1 H W, zeros around."""
    side, (height, width) = kernel.shape[-1], planes.shape[2:]
    padded = np.pad(planes, ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    out = np.zeros((len(planes), 1, height, width))
    for y, x in np.ndindex(side, side):
        window = padded[:, :, y : y + height, x : x + width]
        out += (window * kernel[:, :, y, x, None, None]).sum(1, keepdims=True)
    return out


def written_se(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Equations 2-4 of Hu et al. 2018."""
    return x * sigmoid(mlp(w, "fc", x.mean((2, 3))))[:, :, None, None]


def written_cbam(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Equations 1-3 of Woo et al. 2018; with the released batch norm where its weights are there."""
    x = x * sigmoid(mlp(w, "ca.fc", x.mean((2, 3))) + mlp(w, "ca.fc", x.max((2, 3))))[:, :, None, None]
    planes = np.stack([x.mean(1), x.max(1)], axis=1)
    logits = convolved(planes, w["sa.conv1.weight"])
    if "sa.norm.weight" in w:
        logits = (logits - w["sa.norm.running_mean"]) / np.sqrt(w["sa.norm.running_var"] + 1e-5)
        logits = logits * w["sa.norm.weight"] + w["sa.norm.bias"]
    return x * sigmoid(logits)


@pytest.mark.parametrize("size", MAPS)
@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("se", written_se),
        ('se(variant="classic", reduction=4)', written_se),
        ("cbam", written_cbam),
        ('cbam(variant="classic", kernel=3)', written_cbam),
        ('cbam(variant="official", reduction=4)', written_cbam),
    ],
)
def test_computes_what_the_papers_equations_say(name, written, size):
    module = redrawn(build_attention(name, 32)).double()
    module(images(8, 32, *size).double() + 0.5)  # moves the running statistics away from 0 and 1
    x = images(3, 32, *size, seed=2).double()
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    np.testing.assert_allclose(module.eval()(x).detach(), written(weights, x.numpy()), rtol=1e-5, atol=1e-5)


def test_the_spatial_gate_of_the_released_cbam_starts_at_one_half():
    module, x = build_attention('cbam(variant="official")', 32), images(2, 32, 6, 6)
    assert torch.equal(module.sa(x), torch.full((2, 1, 6, 6), 0.5))


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
from attnbench.cards import Paper

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
