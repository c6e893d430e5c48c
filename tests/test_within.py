"""What a backbone holds by itself: attention that it was built with, and the size of image that it needs."""

import sys

import pytest
from conftest import TINY
from torch import nn

import attnbench
from attnbench.catalogue.registry import BACKBONES
from attnbench.errors import BadReference, ForeignError
from attnbench.networks.network import built_in

OWN = """
import torch
from torch import nn

class Scale(nn.Module):  # no name that tells
    def __init__(self, channels):
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1)
    def forward(self, x):
        return x * self.fc(self.pool(x)).sigmoid()

def gated(classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3), Scale(8), *plain(classes, in_channels)[1:])

def plain(classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))

def maps(classes, in_channels):
    return nn.Conv2d(in_channels, classes, 3)

def failing(classes, in_channels):
    class Fails(nn.Module):
        def forward(self, x):
            raise LookupError("planted")
    return Fails()

def looking(classes, in_channels):
    class Looks(nn.Sequential):
        def forward(self, x):
            return super().forward(x) if float(x.mean()) < 1e9 else x  # a value, which meta tensors have not
    return Looks(*plain(classes, in_channels))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)


@pytest.mark.parametrize(
    ("backbone", "kind", "number"),
    [
        ('torchvision(name="mobilenet_v3_small")', "SqueezeExcitation", 9),
        ('torchvision(name="regnet_y_400mf")', "SqueezeExcitation", 16),
        ('timm(name="ecaresnet26t")', "EcaModule", 8),
        ('timm(name="skresnet18")', "SelectiveKernelAttn", 8),
    ],
)
def test_attention_that_a_library_builds_in_is_found(backbone, kind, number):
    model = attnbench.network(backbone, "none", classes=10, image_size=64)
    assert list(built_in(model).values()) == [kind] * number


@pytest.mark.parametrize("backbone", [entry.name for entry in BACKBONES if entry.card.sites])
def test_our_own_backbones_hold_none_whatever_is_put_into_them(backbone):
    assert built_in(attnbench.network(backbone, "se", classes=10, image_size=32)) == {}


@pytest.mark.usefixtures("own")
def test_a_gate_is_known_by_what_it_does():
    assert built_in(attnbench.network("own_nets:gated", classes=10, image_size=16)) == {"1": "Scale"}
    assert built_in(attnbench.network("own_nets:plain", classes=10, image_size=16)) == {}


@pytest.mark.usefixtures("own")
def test_a_network_whose_forward_looks_at_values_is_taken_all_the_same():
    assert isinstance(attnbench.network("own_nets:looking", classes=10, image_size=16), nn.Module)


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ('torchvision(name="alexnet")', 32),
        ('torchvision(name="vit_b_32")', 32),
        ('timm(name="vit_tiny_patch16_224")', 32),
    ],
)
def test_images_that_are_too_small_are_refused_with_the_size_that_fits(backbone, size):
    with pytest.raises(BadReference, match=f"cannot take images of {size} px, but those of 224 px") as refused:
        attnbench.network(backbone, "none", classes=10, image_size=size)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("own")
def test_a_network_without_logits_is_refused_and_its_own_bug_keeps_its_place():
    with pytest.raises(BadReference, match="gives the shape 1x10x14x14 for one image, not 1x10 logits"):
        attnbench.network("own_nets:maps", classes=10, image_size=16)
    with pytest.raises(ForeignError, match="images of 16 px: LookupError: planted"):
        attnbench.network("own_nets:failing", classes=10, image_size=16)


@pytest.mark.slow
@pytest.mark.usefixtures("own")
def test_a_run_says_and_records_it_and_a_comparison_warns_of_it(attnbench, tmp_path, monkeypatch, data_dir):
    from attnbench import Store, compare

    monkeypatch.chdir(tmp_path)
    flags = ["--data-dir", data_dir, "--tracker", "none", "--backbone", "own_nets:gated", "--dataset", "digits"]
    flags += ["--epochs", 1, "--train-limit", TINY["train_limit"], "--test-limit", 32]
    told = attnbench("run", *flags)
    assert told.returncode == 0, told.stderr
    sentence = "own_nets:gated holds attention of its own, in the arm none too: 1 Scale, first at 1"
    assert told.stderr.splitlines() == [f"attnbench: {sentence}"]
    (record,) = Store("runs").records()
    assert record.input["built_in"] == {"1": "Scale"}
    assert sentence in compare([record]).warnings
    same = attnbench("same", "none", "none", "--backbone", "own_nets:gated", "--dataset", "digits")
    assert sentence in same.stdout
