"""`load` and `attnbench predict`: the predictor that was tested, and nothing else under its name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from attnbench import RunSpec, Runtime, load, run
from attnbench.data.splits import load_splits
from attnbench.errors import AttnbenchError
from attnbench.store.runs import RunRecord
from attnbench.training.predictor import predict_files

CLASSES = ("apple", "pear")
Trained = Callable[[str], tuple[RunRecord, Runtime, list[Path]]]


def pictures(folder: Path) -> None:
    """Noise in a colour of its own for each class, at a size that is not the trained one."""
    draws = np.random.default_rng(0)
    for place, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            values = draws.integers(0, 256, (17, 23, 3), np.uint8)
            values[..., place] //= 2
            Image.fromarray(values).save(folder / name / f"{number:02}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on a folder of images, tested with mirror images or without, and the files of its test images."""
    home = tmp_path_factory.mktemp("predictor")
    pictures(home / "mine")
    runtime = Runtime(store=str(home / "runs"), data_dir=str(home), tracker="none")

    def train(tta: str) -> tuple[RunRecord, Runtime, list[Path]]:
        fields = {**TINY, "dataset": 'imagefolder(path="mine")', "image_size": 12, "batch_size": 3, "tta": tta}
        record = run(RunSpec(**fields), runtime)
        test = load_splits(RunSpec.of(record.spec), home).test
        return record, runtime, [home / "mine" / test.source.files[index] for index in test.indices]

    return train


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_the_files_of_a_runs_own_test_images_get_exactly_the_stored_predictions(trained, tta):
    record, runtime, files = trained(tta)
    names, logits = predict_files(record, files, runtime)
    stored = np.load(Path(record.folder) / "predictions.npz")
    assert names == CLASSES
    assert logits.argmax(1).tolist() == stored["predicted"].tolist()
    assert np.array_equal(logits.numpy().astype(np.float16), stored["logits"])


@pytest.mark.parametrize("tta", ["none", "flip"])
@pytest.mark.parametrize("divisor", [None, 255])
def test_a_loaded_run_gives_what_was_tested_from_bytes_and_from_floats(trained, tta, divisor):
    record, runtime, _ = trained(tta)
    test = load_splits(RunSpec.of(record.spec), runtime.data_dir).test
    images = torch.from_numpy(np.array(test.source.images[test.indices])).permute(0, 3, 1, 2)
    net = load(record)
    with torch.inference_mode():
        logits = net(images if divisor is None else images / divisor)
    stored = np.load(Path(record.folder) / "predictions.npz")["logits"]
    assert (net.names, net.spec.tta) == (CLASSES, tta)
    torch.testing.assert_close(logits, torch.from_numpy(stored).float(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "images of shape 2x3x16x16: this run takes Bx3x12x12; resize"),
        (torch.zeros(2, 1, 12, 12), "takes Bx3x12x12"),
        (torch.zeros(3, 12, 12), "takes Bx3x12x12"),
        (torch.full((2, 3, 12, 12), 200.0), "float images from 200 to 200: this run takes floats in 0..1"),
        (torch.full((2, 3, 12, 12), -0.5), "from -0.5 to -0.5"),
        (torch.full((2, 3, 12, 12), torch.nan), "from nan to nan"),
        (torch.zeros(2, 3, 12, 12, dtype=torch.int64), "images of type torch.int64"),
    ],
)
def test_other_images_than_the_run_takes_are_refused_in_one_line(trained, images, says):
    with pytest.raises(AttnbenchError) as refused:
        load(trained("none")[0])(images)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_predict_prints_a_line_for_each_file_with_the_most_probable_classes(trained, attnbench):
    record, runtime, files = trained("flip")
    done = attnbench("predict", record.id, *files[:2], "--top", 2, "--store", runtime.store)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [str(file) for file in files[:2]]
    for line in lines:
        _, first, one, _, second, two, _ = line.split()
        assert {first, second} == set(CLASSES)
        assert float(one) >= float(two)
        assert float(one) + float(two) == pytest.approx(100, abs=0.02)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no such file"), (b"<!DOCTYPE html>", "readable image")], ids=["missing", "no image"]
)
def test_a_file_that_is_no_image_is_one_line(trained, attnbench, content, says):
    record, runtime, _ = trained("none")
    if content is not None:
        Path("a.png").write_bytes(content)
    done = attnbench("predict", record.id, "a.png", "--store", runtime.store)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "a.png" in done.stderr
    assert says in done.stderr
