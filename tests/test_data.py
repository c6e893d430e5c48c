"""From files to splits: the stratified order, the cache, folders of images, and a user's own data set.

The pictures here are made by the tests; `test_real_data.py` has the splits of real ones.
"""

import errno
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attnbench import RunSpec
from attnbench.data import cache, decode
from attnbench.data.splits import Splits, duplicates, load_splits, statistics, stratified
from attnbench.errors import DataProblem

FOLDER = 'imagefolder(path="mine")'
NOISE = Image.fromarray(np.random.default_rng(9).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def pictures(folder: Path, names: str = "cat dog", count: int = 10, size: int = 8, seed: int = 0) -> Path:
    """`count` pictures of noise a class, in one folder a class."""
    draws = np.random.default_rng(seed)
    for name in names.split():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = Image.fromarray(draws.integers(0, 256, (size, size, 3), dtype=np.uint8))
            noise.save(folder / name / f"{number:02d}.png")
    return folder


def load(dataset: str, root: Path = Path(), **fields: object) -> Splits:
    return load_splits(RunSpec(dataset=dataset, **fields), root)


@pytest.fixture
def mine() -> Path:
    """A folder of pictures in the data folder, which here is the working folder."""
    return pictures(Path("mine"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that were read from their release, one entry a reading."""
    seen: list[str] = []

    def counted(entry: Any, options: Any, split: str, root: Path) -> Any:
        seen.append(split)
        return decode.read(entry, options, split, root)

    monkeypatch.setattr(cache, "read", counted)
    return seen


PATIENT = settings(deadline=None, max_examples=50)
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
KEYS = np.array([f"image {number:08d}".encode() for number in range(60)], "V16")


@PATIENT
@given(LABELS, st.text(max_size=5))
def test_a_stratified_order_names_each_image_once(labels, salt):
    assert sorted(stratified(labels, KEYS[: len(labels)], salt)) == list(range(len(labels)))


@PATIENT
@given(LABELS)
def test_every_beginning_of_a_stratified_order_has_the_classes_in_proportion(labels):
    """There is one share of which every class has its part, to half an image: no rounding can be nearer for all."""
    order, sizes = stratified(labels, KEYS[: len(labels)], "test"), np.unique_counts(labels)
    for length in range(len(labels) + 1):
        taken = np.array([(labels[order[:length]] == label).sum() for label in sizes.values])
        assert ((taken - 0.5) / sizes.counts).max() <= ((taken + 0.5) / sizes.counts).min() + 1e-9


@PATIENT
@given(LABELS, st.randoms(use_true_random=False))
def test_a_stratified_order_follows_the_content_and_not_the_order_of_the_files(labels, random):
    keys, moved = KEYS[: len(labels)], list(range(len(labels)))
    random.shuffle(moved)
    there = keys[moved][stratified(labels[moved], keys[moved], "test")]
    np.testing.assert_array_equal(there, keys[stratified(labels, keys, "test")])


def test_images_are_decoded_once_for_each_size(mine, reads):
    opened = [load(FOLDER, image_size=size).train.source.images for size in (8, 4, 8, 4)]
    assert reads == ["train", "train"]
    assert [images.shape[1] for images in opened] == [8, 4, 8, 4]
    assert isinstance(opened[2], np.memmap)
    np.testing.assert_array_equal(opened[0], opened[2])


FAILURES = [KeyboardInterrupt(), MemoryError(), OSError(errno.ENOSPC, "No space left on device")]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_failure_while_decoding_leaves_nothing_behind_and_a_later_try_works(failure, mine, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cache.np, "save", Mock(side_effect=failure))
        with pytest.raises(DataProblem if isinstance(failure, OSError) else type(failure)):
            load(FOLDER)
    assert not [path for path in Path(".cache").iterdir() if path.is_dir()]
    assert len(load(FOLDER).train) == 16


@pytest.mark.parametrize("change", ["added", "changed", "removed"])
def test_a_change_in_the_files_is_noticed(change, mine):
    before, file = load(FOLDER), mine / "cat" / ("99.png" if change == "added" else "00.png")
    file.unlink() if change == "removed" else NOISE.save(file)
    assert load(FOLDER).data_fingerprint != before.data_fingerprint


def test_files_that_were_only_touched_have_the_same_fingerprints(mine):
    before = load(FOLDER)
    for file in mine.rglob("*.png"):
        os.utime(file, (1, 1))
    after = load(FOLDER)
    assert after.data_fingerprint == before.data_fingerprint
    assert after.split_fingerprint == before.split_fingerprint


FORMS = {"PNG": {}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}, "WEBP": {"lossless": True, "exact": True}}
"""Lossless formats, and how Pillow is told to write them."""


def converted(folder: Path, goal: Path, form: str, **options: object) -> Path:
    """The pictures of a folder in another format and under other names."""
    for number, file in enumerate(sorted(folder.rglob("*.png"), reverse=True)):
        copy = goal / file.parent.name / f"{number}.{form.lower()}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).save(copy, form, **options)
    return goal


@pytest.mark.parametrize("form", FORMS)
def test_the_same_pictures_in_any_lossless_format_and_under_any_name_are_one_data_set(form, mine):
    converted(mine, Path("other"), form, **FORMS[form])
    one, other = load(FOLDER), load('imagefolder(path="other")')
    np.testing.assert_array_equal(other.train.source.images, one.train.source.images)
    assert other.data_fingerprint == one.data_fingerprint
    assert other.split_fingerprint == one.split_fingerprint


@pytest.mark.parametrize(
    "form", [{"form": "JPEG"}, {"form": "WEBP", "quality": 90}, {"form": "TIFF", "compression": "jpeg"}], ids=str
)
def test_what_a_lossy_file_is_does_not_depend_on_its_decoder(form, mine, monkeypatch):
    """Another decoder may round otherwise: here it gives every value one more."""
    converted(mine, Path("lossy"), **form)
    before, inner = load('imagefolder(path="lossy")'), decode.pixels.decoded
    monkeypatch.setattr(decode.pixels, "decoded", lambda *given: np.minimum(inner(*given), 254) + 1)
    shutil.rmtree(".cache")
    after = load('imagefolder(path="lossy")')
    assert (after.train.source.images != before.train.source.images).any()
    np.testing.assert_array_equal(after.train.source.keys, before.train.source.keys)
    assert after.train.source.files == before.train.source.files
    assert after.data_fingerprint == before.data_fingerprint
    assert after.split_fingerprint == before.split_fingerprint


def test_images_lie_in_the_order_of_their_content_and_their_files_with_them(mine):
    source = load(FOLDER).train.source
    hashes = [hashlib.sha256(b"(8, 8, 3)" + image.tobytes()).digest()[:16] for image in source.images]
    assert [key.tobytes() for key in source.keys] == hashes == sorted(hashes)
    for image, label, file in zip(source.images, source.labels, source.files, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(mine / file)))
        assert source.names[label] == Path(file).parent.name


@pytest.mark.parametrize("name", ["images.bin", "labels.npy", "keys.npy", "pixels.npy", "sums.npy", "about.json"])
@pytest.mark.parametrize("damage", ["truncated", "lost"])
def test_a_damaged_cache_is_named(name, damage, mine):
    load(FOLDER)
    (file,) = Path(".cache").glob(f"*/{name}")
    file.write_bytes(file.read_bytes()[:-1]) if damage == "truncated" else file.unlink()
    with pytest.raises(DataProblem, match=f"{file.parent.name}.*damaged.*delete"):
        load(FOLDER)


def test_data_in_a_folder_that_cannot_be_written_are_cached_in_the_users_own_folder(mine, reads, monkeypatch):
    """A file where the cache's folder would be stands for a read-only folder: it stops root too."""
    Path(".cache").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("home").resolve()))
    assert len(load(FOLDER).train) == len(load(FOLDER).train) == 16
    assert reads == ["train"]
    assert list(Path("home/attnbench").glob("imagefolder-train-*/images.bin"))


def test_where_no_cache_can_be_written_both_places_are_named(mine, monkeypatch):
    Path(".cache").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path(".cache").resolve()))
    with pytest.raises(DataProblem, match=r"neither .*cache nor .*attnbench.*--data-dir"):
        load(FOLDER)


def test_a_class_that_only_the_test_has_is_refused_before_training(monkeypatch):
    """Class numbers in a column, as Keras has them, are taken."""
    Path("lacking.py").write_text(
        "import numpy as np\n"
        "def column(root, split):\n"
        "    labels = [0, 1, 2, 3] if split == 'test' else [0, 1, 2, 0]\n"
        "    return np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8), np.array(labels)[:, None]\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    with pytest.raises(DataProblem, match="class 3 is scored and has no training image; 3 have"):
        load("lacking:column")


def test_duplicates_across_splits_are_found_by_their_pixels(mine):
    pictures(Path("theirs"), seed=1)
    Image.open("mine/cat/03.png").save("theirs/cat/05.png", compress_level=0)
    splits = load('imagefolder(path="mine", test="theirs")')
    assert duplicates(splits) == [("train: cat/03.png", "test: cat/05.png")]


def test_a_folder_without_test_images_is_cut_80_to_20_by_content(mine):
    before = load(FOLDER)
    test = {before.test.source.pixels[index].tobytes() for index in before.test.indices}
    for file in mine.rglob("*.png"):
        file.rename(file.with_stem(f"{99 - int(file.stem)}"))
    after = load(FOLDER)
    assert (len(after.train), np.bincount(after.test.labels).tolist()) == (16, [2, 2])
    assert {after.test.source.pixels[index].tobytes() for index in after.test.indices} == test


def test_a_test_folder_is_taken_whole(mine):
    pictures(Path("theirs"), count=3, seed=1)
    splits = load('ImageFolder(path="mine", test="theirs")')
    assert (len(splits.train), len(splits.test)) == (20, 6)
    assert splits.train.source.names == ("cat", "dog")


def test_colour_and_grey_pictures_are_read_as_pillow_reads_them(mine):
    Image.open("mine/cat/00.png").convert("L").save("mine/cat/00.png")
    source = load(FOLDER).train.source
    pixels = [np.asarray(Image.open(mine / file).convert("RGB")) for file in source.files]
    np.testing.assert_array_equal(source.images, pixels)


def test_pictures_of_many_sizes_want_an_image_size_and_take_one(mine):
    Image.new("RGB", (12, 9)).save("mine/dog/00.png")
    with pytest.raises(DataProblem, match=r"12x9.*image_size"):
        load(FOLDER)
    assert load(FOLDER, image_size=6).train.source.images.shape == (20, 6, 6, 3)


def test_sizes_that_differ_far_apart_in_the_folder_are_noticed_too(mine, monkeypatch):
    """Images are decoded some hundreds at a time; here ten, so that each class is a lot of one size."""
    monkeypatch.setattr(decode, "CHUNK", 10)
    pictures(Path("mine"), "dog", size=16)
    with pytest.raises(DataProblem, match="image_size"):
        load(FOLDER)


def test_training_and_test_pictures_of_different_sizes_want_an_image_size(mine):
    pictures(Path("theirs"), size=16)
    with pytest.raises(DataProblem, match="image_size"):
        load('imagefolder(path="mine", test="theirs")')
    assert load('imagefolder(path="mine", test="theirs")', image_size=8).image_size == 8


OWN = """
import numpy as np
def flat(root, split, side=6):
    labels = np.arange({"train": 20, "test": 10}[split]) % 2
    return 7 + np.tile(labels.astype(np.uint8)[:, None, None], (1, side, side)), labels
def from_disk(root, split):
    return np.load(root / "images.npy"), np.arange(4) % 2
def floats(root, split):
    return np.full((4, 8, 8, 3), 0.5), np.arange(4) % 2
def channels_first(root, split):
    return np.zeros((4, 3, 8, 8), np.uint8), np.arange(4) % 2
def the_folders(root, split):
    from PIL import Image
    files = sorted((root / "mine").rglob("*.png"), reverse=True)
    return np.stack([np.asarray(Image.open(file)) for file in files]), [file.parent.name == "dog" for file in files]
def short(root, split):
    return np.zeros((4, 8, 8, 3), np.uint8), [0, 1]
def words(root, split):
    return np.zeros((4, 8, 8, 3), np.uint8), ["dog", "cat", "dog", "cat"]
def shares(root, split):
    return np.zeros((4, 8, 8, 3), np.uint8), [0.0, 0.9, 0.0, 0.9]
def nothing(root, split):
    return np.zeros((4, 8, 8, 3), np.uint8), None
def tensors(root, split):
    import torch
    return torch.zeros(4, 8, 8, 3, dtype=torch.uint8), [0, 1, 0, 1]
def file_names(root, split):
    files = sorted((root / "mine").rglob("*.png"))
    return [str(file) for file in files], [file.parent.name == "dog" for file in files]
"""


@pytest.fixture
def own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The user's module, under a name that no other test has imported."""
    name = re.sub(r"\W", "_", request.node.name)
    Path(f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(".")
    return name


def test_a_users_own_function_is_a_data_set(own):
    splits = load(f"{own}:flat(side=5)")
    assert (len(splits.train), len(splits.test), splits.classes) == (20, 10, 2)
    assert splits.train.source.images.shape == (20, 5, 5, 1)
    assert statistics(splits.train)[0] == (7.5 / 255,)


def test_an_array_of_the_images_of_a_folder_is_the_same_data(own, mine):
    array, folder = (load(name).train.source for name in (f"{own}:the_folders", FOLDER))
    assert array.fingerprint == folder.fingerprint
    np.testing.assert_array_equal(array.images, folder.images)
    assert load(f"{own}:file_names").train.source.fingerprint == folder.fingerprint


@pytest.mark.parametrize("function", ["floats", "channels_first", "short", "words", "shares", "nothing", "tensors"])
def test_a_users_function_that_gives_something_else_than_images_and_labels_is_refused(function, own):
    with pytest.raises(DataProblem, match=function):
        load(f"{own}:{function}")


def test_a_users_function_whose_data_changed_is_read_again(own):
    for value in (1, 2):
        np.save("images.npy", np.full((4, 8, 8, 1), value, np.uint8))
        assert int(load(f"{own}:from_disk").train.source.images.max()) == value
