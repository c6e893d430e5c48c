"""Every backbone: published totals, torchvision's outputs, sites that are where they say, and any size of image."""

import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import densenet, resnet

from attnbench import RunSpec, network
from attnbench.catalogue.places import sites
from attnbench.catalogue.registry import BACKBONES
from attnbench.networks.graft import stage_of
from attnbench.training.optim import optimizer

SMALL = {
    "resnet18": 'resnet18(stem="cifar")',
    "resnet34": 'resnet34(stem="cifar")',
    "resnet50": 'resnet50(stem="cifar")',
    "resnet110": "resnet110(widths=(4, 4, 8))",
    "resnext50": 'resnext50(stem="cifar")',
    "preact_resnet110": "preact_resnet110(widths=(4, 4, 8))",
    "wrn": "wrn(depth=16, widen=2, dropout=0.3)",
    "vgg": "vgg(depth=11)",
    "densenet": "densenet(depth=22, growth=8)",
    "mobilenet_v2": 'mobilenet_v2(stem="cifar", width=0.5)',
    "convnext_tiny": 'convnext_tiny(stem="cifar")',
}
"""A smaller form of the backbones that are large."""

OURS = [entry.name for entry in BACKBONES if entry.name not in ("torchvision", "timm")]
EVERY = pytest.mark.parametrize("name", OURS)

FAMILIES = {
    "torchvision": "resnet34 resnet50 resnext50_32x4d wide_resnet50_2 regnet_y_400mf densenet121 mobilenet_v2 "
    "convnext_tiny efficientnet_b0 efficientnet_b2 vgg11_bn vgg13_bn vgg16_bn vgg19_bn",
    "timm": "resnet10t resnet18 resnet34d resnet26t resnet50.a1_in1k resnext50_32x4d wide_resnet50_2 regnety_004 "
    "densenet121 mobilenetv2_100 efficientnet_b0 convnext_tiny",
}
FOREIGN = pytest.mark.parametrize(
    "reference", [f'{library}(name="{name}")' for library, names in FAMILIES.items() for name in names.split()]
)
BLOCKS = "_Basic _Bottleneck _Bottleneck32x4d _Bottleneck8x64d _Block _Layer _Pooled BasicBlock Bottleneck"
BLOCKS += (
    " InvertedResidual ResBottleneckBlock _DenseLayer DenseLayer CNBlock ConvNeXtBlock MBConv DepthwiseSeparableConv"
)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def build(name: str, seed: int = 3) -> nn.Module:
    return network(SMALL.get(name, name), classes=5, seed=seed)


def bare(reference: str, classes: int = 10, in_channels: int = 3) -> nn.Module:
    """The network without weights, which costs nothing however large it is."""
    if "timm" in reference:
        pytest.importorskip("timm")
    backbone = BACKBONES.resolve(reference)
    with torch.device("cpu" if "regnet" in reference else "meta"):
        model = backbone.construct(classes, in_channels)
    return model.to("meta").eval()


def shapes(model: nn.Module, size: int) -> dict[str, list[int]]:
    """Path -> shape of each output, by one forward on `meta`."""
    found: dict[str, list[int]] = {}
    for path, module in model.named_modules():
        module.register_forward_hook(
            lambda _module, _inputs, out, path=path: found.__setitem__(path, [*getattr(out, "shape", ())])
        )
    model(torch.empty(2, 3, size, size, device="meta"))
    return found


def drawn(reference: str) -> nn.Module:
    """The network in evaluation mode with weights of a usual size, none of them 0; quicker than its own."""
    model = bare(reference).to_empty(device="cpu")
    torch.manual_seed(0)
    for p in model.parameters():
        p.data.normal_(0, (2 / p[0].numel()) ** 0.5) if p.ndim > 1 else p.data.fill_(0.5)
    for path, buffer in model.named_buffers():
        buffer.fill_(path.endswith("running_var"))
    return model


def blocks(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if type(module).__name__ in BLOCKS.split()]


def matches(model: nn.Module, pattern: str) -> dict[str, int]:
    """Path -> stage of each module that a site's pattern matches."""
    found = ((path, re.fullmatch(pattern, path)) for path, _ in model.named_modules())
    return {path: stage_of(match) for path, match in found if match}


@pytest.mark.parametrize(
    ("reference", "classes", "count"),
    [
        ("resnet32", 10, 464_154),
        ("resnet44", 10, 658_586),
        ("resnet110", 10, 1_727_962),
        ("resnet34", 1000, 21_797_672),
        ("resnext50", 1000, 25_028_904),
        ("resnext29", 10, 34_426_698),
        ("preact_resnet18", 10, 11_172_170),
        ("preact_resnet20", 10, 272_282 - 2_560),  # published with projections: 16 * 32 + 32 * 64 weights
        ("preact_resnet56", 10, 855_578 - 2_560),
        ("preact_resnet110", 10, 1_730_522 - 2_560),
        ("wrn", 10, 36_479_194),
        ("wrn", 100, 36_536_884),
        ("wrn(depth=40, widen=2)", 10, 2_243_546),
        ("wrn(depth=16, widen=4)", 10, 2_748_890),
        ("wrn(depth=16, widen=10)", 10, 17_116_634),
        ("wrn(depth=40, widen=8)", 10, 35_748_314),
        ("vgg", 10, 14_728_266),
        ("densenet", 10, 769_162),
        ("densenet", 100, 800_032),
        ("densenet(depth=190, growth=40)", 10, 25_624_430),
        ("mobilenet_v2", 1000, 3_504_872),
        ("convnext_tiny", 1000, 28_589_128),
        ("torchvision", 1000, 25_557_032),
        ('torchvision(name="squeezenet1_1")', 1000, 1_235_496),
        ("timm", 1000, 25_557_032),
    ],
)
def test_has_the_published_number_of_parameters(reference, classes, count):
    assert sum(p.numel() for p in bare(reference, classes).parameters()) == count


def _resnext29() -> nn.Module:
    net = resnet.ResNet(resnet.Bottleneck, [3, 3, 3, 1], groups=8, width_per_group=64)
    net.conv1, net.maxpool, net.layer4 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity(), nn.Identity()
    net.fc = nn.Linear(1024, 1000)
    return net


def _densenet() -> nn.Module:
    net = densenet.DenseNet(12, (16, 16, 16), 24)
    net.features.conv0 = nn.Conv2d(3, 24, 3, 1, 1, bias=False)
    net.features.norm0 = net.features.relu0 = net.features.pool0 = nn.Identity()
    return net


def _vgg() -> nn.Module:
    net = torchvision.models.get_model("vgg16_bn")
    net.classifier = nn.Linear(512, 1000)
    net.avgpool = nn.AdaptiveAvgPool2d(1)
    return net


@pytest.mark.parametrize(
    ("reference", "witness"),
    [
        *((name, name) for name in ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "convnext_tiny")),
        ("mobilenet_v2(width=1.4)", lambda: torchvision.models.mobilenet_v2(width_mult=1.4)),
        ("resnext50", "resnext50_32x4d"),
        ("resnext29", _resnext29),
        ("densenet", _densenet),
        ("vgg", _vgg),
    ],
)
def test_computes_what_torchvision_computes_with_its_weights(reference, witness):
    torch.manual_seed(0)
    theirs = (torchvision.models.get_model(witness) if isinstance(witness, str) else witness()).eval()
    for module in theirs.modules():  # else its branches are 1e-6 of the whole, and none of them would be seen
        if hasattr(module, "layer_scale"):
            nn.init.normal_(module.layer_scale)
    ours = bare(reference, 1000)
    given = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict({key: value.reshape(own.shape) for (key, own), value in given}, assign=True)
    x = images(1, 3, 64, 64).double()
    torch.testing.assert_close(ours.double()(x), theirs.double()(x), rtol=1e-9, atol=1e-9)


def _by_hand(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A pre-activation network written down as a formula: the first block of a stage shares its first ReLU."""
    x = F.conv2d(x, net.conv1.weight, padding=1)
    for stage in (net.layer1, net.layer2, net.layer3):
        for number, block in enumerate(stage):
            active, stride = F.relu(block.bn1(x)), 2 if number == 0 and stage is not net.layer1 else 1
            out = F.relu(block.bn2(F.conv2d(active, block.conv1.weight, stride=stride, padding=1)))
            way = block.downsample(active) if number == 0 else x
            x = way + F.conv2d(out, block.conv2.weight, padding=1)
    return F.linear(F.relu(net.bn(x)).flatten(2).mean(2), net.fc.weight, net.fc.bias)


@pytest.mark.parametrize("reference", ["preact_resnet20", "wrn(depth=16, widen=2)"])
def test_a_preactivated_network_is_the_formula_written_by_hand(reference):
    model, x = network(reference, classes=5).double().eval(), images(2, 3, 32, 32).double()
    torch.testing.assert_close(model(x), _by_hand(model, x))


@EVERY
def test_learns_from_images_of_even_and_odd_size(name):
    model = build(name)
    for size in (32, 37):
        model.zero_grad()
        out = model(images(2, 3, size, size))
        assert out.shape == (2, 5)
        out.square().sum().backward()
        learning = [(path, p) for path, p in model.named_parameters() if p.requires_grad]
        assert [path for path, p in learning if p.grad is None or not p.grad.isfinite().all()] == []
        assert len(learning) > len(list(model.parameters())) / 2


@EVERY
def test_takes_grey_images(name):
    model = bare(SMALL.get(name, name), 5, in_channels=1)
    assert model(torch.empty(2, 1, 32, 32, device="meta")).shape == (2, 5)


@EVERY
def test_initial_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(1)
    one = dict(build(name).named_parameters())
    torch.manual_seed(2)
    two, other = (dict(build(name, seed).named_parameters()) for seed in (3, 4))
    assert all(torch.equal(one[key], two[key]) for key in one)
    drawn = [key for key, p in one.items() if p.ndim == 4 and p.requires_grad]
    assert all(not torch.equal(one[key], other[key]) for key in drawn)


def test_the_fixed_stem_of_speednet_whitens_smooth_images_and_does_not_learn():
    """Patterns of norm 1 at right angles, each with both signs; measured: 0.012 for them, 0.64 for the pixels."""
    model = network("speednet", classes=5)
    patterns, mirrored = model.stem[0].weight.split(12)
    torch.testing.assert_close(patterns.flatten(1) @ patterns.flatten(1).T, torch.eye(12))
    assert torch.equal(mirrored, -patterns)
    smooth = F.avg_pool2d(images(64, 3, 36, 36), 5, 1)
    pixels = F.unfold(smooth, 3).transpose(0, 1).flatten(1)[:9]
    found = F.conv2d(smooth, patterns).transpose(0, 1).flatten(1)
    assert _together(found) < 0.02 < 0.5 < _together(pixels)
    learning = {id(p) for group in optimizer(RunSpec(dataset="digits"), model).param_groups for p in group["params"]}
    assert id(model.stem[0].weight) not in learning


def _together(features: Tensor) -> float:
    """The mean size of the correlation between two of the features (N, observations)."""
    found = torch.corrcoef(features)
    return float((found - torch.diag(found.diag())).abs().sum() / (len(found) * (len(found) - 1)))


def check_sites(reference: str, size: int) -> None:
    """Every pattern matches maps, counts stages from 1, and `block`, `pre` and `post` match once in each block."""
    model, known = bare(reference), sites(BACKBONES.resolve(reference))
    found = {site: matches(model, pattern) for site, pattern in known.items()}
    assert {"block", "stage"} <= set(known)
    outputs = shapes(model, size)
    count = len(found["stage"])
    assert [*found["stage"].values()] == [*range(1, count + 1)]
    for site, places in found.items():
        assert places, site
        assert {len(outputs[path]) for path in places} == {4}, site
        assert {*places.values()} == {*range(1, count + 1)} or site == "identity", site
    each = blocks(model) or [path for path, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    for site in {"block", "pre", "post"} & set(known):
        assert len(found[site]) == len(each), site
        assert all(path.startswith(own) for path, own in zip(found[site], each, strict=True)), site


@EVERY
def test_every_site_is_where_it_says(name):
    check_sites(name, 64)
    convs = {path for path, m in bare(name).named_modules() if isinstance(m, nn.Conv2d)}
    inside = {path for path in convs if re.match(r"layer\d+\.", path) and ".downsample" not in path}
    card = BACKBONES.find(name).card
    assert set(matches(bare(name), card.sites["conv"])) == inside
    assert all("(?P<stage>" in pattern for pattern in card.sites.values())


@FOREIGN
def test_every_site_of_a_librarys_network_is_where_it_says(reference):
    check_sites(reference, 64)


@pytest.mark.parametrize(
    "reference",
    ["resnet20", "resnext29", "preact_resnet20", SMALL["wrn"], SMALL["densenet"], SMALL["convnext_tiny"]]
    + [SMALL["mobilenet_v2"], 'torchvision(name="resnet18")', 'torchvision(name="regnet_y_400mf")']
    + [f'torchvision(name="{name}")' for name in ("mobilenet_v2", "densenet121", "efficientnet_b0", "convnext_tiny")]
    + [f'timm(name="{name}")' for name in ("resnet26t", "mobilenetv2_100", "regnety_004", "convnext_tiny")],
)
def test_a_block_site_is_the_end_of_the_residual_branch(reference):
    """Multiplied by 0 there, no weight of a branch matters any more; without it every one does."""
    if "timm" in reference:
        pytest.importorskip("timm")
    model, known = drawn(reference), sites(BACKBONES.resolve(reference))
    branch = {path for path, p in model.named_parameters() if p.ndim > 1 and path.startswith(tuple(blocks(model)))}
    branch = {path for path in branch if not re.search(r"downsample|\.proj\.", path)}
    for path in matches(model, known["block"]):
        model.get_submodule(path).register_forward_hook(lambda _module, _inputs, out: out * model.share)
    moved = []
    for model.share in (0, 1):
        model.zero_grad()
        model(images(1, 3, 32, 32)).square().sum().backward()
        moved.append({path for path, p in model.named_parameters() if p.grad is not None and p.grad.any()} & branch)
    assert moved == [set(), branch]
