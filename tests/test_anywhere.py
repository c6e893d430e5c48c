"""A mechanism in anybody's network: it starts as nothing, old checkpoints load, and the plain network comes back."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import attnbench
from attnbench.errors import BadReference

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
LARGE = {"inception_v3": 299, "googlenet": 96, "alexnet": 96, "timm": 96, "botnet26t_256": 256, "sehalonet33ts": 256}
ARCHITECTURES = [line.split() for line in (Path(__file__).parent / "architectures.txt").read_text().splitlines()]
"""Library and name of networks of many kinds."""
QUICK = ("resnet18", "mobilenet_v3_small", "regnet_y_400mf")


def torchvision(name: str) -> nn.Module:
    import torchvision.models as library

    torch.manual_seed(1)
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = getattr(library, name)(weights=None, **more)
    return model.eval()


def out(model: nn.Module, example: Any = IMAGE) -> Tensor:
    with torch.no_grad():
        found = model(example)
    return found["out"] if isinstance(found, dict) else found


def trains_grafted(plain: nn.Module, side: int = 64) -> None:
    """What every network shall do: start as it was, keep its tensors, train one step and come back."""
    image = torch.rand(2, 3, side, side)
    before, weights = out(plain, image), {name: value.clone() for name, value in plain.state_dict().items()}
    if not attnbench.sites(plain, image):
        with pytest.raises(BadReference, match=r"no block is found in .*; name a place; it could be one of"):
            attnbench.graft(plain, "eca", example=image)
        attnbench.graft(plain, "eca", lambda _, module: isinstance(module, nn.Conv2d), example=image)
    else:
        attnbench.graft(plain, "eca", example=image)
    assert torch.equal(out(plain, image), before)
    found = attnbench.load_pretrained(plain, weights)
    assert (set(found.loaded), found.missing, found.left_over) == (set(weights), (), ())
    given = plain.train()(image)
    (given if isinstance(given, Tensor) else given[0]).square().mean().backward()
    strengths = [parameter for name, parameter in plain.named_parameters() if name.endswith("strength")]
    assert strengths
    assert all(parameter.grad is not None for parameter in strengths)
    assert list(attnbench.ungraft(plain).state_dict()) == list(weights)


@pytest.mark.parametrize("name", QUICK)
def test_a_grafted_network_computes_what_the_plain_one_did_and_trains_from_there(name):
    plain = torchvision(name)
    before, weights = out(plain), copy.deepcopy(plain.state_dict())
    grafted = attnbench.graft(copy.deepcopy(plain), "eca", example=IMAGE)
    assert torch.equal(out(grafted), before)
    found = attnbench.load_pretrained(grafted, weights)
    assert set(found.loaded) == set(weights)
    assert (found.missing, found.left_over) == ((), ())
    assert len(found.new) == len(grafted.state_dict()) - len(weights) > 0
    grafted.train()(IMAGE).square().mean().backward()
    assert all(parameter.grad is not None for parameter in grafted.parameters())


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("position", ["behind", "before"])
def test_what_is_ungrafted_is_the_plain_network(name, position):
    plain = torchvision(name)
    weights = {name: value.clone() for name, value in plain.state_dict().items()}
    back = attnbench.ungraft(attnbench.graft(plain, "cbam", example=IMAGE, position=position, init="own"))
    assert list(back.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[name]) for name, value in back.state_dict().items())


@settings(deadline=None, max_examples=25)
@given(data=st.data(), name=st.sampled_from(QUICK), often=st.integers(1, 3))
def test_whatever_was_grafted_wherever_is_ungrafted(data, name, often):
    plain = torchvision(name)
    before, weights, kinds = (
        out(plain),
        copy.deepcopy(plain.state_dict()),
        {k: type(m) for k, m in plain.named_modules()},
    )
    for _ in range(often):  # at one place more than once, in what was replaced, around what holds mechanisms
        position = data.draw(st.sampled_from(["behind", "before", "instead"]))
        wanted = nn.BatchNorm2d if position == "instead" else nn.BatchNorm2d | nn.Conv2d | nn.Sequential
        there = [path for path, module in plain.named_modules() if path in kinds and isinstance(module, wanted)]
        drawn = data.draw(st.lists(st.integers(0, 99), max_size=4))
        places = {there[number % len(there)] for number in drawn if there} - {"classifier"}
        attention, init = data.draw(st.sampled_from([("eca", "own"), ("se", "identity"), ("cbam", "identity")]))
        if places:
            attnbench.graft(plain, attention, sorted(places), example=IMAGE, position=position, init=init)
    back = attnbench.ungraft(plain)
    assert {path: type(module) for path, module in back.named_modules()} == kinds
    assert list(back.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[key]) for key, value in back.state_dict().items())
    assert torch.equal(out(back), before)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "regnet_y_400mf", "efficientnet_b0"])
def test_built_in_attention_is_exchanged_or_taken_away_and_comes_back(name):
    plain = torchvision(name)
    before, names = out(plain), list(plain.state_dict())
    there = next(site for site in attnbench.sites(plain, IMAGE) if site.kind == "built-in")
    attnbench.graft(plain, "eca", "built-in", example=IMAGE)
    assert not torch.equal(out(plain), before)
    assert not any(site.kind == "built-in" and "SqueezeExcit" in site.at for site in attnbench.sites(plain, IMAGE))
    attnbench.ungraft(plain)
    assert torch.equal(out(plain), before)
    attnbench.graft(plain, "none", "built-in", example=IMAGE)
    gone = [name for name in names if any(name.startswith(f"{path}.") for path in there.paths)]
    assert len(plain.state_dict()) == len(names) - len(gone) < len(names)
    left_over = attnbench.load_pretrained(plain, torchvision(name).state_dict()).left_over
    assert set(gone) <= set(left_over)


def test_what_was_grafted_is_no_attention_that_the_network_was_built_with_and_no_block():
    plain = attnbench.sites(torchvision("resnet18"), IMAGE)
    model = attnbench.graft(torchvision("resnet18"), "cbam", example=IMAGE)
    kinds = {site.kind: len(site.paths) for site in attnbench.sites(model, IMAGE)}
    assert kinds == {site.kind: len(site.paths) for site in plain}
    with pytest.raises(BadReference, match="built without attention"):
        attnbench.graft(model, "none", "built-in", example=IMAGE)


class AsksItsParts(nn.Module):
    """A network that asks a module for its weight's dtype, and sets how a module works."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.checkpointing = nn.Conv2d(3, 8, 3), False
        vars(self.conv)["fast"] = False
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.conv(x.to(self.conv.weight.dtype)).mean((2, 3)))


def test_what_a_network_asks_of_a_grafted_module_and_sets_there_is_the_modules_own():
    model = attnbench.graft(AsksItsParts(), "se", "conv", example=IMAGE)
    assert model(IMAGE).shape == (len(IMAGE), 10)
    model.conv.fast = True
    assert model.conv.original.fast
    with pytest.raises(AttributeError, match="wait"):
        model.conv.wait()
    assert copy.deepcopy(model)(IMAGE).shape == (len(IMAGE), 10)


def test_places_are_listed_with_their_shapes_the_usual_one_first():
    sites = attnbench.sites(torchvision("resnet18"), IMAGE)
    assert [(site.kind, len(site.paths)) for site in sites] == [("block", 8), ("post", 8)]
    assert sites[0].shapes[0] == (64, 16, 16)
    assert str(sites[0]) == r"block     layer\d+\.\d+\.bn\d+  (8: 64x16x16, 128x8x8, 256x4x4, 512x2x2)"


@pytest.mark.parametrize(
    "at",
    [r"layer\d\.1\.bn2", ["layer1.1.bn2", "layer2.1.bn2", "layer3.1.bn2", "layer4.1.bn2"],
     lambda path, module: isinstance(module, nn.BatchNorm2d) and path.endswith(".1.bn2")],
)  # fmt: skip
def test_places_are_named_by_a_pattern_a_list_or_a_function(at):
    plain = torchvision("resnet18")
    new = attnbench.load_pretrained(attnbench.graft(plain, "se", at, example=(3, 64, 64)), plain.state_dict()).new
    assert {name.split(".bn2.1")[0] for name in new} == {f"layer{number}.1" for number in (1, 2, 3, 4)}


def test_a_head_of_other_classes_is_named_and_the_rest_is_loaded():
    grafted = attnbench.graft(torchvision("resnet18"), "se", example=IMAGE)
    weights = torchvision("resnet18").state_dict() | {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
    parallel = {"state_dict": {f"module.{name}": value for name, value in weights.items()}, "epoch": 3}
    found = attnbench.load_pretrained(grafted, parallel)
    assert found.left_over == ("fc.weight 7x512 for 1000x512", "fc.bias 7 for 1000")
    assert len(found.loaded) == len(weights) - 2
    assert "2 left over (fc.weight 7x512 for 1000x512, fc.bias 7 for 1000)" in str(found)


class Pair(nn.Module):
    """A network of two inputs, given by name, that gives a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)

    def forward(self, one: Tensor, two: Tensor) -> dict[str, Tensor]:
        return {"out": self.left(one) + self.right(two)}


def test_networks_take_what_they_take():
    attnbench.graft(Pair(), "eca", "left|right", example={"one": IMAGE, "two": IMAGE})
    attnbench.graft(Pair(), "eca", "left", example=(IMAGE, IMAGE))
    with pytest.raises(BadReference, match=r"the example does not run through Pair: TypeError: .*missing 1 required"):
        attnbench.graft(Pair(), "eca", "left", example=IMAGE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"at": "layer9"}, "at='layer9' matches no module; it could be one of bn1, layer"),
        ({"at": ["layer1.0.bn3"]}, r"no module is called 'layer1.0.bn3'.*layer1.0.bn"),
        ({"at": "fc"}, "'fc' cannot be a place: it gives 2 dimensions, not maps B C H W"),
        ({"at": ""}, "the network as a whole is no place"),
        ({"at": "("}, "no regular expression"),
        ({"at": "built-in"}, "ResNet was built without attention"),
        ({"at": "layer2", "position": "instead"}, "'layer2' changes the shape of its maps"),
        ({"position": "after"}, "position='after' is not one of 'behind', 'before', 'instead'"),
        ({"init": "Identity"}, "init='Identity' is not one of 'own', 'identity'; did you mean 'identity'"),
        ({"attention": "none"}, "none puts nothing anywhere"),
        ({"attention": "sse"}, "sse"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_and_changes_nothing(arguments, message):
    plain = torchvision("resnet18")
    names = list(plain.state_dict())
    with pytest.raises(BadReference, match=message) as problem:
        attnbench.graft(plain, **{"attention": "se", **arguments}, example=IMAGE)
    assert "\n" not in str(problem.value)
    assert list(plain.state_dict()) == names


def test_a_checkpoint_of_another_network_is_refused():
    grafted = attnbench.graft(torchvision("resnet18"), "se", example=IMAGE)
    with pytest.raises(BadReference, match="the checkpoint is of another network: 0 of 122 tensors"):
        attnbench.load_pretrained(grafted, torchvision("mobilenet_v3_small").state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), ARCHITECTURES)
def test_networks_of_many_kinds_start_as_they_were_keep_their_tensors_train_and_come_back(library, name):
    if library == "torchvision":
        trains_grafted(torchvision(name), LARGE.get(name, 64))
    else:
        import timm

        torch.manual_seed(1)
        trains_grafted(timm.create_model(name, pretrained=False, num_classes=10).eval(), LARGE.get(name, LARGE["timm"]))


def test_the_page_on_a_network_of_ones_own_runs_as_it_stands():
    page = (ROOT / "docs" / "own-network.md").read_text()
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), {})
