"""Where a mechanism goes: sites, stages, every n-th place, in place of convolutions, and starts as nothing."""

import pytest
import torch
from torch import nn

from attnbench import RunSpec, network
from attnbench.catalogue.places import Place, place
from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import BadReference, BadSpec
from attnbench.networks.grafted import Grafted, ZeroInitialisedResidual

SMALL = "resnet20(widths=(4, 8, 8))"


def grafted(model: nn.Module) -> dict[str, Grafted]:
    return {path: module for path, module in model.named_modules() if isinstance(module, Grafted)}


def built(attention: str = "static", **options: object) -> nn.Module:
    return network(SMALL, attention, classes=4, image_size=16, **options)


def images(size: int = 16) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"site": "block", "stages": (2,)}, [f"layer2.{n}.bn2" for n in range(3)]),
        ({"site": "pre", "stages": (1,)}, [f"layer1.{n}.conv1" for n in range(3)]),
        ({"site": "post", "stages": (3,)}, [f"layer3.{n}" for n in range(3)]),
        ({"site": "identity", "stages": (1,)}, [f"layer1.{n}.downsample" for n in range(3)]),
        ({"site": "stage"}, ["layer1", "layer2", "layer3"]),
        ({"site": "conv", "stages": (1,)}, [f"layer1.{n}.conv{k}" for n in range(3) for k in (1, 2)]),
        ({"site": "post", "every": 2}, [f"layer{stage}.1" for stage in (1, 2, 3)]),
        ({"site": "post", "every": 3}, [f"layer{stage}.2" for stage in (1, 2, 3)]),
    ],
    ids=str,
)
def test_a_site_is_where_it_says(options, paths):
    assert list(grafted(built(**options))) == paths


def by_hand(block: nn.Module, x: torch.Tensor, scale: float, site: str) -> torch.Tensor:
    """A basic block of the plain network with everything at one site multiplied by `scale`."""

    def at(name: str, value: torch.Tensor) -> torch.Tensor:
        return value * scale if name == site else value

    out = torch.relu(block.bn1(block.conv1(at("conv", at("pre", x)))))
    out = at("block", block.bn2(block.conv2(at("conv", out))))
    return at("post", torch.relu(out + at("identity", block.downsample(x))))


@pytest.mark.parametrize("site", ["block", "pre", "post", "identity", "conv"])
def test_a_factor_at_each_site_does_what_it_does_by_hand(site):
    plain, scaled = built("none").double().eval(), built("constant(value=0.3)", site=site).double().eval()
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    for number in range(3):
        expected = by_hand(plain.layer1[number], x, 0.3, site)
        torch.testing.assert_close(scaled.layer1[number](x), expected)


def test_a_replacing_mechanism_takes_the_place_of_convolutions_of_equal_widths_alone():
    model = network("resnet50", "sk", classes=4, image_size=64, site="paper", stages=(2,))
    replaced = grafted(model)
    assert list(replaced) == [f"layer2.{n}.conv2" for n in range(4)]
    first, second = replaced["layer2.0.conv2"], replaced["layer2.1.conv2"]
    assert [type(part).__name__ for part in first] == ["SelectiveKernel", "AvgPool2d"]  # there the stride was 2
    assert [type(part).__name__ for part in second] == ["SelectiveKernel"]
    assert not [
        path for path, module in model.layer2.named_modules() if path.endswith("conv2") and type(module) is nn.Conv2d
    ]


def test_a_replacing_mechanism_leaves_convolutions_that_change_the_width():
    model = built("involution(kernel=3)")
    assert "layer2.0.conv1" not in grafted(model)  # 4 to 8 channels
    assert "layer2.0.conv2" in grafted(model)


@pytest.mark.parametrize("size", [16, 17, 18])
def test_a_replaced_stride_gives_maps_of_the_same_size(size):
    plain = network("resnet50", "none", classes=4, image_size=size).eval()
    model = network("resnet50", "dyconv(kernels=1)", classes=4, image_size=size).eval()
    shapes: dict[str, list[torch.Size]] = {"plain": [], "replaced": []}
    for name, net in (("plain", plain), ("replaced", model)):
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            stage.register_forward_hook(lambda _m, _i, out, name=name: shapes[name].append(out.shape))
        net(images(size))
    assert shapes["plain"] == shapes["replaced"]


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        ("se", Place("block")),
        ("bam", Place("stage", (-4, -3, -2))),
        ("gct", Place("conv")),
        ("nl", Place("post", (-3, -2), 2)),
        ("sk", Place("conv")),
        ("bot", Place("conv", (-1,))),
    ],
)
def test_the_papers_place_is_on_the_card(attention, expected):
    assert place(ATTENTION.resolve(attention), "paper") == expected


def test_stages_of_the_paper_are_counted_from_the_end_and_those_that_are_missing_are_left_out():
    assert list(grafted(built("bam", site="paper"))) == ["layer1", "layer2"]  # of 3 stages, -4 is none
    four = network("resnet18", "bam", classes=4, image_size=32, site="paper")
    assert list(grafted(four)) == ["layer1", "layer2", "layer3"]


def test_the_users_stages_go_before_the_papers():
    assert list(grafted(built("bam", site="paper", stages=(3,)))) == ["layer3"]


@pytest.mark.parametrize("attention", [entry.name for entry in ATTENTION if entry.builtin and entry.card.kind != "R"])
def test_with_init_identity_the_network_starts_as_the_plain_one_and_still_learns(attention):
    if attention == "none":
        return
    plain, model = built("none").double(), built(attention, init="identity").double()
    x = images().double()
    torch.testing.assert_close(plain.eval()(x), model.eval()(x), rtol=1e-9, atol=1e-9)
    model.train()(x).square().sum().backward()
    moved = [
        any(p.grad is not None and p.grad.abs().sum() > 0 for part in site[1:] for p in part.parameters())
        for site in grafted(model).values()
    ]
    assert moved
    assert all(moved), "behind a second factor of 0 nothing ever learns"


def test_what_starts_as_nothing_moves_towards_the_mechanism():
    inner = nn.Sequential(nn.Conv2d(4, 4, 1))
    eased, x = ZeroInitialisedResidual(inner).double(), torch.randn(2, 4, 3, 3, dtype=torch.float64)
    assert torch.equal(eased(x), x)
    nn.init.ones_(eased.strength)
    torch.testing.assert_close(eased(x), inner(x))


@pytest.mark.parametrize("attention", ["gct", "nl", "gc", "pam"])
def test_what_starts_as_nothing_by_itself_is_left_as_it_is(attention):
    assert not [
        module for module in built(attention, init="identity").modules() if isinstance(module, ZeroInitialisedResidual)
    ]


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({"attention": "sk", "init": "identity"}, "cannot start as nothing"),
        ({"attention": "se", "site": "blok"}, "did you mean 'block'"),
        ({"attention": "se", "site": "stage", "every": 2}, "no stage has so many places"),
        ({"attention": "se", "stages": (7,)}, r"stages \[7\] are not in this backbone"),
    ],
)
def test_a_place_that_is_not_there_is_one_line(options, needle):
    with pytest.raises(BadReference, match=needle) as refused:
        built(**options)
    assert "\n" not in str(refused.value)


def test_a_run_says_beforehand_what_its_place_cannot_be():
    with pytest.raises(BadSpec, match="cannot start as nothing"):
        RunSpec(dataset="digits", attention="sk", init="identity")
    with pytest.raises(BadSpec, match="'conv' is not one of"):
        RunSpec(dataset="digits", attention="sk", backbone='torchvision(name="convnext_tiny")')


@pytest.mark.parametrize("backbone", ['torchvision(name="resnet18")', 'timm(name="resnet18")', "mobilenet_v2", "vgg"])
def test_any_network_stays_as_it_was_when_a_gate_starts_as_nothing(backbone):
    plain = network(backbone, "none", classes=4, image_size=64).double().eval()
    model = network(backbone, "cbam", classes=4, image_size=64, init="identity").double().eval()
    assert len(grafted(model)) >= 8
    x = images(64).double()
    torch.testing.assert_close(plain(x), model(x), rtol=1e-9, atol=1e-9)
