"""What trains works where MLflow, Altair and scikit-learn are not installed: they are imported where they are used."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HANG, ROOT

ABSENT = ("mlflow", "altair", "vl_convert", "jinja2", "sklearn", "optuna")
FIELDS = {
    "dataset": "stripes:stripes",
    "backbone": "resnet20(widths=(4, 8, 8))",
    "image_size": 16,
    "epochs": 1,
    "normalise": "train",
}
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in FIELDS.items()]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def without(tmp_path: Path) -> Call:
    """Run Python in this test's folder as if `ABSENT` were not installed, its children included."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n")
    path = os.pathsep.join(map(str, (tmp_path, ROOT / "src", ROOT / "tests")))

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        env = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=HANG)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return call


@pytest.mark.slow
def test_a_run_is_trained_evaluated_and_shown_without_them(without, tmp_path):
    without("-m", "attnbench", "run", *FLAGS, "--attention=se", "--tracker=none")
    (run,) = (tmp_path / "runs").glob("*/record.json")
    without("-m", "attnbench", "evaluate", run.parent, "--gate=mean", "--code=stripes:stripes")
    assert "eca" in without("-m", "attnbench", "list", "attention").stdout


@pytest.mark.slow
def test_a_study_is_trained_without_them(without, tmp_path):
    plan = {"name": "small", "base": FIELDS, "grid": {"attention": ["none", "eca"]}, "seeds": 1}
    (tmp_path / "small.yaml").write_text(json.dumps(plan))
    without("-m", "attnbench", "study", "small.yaml", "--tracker=none", "--jobs=2")
    assert len(list((tmp_path / "runs").glob("*/record.json"))) == 2


def test_the_classic_command_says_in_one_line_that_mlflow_is_missing(without, tmp_path):
    classes = [tmp_path / "images" / part / name for part in ("train", "test") for name in ("a", "b")]
    without("-c", WRITTEN, *classes)
    data = f'imagefolder(path="{tmp_path}/images/train", test="{tmp_path}/images/test")'
    done = without(ROOT / "run_experiment.py", "--dataset", data, "--image_size=8", "--epochs=1", "--batch_size=4")
    assert "FINAL TEST ACCURACY" in done.stdout
    assert [line for line in done.stderr.splitlines() if "MLflow" in line] == [
        "attnbench: MLflow is not installed: runs are kept in the store alone; `attnbench sync` sends them once it is"
    ]


WRITTEN = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
draws = np.random.default_rng(0)
for folder in map(Path, sys.argv[1:]):
    folder.mkdir(parents=True)
    for number in range(4):
        Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{number}.png")
"""
"""Writes four pictures into each of the folders that it is given."""
