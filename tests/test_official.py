"""Official data sets as folders of images, and what differs from the official images."""

import dataclasses
import hashlib
import io
import runpy
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SHARED
from PIL import Image
from test_download import READERS, cifar

from attnbench import RunSpec, Runtime, run
from attnbench.catalogue.registry import DATASETS
from attnbench.data import official
from attnbench.data.splits import Splits, load_splits
from attnbench.errors import DataProblem
from attnbench.examine.datasets import check

NAMES = DATASETS.find("CIFAR10").card.names
PLACES = pytest.mark.parametrize(
    "form", [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})], ids=lambda form: form[0]
)


def load(root: Path, name: str = "CIFAR10", **fields: object) -> Splits:
    return load_splits(RunSpec(dataset=name, **fields), root)


def fingerprints(splits: Splits) -> tuple[str, str]:
    return splits.data_fingerprint, splits.split_fingerprint


@pytest.fixture
def pickles(monkeypatch: pytest.MonkeyPatch) -> Path:
    """24 images in CIFAR-10's official layout."""
    cifar(Path("pickles"), "CIFAR10", monkeypatch)
    return Path("pickles")


def as_folder(root: Path, goal: Path, form: str = "PNG", names: tuple[str, ...] = NAMES, **options: object) -> Path:
    """The images of official files as a folder of images, under names that say nothing of their order."""
    for part in (True, False):
        reader = READERS["CIFAR10"](root, train=part)
        for number, (pixels, label) in enumerate(zip(reader.data, reader.targets, strict=True)):
            folder = goal / "CIFAR10" / ("train" if part else "test") / names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{97 * number % 101}.{form.lower()}", form, **options)
    return goal


@PLACES
def test_official_files_and_a_lossless_folder_of_them_are_one_data_set(form, pickles):
    as_folder(pickles, Path("folder"), form[0], **form[1])
    one, other = (load(root, val_fraction=0.25) for root in (pickles, Path("folder")))
    assert fingerprints(other) == fingerprints(one)
    assert other.train.source.names == one.train.source.names == NAMES
    np.testing.assert_array_equal(other.train.labels, one.train.labels)


@PLACES
def test_a_run_on_a_lossless_folder_has_the_weights_of_one_on_the_official_files(form, pickles):
    as_folder(pickles, Path("folder"), form[0], **form[1])
    spec = RunSpec(
        dataset="CIFAR10", backbone="resnet20(widths=(4, 8, 8))", epochs=1, batch_size=7, augment="crop+flip"
    )
    records = [run(spec, Runtime(data_dir=d, store=f"runs of {d}", tracker="none")) for d in ("pickles", "folder")]
    assert records[0].weights_sha256 == records[1].weights_sha256


SPELLINGS = {
    "other cases and signs": tuple(f" {name.upper()}_" for name in NAMES),
    "from 0": tuple(str(number) for number in range(10)),
    "from 1": tuple(str(number) for number in range(1, 11)),
    "with zeros": tuple(f"{number:03d}" for number in range(10)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_class_folders_are_found_by_name_or_number(spelling, pickles):
    as_folder(pickles, Path("folder"), names=SPELLINGS[spelling])
    for label in ("0", "10") if spelling == "from 1" else ("0", "9") if spelling.startswith("from") else ():
        Path("folder/CIFAR10/train", label if spelling == "from 0" or label == "10" else "1").mkdir(exist_ok=True)
    if spelling == "with zeros":
        Path("folder/CIFAR10/train/000").mkdir(exist_ok=True)
    assert fingerprints(load(Path("folder"))) == fingerprints(load(pickles))


def test_official_files_go_before_a_folder_of_images(pickles):
    as_folder(pickles, pickles)
    for file in Path("pickles/CIFAR10/train").rglob("*.png"):
        file.write_text("broken")
    assert len(load(pickles).train) == 20


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/cat"], r"CIFAR10/test is not there; CIFAR10/\{train,test\}/CLASS/\* are expected"),
        (["train/cat", "train/plane", "test/cat"], "train/plane is none of the classes airplane, automobile"),
        (["train/3", "test/4"], "neither class 0 nor class 10"),
        (
            ["train/0", "test/10"],
            "train/10: there are 10 classes|test/10: there are 10 classes|numbered from 0 or from 1",
        ),
        (["train/11", "test/0"], "11: there are 10 classes"),
    ],
)
def test_a_folder_whose_classes_cannot_be_told_is_refused(folders, message, pickles):
    for folder in folders:
        Path("folder/CIFAR10", folder).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(Path("folder/CIFAR10", folder, "a.png"))
    with pytest.raises(DataProblem, match=message):
        load(Path("folder"))


@pytest.mark.parametrize("layout", ["EuroSAT", "EuroSAT/train and EuroSAT/test"])
def test_a_data_set_without_official_splits_is_one_folder_or_the_union_of_its_split_folders(layout):
    draws = np.random.default_rng(0)
    for number in range(20):
        part = layout.split(" and ")[number % 2 if "and" in layout else 0]
        folder = Path("data", part, ("AnnualCrop", "Sea Lake")[number // 10])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / f"{number}.png")
    splits = load(Path("data"), "EuroSAT")
    assert (len(splits.train), len(splits.test)) == (16, 4)
    assert set(splits.train.source.labels.tolist()) == {0, 9}


# --- What differs from the official images ---------------------------------------------------------------------------


@pytest.fixture
def folder(pickles: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of images with a card and a list that say that these 24 are the official ones."""
    monkeypatch.setattr(official, "HOME", Path("official").resolve())
    official.listed.cache_clear()
    splits, entry = load(pickles), DATASETS.find("CIFAR10")
    sources = {"train": splits.train.source, "test": splits.test.source}
    official.write("CIFAR10", {part: (source.keys, source.labels) for part, source in sources.items()})
    official.listed.cache_clear()
    digests = {part: official.digest(source.keys, source.labels) for part, source in sources.items()}
    card = dataclasses.replace(entry.card, images={"train": 20, "test": 4}, digests=digests)
    monkeypatch.setitem(DATASETS._entries, "cifar10", dataclasses.replace(entry, card=card))
    yield as_folder(pickles, Path("folder"))
    official.listed.cache_clear()


def checked(root: Path) -> tuple[int, list[str]]:
    said = io.StringIO()
    with redirect_stdout(said):
        code = check("CIFAR10", root)
    return code, said.getvalue().splitlines()


def told(root: Path, part: str) -> list[str]:
    """What is said of a split; something must be wrong with it."""
    code, lines = checked(root)
    assert code == 1
    return [line.removeprefix(part).strip() for line in lines if line.startswith(part) and "classes" not in line]


def some(folder: Path, part: str = "train") -> Path:
    """One image of a split, always the same."""
    return min((folder / "CIFAR10" / part).rglob("*.png"))


def test_official_images_are_said_to_be(folder, capsys):
    code, lines = checked(folder)
    assert code == 0
    assert "train  20 of 20 images are the official ones" in lines
    assert "test   4 of 4 images are the official ones" in lines
    assert "official" not in capsys.readouterr().err


def test_one_wrong_pixel_is_named(folder):
    file = some(folder)
    picture = Image.open(file)
    red, green, blue = picture.getpixel((5, 3))
    picture.putpixel((5, 3), (red ^ 1, green, blue))
    picture.save(file)
    name = f"{file.parent.name}/{file.name} ({file.parent.name})"
    assert told(folder, "train") == [
        "19 of 20 images are the official ones",
        f"{name} has pixels of no official image",
        f"1 official image missing: {file.parent.name} 1",
    ]


def test_one_wrong_label_is_named(folder):
    file = some(folder)
    other = next(name for name in NAMES if name != file.parent.name)
    (folder / "CIFAR10/train" / other).mkdir(exist_ok=True)
    file.rename(folder / "CIFAR10/train" / other / "moved.png")
    assert told(folder, "train") == [
        "19 of 20 images are the official ones",
        f"{other}/moved.png ({other}) is officially {file.parent.name}",
    ]


def test_one_missing_image_is_counted_by_its_class(folder):
    file = some(folder)
    file.unlink()
    assert told(folder, "train") == [
        "19 of 20 images are the official ones",
        f"1 official image missing: {file.parent.name} 1",
    ]


def test_an_image_of_another_split_is_named(folder):
    file = some(folder, "test")
    goal = folder / "CIFAR10/train" / file.parent.name
    goal.mkdir(exist_ok=True)
    shutil.copy(file, goal / "leak.png")
    leak = f"{file.parent.name}/leak.png ({file.parent.name}) is an official test image"
    assert told(folder, "train") == ["20 of 20 images are the official ones", leak]


def test_an_image_that_is_there_twice_is_named(folder):
    file = some(folder)
    shutil.copy(file, file.with_name("zz.png"))
    (whole, twice) = told(folder, "train")
    assert whole == "20 of 20 images are the official ones"
    assert twice.endswith("is there more often than officially")


def test_of_many_wrong_images_some_are_named_and_the_others_counted(folder):
    for file in (folder / "CIFAR10/train").rglob("*.png"):
        Image.open(file).rotate(90).save(file)
    said = told(folder, "train")
    assert said[0] == "0 of 20 images are the official ones"
    assert sum("pixels of no official image" in line for line in said) == 5
    assert "... and 15 more like the last" in said


def test_a_digest_that_differs_is_said_where_the_list_agrees(folder, monkeypatch):
    entry = DATASETS.find("CIFAR10")
    card = dataclasses.replace(entry.card, digests={**entry.card.digests, "test": "0" * 32})
    monkeypatch.setitem(DATASETS._entries, "cifar10", dataclasses.replace(entry, card=card))
    assert told(folder, "test")[-1] == "NOT OFFICIAL: the hash of all images and labels differs"


# --- The lists that are shipped --------------------------------------------------------------------------------------

LISTED = sorted(file.stem for file in official.HOME.glob("*.npz"))


@pytest.mark.parametrize("name", [entry.name for entry in DATASETS])
def test_a_list_and_a_digest_go_together_and_have_as_many_images_as_were_released(name):
    card = DATASETS.find(name).card
    assert set(card.digests) == (set(card.splits) if name in LISTED else set())
    found = official.listed(name)
    assert {part: len(each.keys) for part, each in found.items()} == (dict(card.images) if name in LISTED else {})
    assert all(len(set(each.labels.tolist())) == card.classes for each in found.values())


def test_the_lists_take_less_than_a_megabyte():
    assert 0 < sum(file.stat().st_size for file in official.HOME.glob("*.npz")) < 1_000_000


def test_a_list_and_its_digest_are_made_again_from_the_data(monkeypatch, capsys):
    shipped = official.HOME / "digits.npz"
    monkeypatch.setattr(official, "HOME", Path("official").resolve())
    monkeypatch.setattr("sys.argv", ["manifest.py", "digits"])
    runpy.run_path(str(ROOT / "benchmarks/manifest.py"), run_name="__main__")
    assert f'digests={{"all": "{DATASETS.find("digits").card.digests["all"]}"}},' in capsys.readouterr().out
    with np.load(shipped) as kept, np.load("official/digits.npz") as made:
        assert {name: kept[name].tolist() for name in kept} == {name: made[name].tolist() for name in made}


def test_the_digits_are_the_official_ones(attnbench):
    done = attnbench("data", "check", "digits")
    assert done.returncode == 0, done.stderr
    assert "all    1,797 of 1,797 images are the official ones" in done.stdout


@pytest.fixture
def subset(unpacked: Callable[..., Path]) -> Path:
    """1,000 test images of CIFAR-10 from another source than the list, as CIFAR10/test; and some of them as train."""
    real = unpacked("cifar10/cifar10-lossless-subset.tar.gz") / "cifar10-lossless-subset"
    Path("data").mkdir()
    Path("data/CIFAR10").symlink_to(real)
    return Path("data")


def test_a_lossless_subset_of_cifar10_is_known_as_one(subset):
    code, lines = checked(subset)
    assert code == 1
    assert "train  4,000 of 50,000 images are the official ones" in lines
    assert "test   1,000 of 10,000 images are the official ones" in lines
    assert not any("no official" in line or "officially" in line for line in lines)
    assert any(line.startswith("train  46,000 official images missing: airplane ") for line in lines)


def test_keys_are_the_hashes_that_anybody_can_compute(subset):
    """Shape and pixels, as numpy has them."""
    file = min((subset / "CIFAR10/test/cat").iterdir())
    pixels = np.asarray(Image.open(file).convert("RGB"))
    key = hashlib.sha256(b"(32, 32, 3)" + pixels.tobytes()).digest()[:4]
    assert int.from_bytes(key, "big") in official.listed("CIFAR10")["test"].keys


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images of ../shared/data are not on this machine")
def test_a_jpeg_is_known_by_its_bytes(unpacked):
    root = unpacked("eurosat/eurosat-part1.tar.gz")
    file = min((root / "eurosat/2750/Forest").iterdir())
    key = hashlib.sha256(file.read_bytes()).digest()[:4]
    own = official.listed("EuroSAT")["all"]
    assert int.from_bytes(key, "big") in own.keys[own.labels == 1]
