"""Networks of torchvision and timm: any channels and classes, pretrained weights, and what is refused."""

import sys
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from attnbench import RunSpec, network
from attnbench.catalogue.registry import BACKBONES
from attnbench.errors import BadReference, BadSpec

TINY = {"torchvision": "mobilenet_v3_small", "timm": "mobilenetv3_small_050"}
EACH = pytest.mark.parametrize("library", ["torchvision", "timm"])
FROM = {"torchvision": 'torchvision(name="{}", pretrained=True)', "timm": 'timm(name="{}", pretrained=True)'}


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def weights(model: nn.Module, folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Random weights, as if trained, in the file that torchvision would have fetched."""
    torch.manual_seed(5)
    state = {
        key: torch.rand_like(value) if value.is_floating_point() else value for key, value in model.state_dict().items()
    }
    file = folder / "hub" / "checkpoints" / Path(torchvision.models.get_model_weights(name).DEFAULT.url).name
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    return state


@pytest.fixture
def trained(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Weights of the library's tiny network at 1,000 classes, which the library takes for its pretrained ones."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    if library == "torchvision":
        return weights(torchvision.models.get_model(TINY[library]), tmp_path, TINY[library])
    timm = pytest.importorskip("timm")
    state = timm.create_model(TINY[library]).state_dict()
    state = {key: torch.rand_like(value) if value.is_floating_point() else value for key, value in state.items()}
    torch.save(state, tmp_path / "weights.pth")
    create, overlay = timm.create_model, {"file": str(tmp_path / "weights.pth")}
    monkeypatch.setattr(timm, "create_model", lambda name, **more: create(name, pretrained_cfg_overlay=overlay, **more))
    return state


@EACH
@pytest.mark.parametrize("attention", ["none", "se"])
def test_pretrained_weights_are_loaded_before_the_mechanism_is_put_in(library, attention, trained):
    site = r"pattern:(features|blocks)\.3"
    model = network(FROM[library].format(TINY[library]), attention, classes=7, image_size=64, site=site)
    now = {
        key.replace("features.3.0.", "features.3.").replace("blocks.3.0.0", "blocks.3.0"): value
        for key, value in model.state_dict().items()
    }
    *body, weight, _ = trained
    kept = [key for key in body if attention == "none" or ".3." not in key]
    assert all(torch.equal(now[key], trained[key]) for key in kept)
    assert now[weight].shape == (7, trained[weight].shape[1])
    assert model(images(2, 3, 64, 64)).shape == (2, 7)


@EACH
def test_a_pretrained_classifier_stays_where_the_classes_are_as_many(library, trained):
    state = network(FROM[library].format(TINY[library]), classes=1000).state_dict()
    assert all(torch.equal(state[key], trained[key]) for key in trained)


@EACH
def test_pretrained_a_grey_image_gives_what_its_three_equal_channels_gave(library, trained):
    colour, grey = (network(FROM[library].format(TINY[library]), in_channels=n).double().eval() for n in (3, 1))
    x = images(1, 1, 64, 64).double()
    torch.testing.assert_close(grey(x), colour(x.expand(1, 3, 64, 64)))


@pytest.mark.parametrize("library", ["torchvision"])
def test_pretrained_more_channels_that_are_equal_give_what_three_gave(library, trained):
    three, five = (network(FROM[library].format(TINY[library]), in_channels=n).double().eval() for n in (3, 5))
    x = images(1, 1, 64, 64).double()
    torch.testing.assert_close(five(x.expand(1, 5, 64, 64)), three(x.expand(1, 3, 64, 64)))


def test_a_classifier_that_is_a_convolution_is_replaced_too(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights(torchvision.models.get_model("squeezenet1_1"), tmp_path, "squeezenet1_1")
    model = network('torchvision(name="squeezenet1_1", pretrained=True)', classes=6)
    assert model(images(2, 3, 64, 64)).shape == (2, 6)


@EACH
@pytest.mark.parametrize("channels", [1, 5])
def test_takes_other_channels_and_learns(library, channels):
    pytest.importorskip(library)
    model = network(f'{library}(name="{TINY[library]}")', classes=4, in_channels=channels)
    model(images(2, channels, 64, 64)).sum().backward()
    first = next(model.parameters())
    assert first.shape[1] == channels
    assert first.grad.any()


def test_a_new_first_convolution_is_drawn_like_the_old():
    colour, grey = (next(network('torchvision(name="resnet18")', in_channels=n).parameters()) for n in (3, 1))
    assert abs(float(grey.detach().std() / colour.detach().std()) - 1) < 0.1


@EACH
def test_initial_weights_depend_on_the_seed_alone(library):
    pytest.importorskip(library)
    reference = f'{library}(name="{TINY[library]}")'
    one, two, other = (network(reference, classes=5, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert all(not torch.equal(one[key], other[key]) for key in one if one[key].ndim == 4)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_network_with_more_than_one_answer_gives_one(name):
    backbone = BACKBONES.resolve(f'torchvision(name="{name}")')
    with torch.device("meta"):
        assert backbone.construct(10, 3)(torch.empty(2, 3, 96, 96)).shape == (2, 10)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_pretrained_weights_of_a_network_with_more_than_one_answer_are_taken(name, monkeypatch):
    from torchvision import models

    whole = models.get_model(name, weights=None, init_weights=False, aux_logits=True).state_dict()
    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", lambda *_, **__: whole)
    model = BACKBONES.resolve(f'torchvision(name="{name}", pretrained=True)').construct(10, 3)
    assert not [key for key in model.state_dict() if "aux" in key.lower()]
    assert torch.equal(model.state_dict()[first := next(iter(model.state_dict()))], whole[first])
    assert model.train()(torch.zeros(2, 3, 96, 96)).shape == (2, 10)


def test_weights_that_were_cut_off_are_named_with_what_to_delete(monkeypatch):
    from torchvision import models

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("PytorchStreamReader failed reading zip archive")

    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", broken)
    with pytest.raises(BadReference, match=r"failed reading zip archive; if .*/checkpoints/resnet18-\w+\.pth is"):
        BACKBONES.resolve('torchvision(name="resnet18", pretrained=True)').construct(10, 3)


def refused(reference: str, **fields: object) -> str:
    with pytest.raises(BadReference) as caught:
        network(reference, classes=5, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("reference", "needle"),
    [
        ('torchvision(name="resnet5O")', "did you mean 'resnet50'?"),
        ('torchvision(name="fcn_resnet50")', "no classification network"),
        ("torchvision(name=50)", "must be a str"),
        ("torchvision(pretrained=1)", "must be a bool"),
        ('timm(name="resnet5O")', "did you mean 'resnet50'?"),
        ('timm(name="resnet50.no_such_tag")', "no_such_tag"),
        ('resnet34(stem="cifra")', "is not one of 'imagenet', 'cifar'"),
        ("resnet32(widths=(1, 2))", "3 positive whole numbers"),
        ("preact_resnet20(widths=(1, 2))", "3 positive whole numbers"),
        ("preact_resnet20(widths=())", "3 positive whole numbers"),
        ("wrn(depth=27)", "must be 6n + 4"),
        ("wrn(widen=0)", "at least 1"),
        ("wrn(dropout=1.0)", "below 1"),
        ("vgg(depth=12)", "is not one of 11, 13, 16, 19"),
        ("densenet(depth=101)", "must be 6n + 4"),
        ("densenet(growth=0)", "at least 1"),
        ("mobilenet_v2(width=0)", "must be above 0"),
        ("convnext_tiny(drop_path=-0.1)", "at least 0"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(reference, needle):
    if reference.startswith("timm"):
        pytest.importorskip("timm")
    assert needle in refused(reference)


def test_without_timm_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "pip install timm" in refused("timm")


def test_weights_that_cannot_be_fetched_are_named_in_one_line(tmp_path, monkeypatch):
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    assert "cannot be fetched" in refused("torchvision(pretrained=True)")


def test_channels_that_a_network_cannot_take_are_refused():
    assert "vit" in refused('torchvision(name="vit_b_16", pretrained=True)', in_channels=1)


def test_a_network_without_named_sites_is_answered_with_what_could_be_one():
    told = refused('torchvision(name="shufflenet_v2_x0_5")', attention="se")
    assert r"give pattern:REGEX; it could be one of conv\d+\.1, stage\d+\.\d+\.branch\d+\.1" in told
    assert told.count(", ") <= 13


def test_what_could_be_a_site_is_a_pattern_that_matches():
    told = refused('torchvision(name="shufflenet_v2_x0_5")', attention="se", site="pattern:nowhere")
    kinds = told.partition("one of ")[2].removesuffix(", ...").split(", ")
    assert 3 < len(kinds) <= 12
    for kind in kinds:
        network('torchvision(name="shufflenet_v2_x0_5")', "se", classes=5, site=f"pattern:{kind}")


def test_a_run_with_a_librarys_network_knows_the_sites_of_its_family():
    known = {"dataset": "digits", "attention": "se", "site": "block"}
    assert RunSpec(backbone='torchvision(name="resnet18")', **known).id
    with pytest.raises(BadSpec, match="give pattern:REGEX"):
        RunSpec(backbone='torchvision(name="shufflenet_v2_x0_5")', **known)


@pytest.mark.parametrize("stages", [(1,), (3, 4)])
def test_stages_of_a_network_that_counts_otherwise_are_counted_from_1(stages):
    model = network('torchvision(name="convnext_tiny")', "se", 5, image_size=32, stages=stages)
    places = {path.split(".")[1] for path, module in model.named_modules() if type(module).__name__ == "SE"}
    assert places == {str(2 * stage - 1) for stage in stages}
