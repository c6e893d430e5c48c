"""Networks: the published sizes, torchvision's layout, and what grafting leaves untouched."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from attnbench import network
from attnbench.errors import BadReference

CLASSIC = 'resnet18(stem="cifar")'
SE, CBAM = 'se(variant="classic")', 'cbam(variant="classic")'
SMALL = "resnet20(widths=(8, 8, 16))"


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def plain(model: nn.Module) -> dict[str, torch.Tensor]:
    """The backbone's weights under the names that they have without a mechanism."""
    named = model.state_dict().items()
    kinds = {path: type(module).__name__ for path, module in model.named_modules()}
    grafted = {path.removesuffix(".1") for path, kind in kinds.items() if kind in ("SE", "CBAM")}
    renamed = {}
    for name, value in named:
        home = next((path for path in grafted if name.startswith(f"{path}.")), None)
        if home is None:
            renamed[name] = value
        elif name.startswith(f"{home}.0."):
            renamed[name.replace(f"{home}.0.", f"{home}.")] = value
    return renamed


@pytest.mark.parametrize(
    ("backbone", "attention", "classes", "count"),
    [
        (CLASSIC, "none", 10, 11_173_962),
        (CLASSIC, SE, 10, 11_261_002),
        (CLASSIC, CBAM, 10, 11_261_786),
        ("resnet18", "none", 1000, 11_689_512),
        ("resnet50", "none", 1000, 25_557_032),
        ("resnet50", "se", 1000, 28_088_024),
        ("resnet50", SE, 1000, 28_071_976),
        ("resnet20", "none", 10, 269_722),
        ("resnet56", "none", 10, 853_018),
    ],
)
def test_has_the_published_number_of_parameters(backbone, attention, classes, count):
    assert parameters(network(backbone, attention, classes)) == count


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_has_torchvisions_keys_and_computes_what_torchvision_computes(name):
    theirs = torchvision.models.get_model(name, weights=None, num_classes=1000).eval()
    ours = network(name, classes=1000).eval()
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    ours.load_state_dict(theirs.state_dict())
    x = images(2, 3, 64, 64).double()
    torch.testing.assert_close(ours.double()(x), theirs.double()(x), rtol=1e-9, atol=1e-9)


class _ByHand(nn.Module):
    """A basic block with squeeze-and-excitation before the addition, as the paper draws it."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        (norm, gate), self.block = block.bn2, block
        self.norm, self.down, self.up = norm, gate.fc[0], gate.fc[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.block.conv2(F.relu(self.block.bn1(self.block.conv1(x))))
        out = self.norm(out)
        squeezed = F.relu(F.linear(out.mean((2, 3)), self.down.weight, self.down.bias))
        excited = torch.sigmoid(F.linear(squeezed, self.up.weight, self.up.bias))
        return F.relu(out * excited[:, :, None, None] + self.block.downsample(x))


@pytest.mark.parametrize("attention", ["se", SE])
@pytest.mark.parametrize("place", ["layer1.0", "layer2.0", "layer3.2"])
def test_a_grafted_block_is_the_block_written_by_hand(attention, place):
    block = network("resnet20", attention, classes=10).get_submodule(place).double().eval()
    x = images(4, block.conv1.in_channels, 8, 8).double()
    torch.testing.assert_close(block(x), _ByHand(block)(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backbone", [SMALL, CLASSIC])
@pytest.mark.parametrize("attention", ["se", SE, "cbam", 'cbam(variant="official")'])
def test_for_one_seed_every_arm_starts_from_the_same_backbone(backbone, attention):
    bare, arm = (
        network(backbone, classes=10, seed=3).state_dict(),
        plain(network(backbone, attention, 10, seed=3)),
    )
    assert arm.keys() == bare.keys()
    assert all(torch.equal(arm[name], bare[name]) for name in bare)


@pytest.mark.parametrize("attention", ["none", "se"])
def test_another_seed_gives_other_weights(attention):
    one, two = (network(SMALL, attention, classes=10, seed=seed).state_dict() for seed in (0, 1))
    drawn = [name for name in one if one[name].ndim > 1]
    assert all(not torch.equal(one[name], two[name]) for name in drawn)


def test_a_mechanisms_initial_weights_do_not_depend_on_the_other_sites():
    everywhere, second = network(SMALL, "cbam", 10), network(SMALL, "cbam", 10, stages=(2,))
    added = [name for name in second.state_dict() if ".bn2.1." in name]
    assert {name.split(".")[0] for name in added} == {"layer2"}
    assert all(torch.equal(second.state_dict()[name], everywhere.state_dict()[name]) for name in added)


def test_no_two_sites_start_alike():
    model = network(SMALL, "se", classes=10)
    one, two = (model.get_submodule(f"layer1.{block}.bn2.1").fc[0].weight for block in (0, 1))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("attention", ["none", "se", "cbam"])
def test_building_leaves_the_global_generator_untouched(attention):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    network(SMALL, attention, classes=10)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("attention", ["none", "se", "cbam", "constant"])
def test_leaves_train_mode_and_fresh_statistics(attention):
    model = network(SMALL, attention, classes=10)
    assert all(module.training for module in model.modules())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(int(norm.num_batches_tracked) == 0 and not norm.running_mean.any() for norm in norms)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("backbone", ["resnet18", CLASSIC, SMALL])
def test_takes_grey_and_colour_images(backbone, channels):
    model = network(backbone, "se", classes=7, in_channels=channels, image_size=32)
    assert model(images(2, channels, 32, 32)).shape == (2, 7)


def grafted(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if type(module).__name__ == "SE"]


@pytest.mark.parametrize(
    ("where", "places"),
    [
        ({}, [f"layer{stage}.{block}.bn2.1" for stage in (1, 2, 3) for block in (0, 1, 2)]),
        ({"stages": (3,)}, [f"layer3.{block}.bn2.1" for block in (0, 1, 2)]),
        ({"site": "stage"}, ["layer1.1", "layer2.1", "layer3.1"]),
        ({"site": "stage", "stages": (1, 3)}, ["layer1.1", "layer3.1"]),
        ({"site": r"pattern:layer2\.\d\.conv1"}, [f"layer2.{block}.conv1.1" for block in (0, 1, 2)]),
        ({"site": "pattern:bn1"}, ["bn1.1"]),
    ],
)
def test_a_mechanism_sits_where_it_was_asked_to(where, places):
    model = network(SMALL, "se", classes=10, **where)
    assert grafted(model) == places
    assert model(images(2, 3, 16, 16)).shape == (2, 10)


def test_at_every_site_a_mechanism_has_the_sites_width():
    model = network("resnet50", "se", classes=10, site="stage")
    assert [model.get_submodule(path).fc[0].in_features for path in grafted(model)] == [256, 512, 1024, 2048]


@pytest.mark.parametrize(
    ("where", "needle"),
    [
        ({"site": "blok"}, "did you mean 'block'"),
        ({"site": "neck"}, "has the sites block, stage"),
        ({"site": "pattern:layer9"}, r"could be one of bn1, layer\\d\+\\.\\d\+\\.bn1, layer\\d\+\\.\\d\+\\.bn2, conv1"),
        ({"site": "pattern:layer(1"}, "no regular expression"),
        ({"stages": (5,)}, r"sites are in \[1, 2, 3\]"),
    ],
)
def test_a_site_that_is_not_there_is_answered_with_those_that_are(where, needle):
    with pytest.raises(BadReference, match=needle) as refused:
        network(SMALL, "se", classes=10, **where)
    assert "\n" not in str(refused.value)


def test_the_widths_of_a_small_network_can_be_chosen():
    model = network("resnet20(widths=(4, 8, 12))", classes=5)
    assert [model.get_submodule(f"layer{n}.0.conv2").out_channels for n in (1, 2, 3)] == [4, 8, 12]
    assert model(images(2, 3, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize("widths", ["(4, 8)", "(4, 8, 0)", "(4, 8, 1.5)"])
def test_impossible_widths_are_refused_in_one_line(widths):
    with pytest.raises(BadReference, match="3 positive whole numbers"):
        network(f"resnet20(widths={widths})", classes=5)


USERS = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self, classes, in_channels, width):
        super().__init__()
        conv = nn.Conv2d(in_channels, width, 3, 2, 1)
        self.features = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))

class Scaled(Tiny):
    def __init__(self, classes, in_channels, width):
        super().__init__(classes, in_channels, width)
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, x):
        return super().forward(x * self.scale)

def tiny(classes, in_channels, width=8):
    return Tiny(classes, in_channels, width)

def scaled(classes, in_channels, width=8):
    return Scaled(classes, in_channels, width)
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A reference to a backbone of the user's own."""
    (tmp_path / "networks_of_mine").mkdir()
    (tmp_path / "networks_of_mine" / "__init__.py").touch()
    (tmp_path / "networks_of_mine" / "tiny.py").write_text(USERS)
    monkeypatch.syspath_prepend(tmp_path)
    return "networks_of_mine.tiny:tiny"


def test_somebodys_own_backbone_is_built_with_its_options(users):
    assert network(f"{users}(width=12)", classes=4, in_channels=1)(images(2, 1, 9, 9)).shape == (2, 4)


def test_a_mechanism_is_grafted_into_somebodys_own_backbone(users):
    model = network(f"{users}(width=32)", "se", 4, image_size=16, site=r"pattern:features\.1")
    assert grafted(model) == ["features.1.1"]
    assert model.features[1][1].fc[0].in_features == 32
    bare = network(f"{users}(width=32)", classes=4).state_dict()
    assert all(torch.equal(value, bare[name]) for name, value in plain(model).items())


def test_somebodys_own_backbone_may_hold_buffers_that_are_not_saved(users):
    model = network(users.replace(":tiny", ":scaled"), "se", 4, image_size=16, site=r"pattern:features\.1")
    assert model(images(2, 3, 16, 16)).shape == (2, 4)


def test_somebodys_own_backbone_without_a_site_is_answered_with_how_to_name_one(users):
    with pytest.raises(BadReference, match="pattern:REGEX"):
        network(users, "se", classes=4)
