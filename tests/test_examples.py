"""The test images that a page shows: those on which two arms disagree most, where they are the runs' own."""

import base64
import io
import json
from collections import Counter
from pathlib import Path

import made
import numpy as np
import pytest
from made import text, tree
from PIL import Image
from sklearn.datasets import load_digits

from attnbench import Store, Study, compare
from attnbench.report import write

HOME = Path(__file__).parent.parent
RUNS = HOME / "results" / "quick"
IMAGES = {
    image.tobytes(): str(label)
    for image, label in zip(
        np.rint(load_digits().images * (255 / 16)).astype(np.uint8), load_digits().target, strict=True
    )
}
"""Every handwritten digit -> its class."""


def page(folder: Path, data_dir: Path | None):
    write(compare(Study.load(HOME / "src/attnbench/demo/quick.yaml"), Store(RUNS)), folder, data_dir)
    return tree((folder / "index.html").read_text())


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return page(tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("data")).find(".//table[@class='examples']")


def answers() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each arm the labels N and the predicted classes S x N, from the files."""
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for file in sorted(RUNS.glob("*/record.json")):
        name = json.loads(file.read_text())["canonical"]["attention"]
        found.setdefault(name, []).append(dict(np.load(file.with_name("predictions.npz"))))
    return {name: (runs[0]["labels"], np.stack([run["predicted"] for run in runs])) for name, runs in found.items()}


def test_a_picture_is_a_test_image_of_the_class_that_it_is_said_to_be(shown):
    rows = list(shown.find("tbody"))
    assert len(rows) > 4
    for row in rows:
        head, _, packed = row.find(".//img").get("src").partition(",")
        assert head == "data:image/png;base64"
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(packed))))
        assert IMAGES[pixels.tobytes()] == text(row.find("th"))


def test_the_answers_are_those_of_the_predictions(shown):
    """An image is known by what all arms say of it: the rows are the furthest apart there are."""
    arms, files = [text(one) for one in shown.find("thead/tr")][2:], answers()
    labels, gains = files[arms[0]][0], (files[arms[1]][1] == files[arms[1]][0]).mean(0)
    gains = gains - (files[arms[0]][1] == labels).mean(0)
    most = sorted(gains[gains > 0], reverse=True)[:5] + sorted(gains[gains < 0])[:5]
    rows = list(shown.find("tbody"))
    assert len(rows) == len(most)
    for row, gain in zip(rows, most, strict=True):
        name, *said = [text(one) for one in row][1:]
        told = [
            place
            for place in np.flatnonzero((gains == gain) & (labels == int(name)))
            if all(agrees(words, files[arm][1][:, place]) for arm, words in zip(arms, said, strict=True))
        ]
        assert told, (name, said)


def agrees(words: str, predicted: np.ndarray) -> bool:
    """Whether `7 (3 of 5)` is said of runs of which three answer 7, and none is answered more often."""
    name, number, _, runs = words.replace("(", "").replace(")", "").split()
    counts = Counter(predicted.tolist())
    return len(predicted) == int(runs) and counts[int(name)] == int(number) == max(counts.values())


@pytest.mark.parametrize("data_dir", [None, Path("not there")])
def test_without_a_folder_of_data_no_image_is_shown_and_none_is_made(tmp_path, monkeypatch, data_dir):
    monkeypatch.chdir(tmp_path)
    root = page(tmp_path / "page", data_dir)
    assert root.find(".//table[@class='examples']") is None
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_images_of_another_split_than_the_runs_are_not_shown(tmp_path):
    study = made.study(grid={"dataset": ["digits"], "attention": ["none", "se"]}, seeds=2)
    made.fill(tmp_path / "runs", study)
    write(compare(study, Store(tmp_path / "runs")), tmp_path / "page", tmp_path)
    assert tree((tmp_path / "page" / "index.html").read_text()).find(".//img") is None
