"""A user's afternoon: another gate in a pretrained network, fine-tuned, exported, quantised, timed, and used."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnbench.store.runs import Store

pytestmark = pytest.mark.slow
NETWORK = 'torchvision(name="mobilenet_v3_small")'


def test_from_a_pretrained_network_to_a_photo(unpacked, attnbench, tmp_path):
    from torchvision import models

    images = unpacked("eurosat/eurosat-part1.tar.gz", "eurosat/eurosat-part2.tar.gz")
    torch.manual_seed(0)
    torch.save(models.mobilenet_v3_small(num_classes=10).state_dict(), "mine.pt")  # as somebody has it from elsewhere
    fields = ["--dataset", "EuroSAT", "--image-size", 64, "--train-limit", 256, "--test-limit", 128, "--epochs", 1]
    tuned = ["--weights", "mine.pt", "--freeze", r"pattern:features\.[0-3]\..*", "--backbone-lr", "0.5"]
    exchange = ["--backbone", NETWORK, "--site", "se", "--attention", "eca"]
    place = ["--data-dir", images, "--tracker", "none"]
    trained = attnbench("run", *fields, *tuned, *exchange, *place)
    assert trained.returncode == 0, trained.stderr
    (record,) = Store("runs").records()
    assert record.initial["sha256"]
    assert record.numerics["threads"] == 1

    exported = attnbench("export", record.id, "--to", "onnx", "--int8", "--data-dir", images)
    assert exported.returncode == 0, exported.stderr
    plain = attnbench("export", record.id, "--to", "onnx", "--data-dir", images)
    assert plain.returncode == 0, plain.stderr
    files = sorted(Path.cwd().glob("*.onnx"))
    assert len(files) == 2, plain.stdout

    profiled = attnbench(
        "profile", "eca", "--runtime", "onnxruntime", "--backbone", NETWORK, "--site", "se", "--image-size", "64",
        "--batch-sizes", "1", "--rounds", "7", "--out", "costs",
    )  # fmt: skip
    assert profiled.returncode == 0, profiled.stderr
    assert "eca" in next(Path("costs").rglob("runtimes.md")).read_text()

    photo = next(Path(images).rglob("River_1.jpg"))
    said = attnbench("predict", record.id, photo)
    assert said.returncode == 0, said.stderr
    script = "import " + plain.stdout.partition("import ")[2].partition("\nlogits differ")[0].replace(
        "photo.jpg", str(photo)
    )
    alone = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['attnbench'] = None\n" + script],
        capture_output=True,
        text=True,
    )
    assert alone.returncode == 0, alone.stderr
    (name,) = {name for name in record.input["names"] if name in alone.stdout}
    assert name in said.stdout
