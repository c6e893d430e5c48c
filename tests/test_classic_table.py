"""scripts/classic_table.sh: the twelve cells of the classic table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANG, ROOT

SCRIPT = ROOT / "scripts" / "classic_table.sh"
DATASETS = ("CIFAR10", "CIFAR100", "Oxford102Flowers", "EuroSAT")


def table(*flags: str, **environment: str) -> list[str]:
    """The lines that the script prints."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", str(SCRIPT), *flags]
    done = subprocess.run(
        command, env=os.environ | {"PATH": path} | environment, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_twelve_cells_are_runs_of_the_classic_command():
    *cells, last = table("--seed", "1", DRY="1")
    run = f"+ python {ROOT}/run_experiment.py"
    wanted = [(dataset, attention) for dataset in DATASETS for attention in ("none", "se", "cbam")]
    assert cells == [f"{run} --dataset {data} --attention_type {name} --seed 1" for data, name in wanted]
    assert last == "+ attnbench report runs"


@pytest.mark.slow
def test_its_cells_end_in_a_table(data_dir):
    flags = ("--epochs", "1", "--train_limit", "32", "--test_limit", "32", "--image_size", "8")
    told = table(*flags, DATASETS="digits", ATTNBENCH_DATA_DIR=str(data_dir))
    assert len([line for line in told if line.startswith("FINAL TEST ACCURACY")]) == 3
    assert Path("reports/records/index.html").is_file() or list(Path("reports").glob("*/index.html"))
    assert any("cbam" in line and "none" in line for line in told)
