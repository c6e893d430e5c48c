"""Somebody's own backbone or data set is checked as a mechanism is: a sound one passes, a fault breaks its promise."""

from pathlib import Path

import pytest

from attnbench.examine.conformance import outcomes

OWN = """
import numpy as np
import torch
from torch import nn
from attnbench.backbones import Backbone, backbone
from attnbench.data import Raw, Source, dataset

CARD = Backbone(title="Mine", sites={"block": r"body\\.1", "stage": r"body\\.1"}, image_size=16)


class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


@backbone("sound_net", CARD)
def sound(classes, in_channels):
    return Net(classes, in_channels)


@backbone("colour_net", CARD)
def colour_alone(classes, in_channels):
    return Net(classes, 3)


@backbone("fixed_net", CARD)
def always_the_same(classes, in_channels):
    torch.manual_seed(0)
    return Net(classes, in_channels)


class Normalising(Net):
    def forward(self, x):
        return super().forward(x - x.mean(0))


@backbone("batch_net", CARD)
def sees_neighbours(classes, in_channels):
    return Normalising(classes, in_channels)


class Idle(Net):
    def __init__(self, classes, channels):
        super().__init__(classes, channels)
        self.rest = nn.Linear(2, 2)


@backbone("idle_net", CARD)
def has_an_idle_layer(classes, in_channels):
    return Idle(classes, in_channels)


@backbone("lost_net", Backbone(title="Mine", sites={"block": "nowhere"}, image_size=16))
def names_no_site(classes, in_channels):
    return Net(classes, in_channels)


def made(seed=0, labels=4, count=40):
    draws = np.random.default_rng(seed)
    return draws.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8), np.arange(count) % labels


TWO = Source(title="Mine", classes=4, image_size=8, images={"train": 40, "test": 20})


@dataset("sound_data", TWO)
def sound_data(root, split):
    return Raw(*made(split == "test", count=40 if split == "train" else 20))


@dataset("short_data", TWO)
def fewer_than_its_card(root, split):
    return Raw(*made(split == "test", count=30 if split == "train" else 20))


@dataset("three_data", TWO)
def lacks_a_class(root, split):
    return Raw(*made(split == "test", labels=3, count=40 if split == "train" else 20))


@dataset("moody_data", TWO)
def other_each_time(root, split):
    return Raw(*made(np.random.default_rng().integers(1 << 30), count=40 if split == "train" else 20))


@dataset("leaky_data", TWO)
def tests_what_it_trains(root, split):
    return Raw(*made(0, count=40 if split == "train" else 20))
"""
FAULTS = [
    ("backbone", "colour_alone", "grey and of colour", "RuntimeError"),
    ("backbone", "sees_neighbours", "without its neighbours", "depend on its neighbours"),
    ("backbone", "always_the_same", "random stream", "seeds repeat nothing"),
    ("backbone", "has_an_idle_layer", "a gradient", "never uses rest.weight, rest.bias"),
    ("backbone", "names_no_site", "at every site", "matches no module"),
    ("dataset", "fewer_than_its_card", "reads every split", "train has 30 images; its card says 40"),
    ("dataset", "lacks_a_class", "every class", "no training image has the labels 3"),
    ("dataset", "other_each_time", "each time", "read twice, it gives other images"),
    ("dataset", "tests_what_it_trains", "in two splits", "20 images are in two splits"),
]


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "things_of_mine"
    package.mkdir()
    (package / "all.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("backbone", "things_of_mine.all:sound"), ("backbone", "resnet20"), ("backbone", "speednet"),
     ("dataset", "things_of_mine.all:sound_data"), ("dataset", "digits")],
)  # fmt: skip
def test_a_sound_one_keeps_every_promise(kind, name, data_dir):
    assert {sentence: found.word for sentence, found in outcomes(name, kind, data_dir) if found.word != "ok"} == {}


@pytest.mark.parametrize(("kind", "name", "promise", "needle"), FAULTS, ids=[fault[1] for fault in FAULTS])
def test_a_fault_breaks_its_promise_and_says_why(kind, name, promise, needle, data_dir):
    found = dict(outcomes(f"things_of_mine.all:{name}", kind, data_dir))
    (sentence,) = [each for each in found if promise in each]
    assert found[sentence].word == "FAILED"
    assert needle in " ".join(found[sentence].wrong)


def test_check_says_which_promises_are_kept(attnbench):
    done = attnbench("check", "things_of_mine.all:names_no_site", "--as", "backbone", "--data-dir", ".")
    assert (done.returncode, "keeps 5 of 6 promises" in done.stdout) == (1, True), done.stderr
    wrong = attnbench("check", "resnet2", "--as", "backbone")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "did you mean 'resnet20'" in wrong.stderr
