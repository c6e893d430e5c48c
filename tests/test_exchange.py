"""Squeeze-excitation that a network was built with, exchanged for any mechanism or taken away."""

from pathlib import Path

import made
import pytest
import torch
from conftest import TINY
from torch import nn

from attnbench import RunSpec, Store, Study, compare, graft, load, network
from attnbench.catalogue.formula import promised
from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import BadReference, BadSpec
from attnbench.examine.sameness import same
from attnbench.networks.grafted import Grafted, ZeroInitialisedResidual
from attnbench.networks.network import built_in
from attnbench.spec.arm import ArmKey
from attnbench.spec.run import canonical

SIDE = 64
SMALL = 'torchvision(name="mobilenet_v3_small")'
NUMBERS = {
    SMALL: 9,
    'torchvision(name="mobilenet_v3_large")': 8,
    'torchvision(name="efficientnet_b0")': 16,
    'torchvision(name="regnet_y_400mf")': 16,
    'timm(name="mobilenetv3_small_100")': 9,
    'timm(name="efficientnet_b0")': 16,
    'timm(name="regnety_002")': 13,
    'timm(name="seresnet18")': 8,
    'timm(name="legacy_seresnet18")': 8,
    'timm(name="seresnet50")': 16,
    'timm(name="ecaresnet26t")': 8,
}
"""Backbone -> how many gates of channels it was built with."""
BACKBONES = pytest.mark.parametrize("backbone", NUMBERS)
WITH_SE = pytest.mark.parametrize("backbone", [name for name in NUMBERS if "eca" not in name])


def built(backbone: str, attention: str = "none", side: int = SIDE, **options: object) -> nn.Module:
    return network(backbone, attention, classes=10, image_size=side, **options).eval()


def exchanged(model: nn.Module) -> dict[str, Grafted]:
    return {path: module for path, module in model.named_modules() if isinstance(module, Grafted)}


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def images(side: int = SIDE) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def width(module: nn.Module) -> int:
    """The channels of a gate that a library built."""
    return max(dimension for weight in module.parameters() for dimension in weight.shape)


@BACKBONES
@pytest.mark.parametrize("attention", ["none", "se", "eca", "cbam", "static", "parallel(eca, se)"])
def test_the_total_is_that_of_the_plain_network_without_its_gates_and_with_ours(backbone, attention):
    with torch.device("cpu" if "regnet_y" in backbone else "meta"):  # torchvision's RegNet computes its widths
        plain, model = built(backbone), built(backbone, attention, site="se")
    places, choice = exchanged(model), ATTENTION.resolve(attention)
    assert list(places) == list(built_in(plain))
    assert len(places) == NUMBERS[backbone]
    taken = sum(size(place.original) for place in places.values())
    gates = [plain.get_submodule(path) for path in places]
    widths = [width(gate) for gate in gates] if "eca" not in backbone else [256, 256, 512, 512, 1024, 1024, 2048, 2048]
    given = sum(promised(choice.card, choice.settings, channels, (8, 8)) for channels in widths)
    assert taken == sum(map(size, gates)) > 0
    assert size(model) == size(plain) - taken + given
    assert built_in(model) == {}


def equal_reference(gate: nn.Module) -> str:
    """Our spelling of a library's squeeze-excitation: its width, its activation, its gate."""
    kinds = {type(part).__name__ for part in gate.modules()}
    first = next(part for part in gate.modules() if isinstance(part, nn.Conv2d))
    options = [f"hidden={first.out_channels}"]
    options += ['activation="silu"'] if "SiLU" in kinds else []
    options += ['gating="hardsigmoid"'] if "Hardsigmoid" in kinds else []
    return f"se({', '.join(options)})"


def awake(model: nn.Module) -> nn.Module:
    """In float64, with the norms away from 1 and 0: timm's blocks start as nothing, whatever their gates do."""
    draws = torch.Generator().manual_seed(2)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=draws)
            nn.init.normal_(part.bias, generator=draws)
    return model.double()


def takes_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Linear layers have the weights of 1x1 convolutions, in another shape."""
    with torch.no_grad():
        for new, old in zip(ours.parameters(), theirs.parameters(), strict=True):
            new.copy_(old.reshape(new.shape))


@WITH_SE
def test_se_by_an_equal_se_changes_no_output(backbone):
    model, x = awake(built(backbone)), images()
    before, gates = model(x), {path: model.get_submodule(path) for path in built_in(model)}
    for reference in {equal_reference(gate) for gate in gates.values()}:
        equal = [path for path in gates if equal_reference(gates[path]) == reference]
        graft(model, reference, equal, example=x, position="instead", init="own").double()
    assert (model(x) - before).abs().max() > 1e-3, "with other weights it gives other outputs"
    for path, place in exchanged(model).items():
        takes_weights(place, gates[path])
    assert len(exchanged(model)) == len(gates) == NUMBERS[backbone]
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)


def test_where_one_reference_is_the_built_in_one_the_site_is_enough():
    """timm's SE-ResNet-50 has a 16th of the channels at every place, ReLU, sigmoid and biases, as `se` has."""
    backbone = 'timm(name="seresnet50")'
    plain, model, x = awake(built(backbone)), awake(built(backbone, "se", site="se")), images()
    assert size(plain) == size(model)
    for path, place in exchanged(model).items():
        assert (model(x) - plain(x)).abs().max() > 1e-6, "until the last one has its weights"
        takes_weights(place, plain.get_submodule(path))
    torch.testing.assert_close(model(x), plain(x), rtol=1e-12, atol=1e-12)


@WITH_SE
def test_none_is_the_network_with_every_gate_at_one(backbone):
    plain, model, x = awake(built(backbone)), awake(built(backbone, site="se")), images()
    for path in built_in(plain):
        plain.set_submodule(path, nn.Identity())
    assert torch.equal(plain(x), model(x))


@WITH_SE
def test_what_starts_as_nothing_is_the_network_without_gates_and_learns(backbone):
    without, model, x = built(backbone, site="se"), built(backbone, "cbam", site="se", init="identity"), images()
    torch.testing.assert_close(without.double()(x), model.double()(x), rtol=1e-12, atol=1e-12)
    model.train()(x).square().mean().backward()
    eased = [part for part in model.modules() if isinstance(part, ZeroInitialisedResidual)]
    assert len(eased) == NUMBERS[backbone]
    assert all(part.strength.grad is not None for part in eased)


@pytest.mark.slow
def test_any_mechanism_that_keeps_the_shape_takes_the_place():
    for entry in ATTENTION:
        if entry.builtin and entry.card.kind != "R" and not entry.card.control:
            model = built('timm(name="seresnet18")', entry.name, site="se", stages=(4,))
            assert len(exchanged(model)) == 2
            assert model(images().float()).shape == (2, 10)


def test_maps_of_one_pixel_are_exchanged_like_others():
    """At 32 px the last stage has one pixel."""
    for side in (32, 64):
        assert len(exchanged(built(SMALL, "eca", side, site="se"))) == 9


@pytest.mark.parametrize(
    ("backbone", "options", "paths"),
    [
        ('torchvision(name="efficientnet_b0")', {"stages": (1, 7)}, ["features.1.0.block.1", "features.7.0.block.2"]),
        ('timm(name="regnety_002")', {"stages": (1, 2)}, ["s1.b1.se", "s2.b1.se"]),
        ('timm(name="regnety_002")', {"every": 4}, ["s3.b4.se", "s4.b4.se"]),
        ('timm(name="seresnet18")', {"every": 2}, [f"layer{stage}.1.se" for stage in (1, 2, 3, 4)]),
        (SMALL, {"stages": (1,)}, ["features.1.block.1"]),
        (SMALL, {"stages": (3,)}, [f"features.{number}.block.2" for number in (9, 10, 11)]),
        (SMALL, {"stages": (2,), "every": 2}, ["features.5.block.2", "features.7.block.2"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("side", [32, 64])
def test_stages_are_the_cards_or_else_those_of_one_size_whatever_the_images_are(backbone, options, paths, side):
    model = built(backbone, "eca", side, site="se", **options)
    assert list(exchanged(model)) == paths
    assert len(built_in(model)) == NUMBERS[backbone] - len(paths)


WRONG = [
    ({"backbone": "resnet20", "attention": "se"}, "resnet20 was built without squeeze-excitation"),
    ({"backbone": SMALL, "attention": "sk"}, "sk takes the place of a convolution, not of a gate"),
    ({"backbone": SMALL, "attention": 'random(of="sk")'}, "takes the place of a convolution, not of a gate"),
]
SEEN = [
    ({"backbone": 'torchvision(name="resnet18")'}, r"'se': torchvision\(name=\"resnet18\"\) was built without"),
    ({"backbone": 'timm(name="skresnet18")'}, "holds attention of its own, in the arm none too: 8 SelectiveKernelAttn"),
    ({"backbone": SMALL, "stages": (4,)}, r"stages \[4\] are not in this backbone, whose sites are in \[1, 2, 3\]"),
    ({"backbone": SMALL, "every": 9}, "every=9: no stage has so many places"),
]


@pytest.mark.parametrize(("options", "needle"), WRONG + SEEN)
def test_what_cannot_be_exchanged_is_one_line(options, needle):
    with pytest.raises(BadReference, match=needle) as refused:
        built(**options, site="se")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("options", "needle"), WRONG)
def test_what_cards_tell_is_said_before_anything_is_built(options, needle):
    with pytest.raises(BadSpec) as refused:
        RunSpec(dataset="digits", site="se", **options)
    assert needle in refused.value.mistakes["site"]


# Arms


def arm(**fields: object) -> str:
    return ArmKey.of(canonical(RunSpec(dataset="digits", backbone=SMALL, **fields))).label("block")


def test_the_network_as_it_is_and_the_one_without_its_gates_are_two_arms():
    specs = [RunSpec(dataset="digits", backbone=SMALL, **where) for where in ({}, {"site": "se"})]
    assert specs[0].id != specs[1].id
    assert [arm(), arm(site="se"), arm(site="se", stages=(2,))] == ["none", "none site=se", "none site=se stages=2"]
    assert RunSpec(dataset="digits", backbone=SMALL, stages=(2,), every=3).id == specs[0].id
    assert RunSpec(dataset="digits", backbone=SMALL, site="se", init="identity").id == specs[1].id


def study(**changed: object) -> Study:
    base = {**TINY, "backbone": SMALL, "site": "se"}
    grid = {"attention": ["none", "se", "eca", "cbam"]}
    return Study(name="exchange", **{"base": base, "grid": grid, "seeds": 6, **changed})


def test_a_study_of_the_site_compares_no_attention_with_others_in_the_same_positions():
    plan = study()
    made.fill(Path("runs"), plan)
    (cell,) = compare(plan, Store("runs")).cells
    assert [each.name for each in cell.arms] == [f"{name} site=se" for name in ("none", "cbam", "eca", "se")]
    assert [each.contrast is None for each in cell.arms] == [True, False, False, False]


@pytest.mark.parametrize("baseline", ["none", "none site=se"])
def test_the_original_is_an_arm_too_where_a_study_asks_for_it(baseline):
    plan = study(
        base={**TINY, "backbone": SMALL},
        grid={"attention": ["none", "se", "eca"], "site": ["se", None]},
        where=[{"if": {"site": None}, "set": {"attention": "none"}}],
        baseline=baseline,
    )
    assert len(plan.runs()) == 6 * 4
    made.fill(Path("runs"), plan)
    (cell,) = compare(plan, Store("runs")).cells
    assert cell.arms[0].name == baseline
    assert {each.name for each in cell.arms} == {"none", "none site=se", "se site=se", "eca site=se"}


def test_two_arms_of_the_site_differ_in_the_mechanism_only():
    one, two = (RunSpec(dataset="digits", backbone=SMALL, image_size=32, attention=a, site="se") for a in ("se", "eca"))
    found = same(one, two)
    assert (found.differences, found.built_in) == ((), "")
    assert list(found.replaced) == list(exchanged(built(SMALL, site="se")))
    plain = RunSpec(dataset="digits", backbone=SMALL, image_size=32)
    assert "9 SqueezeExcitation" in same(plain, one).built_in


@pytest.mark.slow
def test_a_run_and_its_reproduction_hold_what_was_exchanged(attnbench, data_dir):
    flags = ["--data-dir", data_dir, "--tracker", "none", "--dataset", "digits", "--epochs", 1, "--site", "se"]
    flags += ["--train-limit", 64, "--test-limit", 32, "--backbone", SMALL, "--image-size", 32]
    for attention in ("none", "chain(eca, sa)"):
        told = attnbench("run", *flags, "--attention", attention)
        assert (told.returncode, told.stderr) == (0, "")
    records = {record.canonical["attention"]: record for record in Store("runs").records()}
    assert all(record.input["built_in"] == {} for record in records.values())
    assert records["chain(eca, sa)"].cost["parameters"] > records["none"].cost["parameters"]
    assert load(records["chain(eca, sa)"]).names
