"""The contract of run_experiment.py, line by line."""

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import HANG, ROOT, patient
from PIL import Image
from torch import Tensor, nn

import attnbench
from attnbench import RunSpec, Store
from attnbench.store import mlflow as tracking
from attnbench.training import run as runner

SMALL = {"dataset": "digits", "train_limit": 64, "test_limit": 32, "image_size": 8, "epochs": 2}
FLAGS = [*(f"--{name}={value}" for name, value in SMALL.items()), "--attention_type"]
CIFAR = "0.4914 0.4822 0.4465 / 0.2023 0.1994 0.2010"
Printed = subprocess.CompletedProcess[str]
IMAGENET = "0.485 0.456 0.406 / 0.229 0.224 0.225"
EUROSAT = "0.3444 0.3803 0.4078 / 0.2034 0.1367 0.1148"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """run_experiment.py as a module."""
    spec = importlib.util.spec_from_file_location("run_experiment", ROOT / "run_experiment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Printed]:
    """The folder in which the command was given once with SE, and what it printed."""
    folder = tmp_path_factory.mktemp("classic")
    command = patient(ROOT / "run_experiment.py", *FLAGS, "se", "--data_dir", data_dir)
    plain = {name: value for name, value in os.environ.items() if "MLFLOW" not in name and "ATTN" not in name}
    done = subprocess.run(command, cwd=folder, env=plain, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def quietly(script, data_dir, monkeypatch):
    """Give the command inside this process, without MLflow."""
    for module in (tracking, runner):
        monkeypatch.setattr(module, "mirrored", lambda *_, **__: contextlib.nullcontext())
    return lambda *flags: script.main([*FLAGS, *flags, "--data_dir", str(data_dir)])


class Block(nn.Module):
    """The classic block: attention after the second batch norm, before the addition."""

    def __init__(self, channels: int, width: int, stride: int, attention: type[nn.Module] | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.attention = attention(width) if attention else nn.Identity()
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            down = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(down, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.attention(out) + self.shortcut(x))


class Classic(nn.Module):
    """The classic ResNet-18 with a 3x3 stem."""

    def __init__(self, channels: int, attention: type[nn.Module] | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        wide = 64
        for number, width in enumerate((64, 128, 256, 512), 1):
            stride = 1 if number == 1 else 2
            blocks = Block(wide, width, stride, attention), Block(width, width, 1, attention)
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            wide = width
        self.linear = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))


class SE(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        down, up = (
            nn.Linear(channels, channels // 16, bias=False),
            nn.Linear(channels // 16, channels, bias=False),
        )
        self.fc = nn.Sequential(down, nn.ReLU(inplace=True), up, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))[:, :, None, None]


class ChannelAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        down = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc = nn.Sequential(down, nn.ReLU(), nn.Conv2d(channels // 16, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc(F.adaptive_avg_pool2d(x, 1)) + self.fc(F.adaptive_max_pool2d(x, 1)))


class SpatialAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        planes = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], dim=1)
        return torch.sigmoid(self.conv1(planes))


class CBAM(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ca, self.sa = ChannelAttention(channels), SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.ca(x)
        return x * self.sa(x)


def spec_of(script: ModuleType, *flags: str) -> RunSpec:
    return script.classic_spec(script.parser().parse_args(flags))


def test_the_flags_and_their_defaults_are_the_classic_ones(script):
    flags = {flag: action.default for action in script.parser()._actions for flag in action.option_strings}
    classic = {
        "--attention_type": "none",
        "--epochs": 25,
        "--batch_size": 32,
        "--lr": 1e-3,
        "--weight_decay": 1e-4,
    }
    classic |= {"--experiment_name": "Visual Attention Benchmark", "--data_dir": "./data", "--seed": 0}
    classic |= {
        "--device": "auto",
        "--numerics": None,
        "--image_size": None,
        "--train_limit": None,
        "--test_limit": None,
    }
    assert {flag: flags[flag] for flag in classic} == classic
    assert flags.keys() - classic.keys() == {"--dataset", "-h", "--help"}
    assert [a.option_strings for a in script.parser()._actions if a.required] == [["--dataset"]]


@pytest.mark.parametrize(
    ("dataset", "size", "constants"),
    [
        ("CIFAR10", 32, CIFAR),
        ("CIFAR100", 32, CIFAR),
        ("Oxford102Flowers", 224, IMAGENET),
        ("EuroSAT", 224, EUROSAT),
    ],
)
def test_each_data_set_has_its_classic_size_and_constants_in_any_case(script, dataset, size, constants):
    for spelt in (dataset, dataset.lower(), dataset.upper()):
        spec = spec_of(script, "--dataset", spelt)
        assert (spec.dataset, spec.image_size, spec.normalise) == (dataset, size, constants)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("none", "none"),
        ("se", 'se(variant="classic")'),
        ("SE", 'se(variant="classic")'),
        ("cbam", 'cbam(variant="classic")'),
        ("constant", "constant"),
        ("se(reduction=8)", "se(reduction=8)"),
    ],
)
def test_an_attention_type_means_its_classic_variant(script, asked, meant):
    ours = spec_of(script, "--dataset", "CIFAR10", "--attention_type", asked)
    same = RunSpec(dataset="CIFAR10", attention=meant, image_size=32, normalise=CIFAR)
    assert ours.id == same.id


def test_the_recipe_is_the_classic_one(script):
    spec = spec_of(script, "--dataset", "CIFAR10")
    assert spec.backbone == 'resnet18(stem="cifar")'
    assert (spec.optimizer, spec.lr, spec.weight_decay) == ("adamw", 1e-3, 1e-4)
    assert (spec.schedule, spec.warmup, spec.epochs, spec.batch_size) == ("cosine-epoch", 0, 25, 32)
    assert (spec.augment, spec.label_smoothing, spec.val_fraction, spec.selection) == ("none", 0, 0, "last")
    assert (spec.train_fraction, spec.train_limit, spec.test_limit, spec.precision) == (1, None, None, "fp16")


def test_every_flag_reaches_the_run(script):
    given = {"epochs": 3, "batch_size": 8, "lr": 0.5, "weight_decay": 0.25, "seed": 7, "image_size": 64}
    given |= {"train_limit": 90, "test_limit": 20}
    spec = spec_of(script, "--dataset=EuroSAT", *(f"--{name}={value}" for name, value in given.items()))
    assert {name: getattr(spec, name) for name in given} == given


def test_it_prints_a_line_per_epoch_and_the_final_accuracy(trained):
    lines = trained[1].stdout.splitlines()
    for number, line in enumerate(lines[:2], 1):
        assert re.fullmatch(rf"Epoch {number}/2 -> Train Loss: \d+\.\d{{4}}, Train Acc: \d+\.\d{{2}}%", line)
    assert re.fullmatch(r"FINAL TEST ACCURACY: \d+\.\d{2}%", lines[2])
    assert len(lines) == 3
    (record,) = Store(trained[0] / "runs").records()
    assert lines[2] == f"FINAL TEST ACCURACY: {record.accuracy:.2f}%"


@pytest.mark.parametrize(("attention", "kind"), [("none", None), ("se", SE), ("cbam", CBAM)])
def test_the_weights_load_into_the_classic_class_and_compute_the_same(quietly, attention, kind):
    quietly(attention, "--epochs=1", "--train_limit=32")
    classic = Classic(1, kind)
    saved = torch.load(f"saved_models/digits_{attention}_model.pth", weights_only=True)
    classic.load_state_dict(saved, strict=True)
    (record,) = Store("runs").records()
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(classic.eval()(x), attnbench.load(record).model(x), rtol=1e-5, atol=1e-6)


LOOK = """
import json
from mlflow import MlflowClient
client = MlflowClient()
(experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
(run,) = client.search_runs([experiment.experiment_id])
key, data = run.info.run_id, run.data
curves = {name: [[m.step, m.value] for m in client.get_metric_history(key, name)] for name in data.metrics}
seen = {"experiment": experiment.name, "status": run.info.status, "params": data.params, "curves": curves}
seen |= {"artifacts": [a.path for a in client.list_artifacts(key)], "uri": run.info.artifact_uri}
print(json.dumps(seen))
"""


def test_a_bare_mlflow_in_the_same_folder_shows_the_run(trained):
    folder, _ = trained
    command = [sys.executable, "-c", LOOK]
    look = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HANG)
    seen = json.loads(look.stdout.splitlines()[-1])
    (record,) = Store(folder / "runs").records()
    assert (seen["experiment"], seen["status"]) == ("Visual Attention Benchmark", "FINISHED")
    params = {"dataset": "digits", "attention_type": "se", "epochs": "2", "batch_size": "32", "lr": "0.001"}
    assert seen["params"] == params | {
        "weight_decay": "0.0001",
        "experiment_name": "Visual Attention Benchmark",
    }
    curves = {key: [[p["epoch"], p[key]] for p in record.curves] for key in ("train_loss", "train_accuracy")}
    final = seen["curves"].pop("final_test_accuracy")
    assert seen["curves"] == curves
    assert [value for _, value in final] == [record.accuracy]
    saved = folder / "saved_models" / "digits_se_model.pth"
    assert saved.name in seen["artifacts"]
    assert Path(seen["uri"].removeprefix("file://"), saved.name).read_bytes() == saved.read_bytes()


def test_the_same_command_again_does_not_train_again(quietly, trained, monkeypatch, capsys):
    folder, first = trained
    monkeypatch.chdir(folder)
    monkeypatch.setattr(runner, "training", lambda *_: pytest.fail("trained again"))
    saved = Path("saved_models/digits_se_model.pth")
    before = saved.read_bytes()
    saved.unlink()
    quietly("se")
    assert capsys.readouterr().out.splitlines()[-3:] == first.stdout.splitlines()
    assert saved.read_bytes() == before


def test_a_folder_of_images_is_trained_and_its_weights_have_a_name_without_slashes(quietly):
    draws = np.random.default_rng(0)
    for label in ("a", "b"):
        Path("mine/train", label).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8)).save(f"mine/train/{label}/{number}.png")
    where = Path("mine/train").resolve()
    quietly("none", "--epochs=1", "--dataset", f'imagefolder(path="{where}")')
    (saved,) = Path("saved_models").iterdir()
    assert saved.name.startswith("imagefolder(path=")
    assert saved.name.endswith("train-)_none_model.pth")


def test_weights_that_could_not_be_saved_are_refused_before_training(quietly, monkeypatch, capsys):
    monkeypatch.setattr(runner, "training", lambda *_: pytest.fail("trained"))
    Path("saved_models").write_text("in the way")
    with pytest.raises(SystemExit) as ended:
        quietly("none")
    assert ended.value.code == 2
    assert "saved_models/ cannot be written" in capsys.readouterr().err


def test_the_environment_names_the_data_folder(script, monkeypatch):
    monkeypatch.setenv("ATTNBENCH_DATA_DIR", "elsewhere")
    assert script.parser().parse_args(["--dataset", "digits"]).data_dir == "elsewhere"


@pytest.mark.parametrize(
    ("flags", "needle"),
    [
        (["--attention_type", "sse"], "did you mean 'se'?"),
        (["--attention_type", "se(reduction="], "cannot be read"),
        (["--epochs", "0"], "epochs"),
        (["--lr", "-1"], "lr"),
        (["--dataset", "CIFAR11"], "CIFAR10"),
        (["--epochs", "many"], "many"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(script, capsys, flags, needle):
    with pytest.raises(SystemExit) as ended:
        script.main(["--dataset", "digits", *flags])
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("usage:", " "))]
    assert ended.value.code == 2
    assert len(said) == 1, "argparse's usage may stand above it"
    assert needle in said[0]
    assert not Path("runs").exists()
