"""Splits of real images: the digits that ship with scikit-learn, and what ../shared/data unpacks to."""

import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from attnbench import RunSpec
from attnbench.data import cache
from attnbench.data.splits import Split, Splits, constants, duplicates, load_splits, statistics
from attnbench.errors import DataProblem

LOSSLESS = 'imagefolder(path="cifar10-lossless-subset/train", test="cifar10-lossless-subset/test")'
JPEG = 'imagefolder(path="cifar10-jpeg/train", test="cifar10-jpeg/test")'
EUROSAT = ("eurosat/eurosat-part1.tar.gz", "eurosat/eurosat-part2.tar.gz")
FLOWERS = ("flowers102/flowers102-128px-trainval.tar.gz", "flowers102/flowers102-128px-test.tar.gz")
JPEGS = ("cifar10/cifar10-jpeg-train.tar.gz", "cifar10/cifar10-jpeg-test.tar.gz")
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
"""A machine whose every way out is closed."""


def load(dataset: str, root: Path, **fields: object) -> Splits:
    return load_splits(RunSpec(dataset=dataset, **fields), root)


def parts(splits: Splits) -> list[Split]:
    return [split for split in (splits.train, splits.val, splits.test) if split]


def per_class(split: Split) -> list[int]:
    return np.bincount(split.labels).tolist()


def fingerprints(splits: Splits) -> tuple[str, str]:
    return splits.data_fingerprint, splits.split_fingerprint


def test_the_digits_are_always_cut_in_the_same_way(data_dir):
    splits = load("digits", data_dir)
    assert (len(splits.train), len(splits.test), splits.val) == (1438, 359, None)
    assert (splits.classes, splits.channels, splits.image_size) == (10, 1, 8)
    assert (splits.data_fingerprint, splits.split_fingerprint) == ("bf6ec075b8df1a1d", "d91074a6b13cb69a")


def test_another_process_cuts_the_same_splits_in_another_folder():
    code = "from attnbench.data.splits import *; splits = load_splits(RunSpec(dataset='digits'), 'elsewhere')"
    code += "; print(splits.data_fingerprint, splits.split_fingerprint)"
    command = [sys.executable, "-c", f"from attnbench import RunSpec; {code}"]
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    assert subprocess.check_output(command, text=True, env=env).split() == ["bf6ec075b8df1a1d", "d91074a6b13cb69a"]


def test_the_digits_are_cut_stratified_to_within_one_image(data_dir):
    splits = load("digits", data_dir)
    everything = np.bincount(splits.test.source.labels)
    assert np.abs(np.array(per_class(splits.test)) - 0.2 * everything).max() <= 1


@pytest.mark.parametrize("name", ["DIGITS", "Digits"])
def test_a_data_set_is_found_in_any_case(name, data_dir):
    assert load(name, data_dir).split_fingerprint == load("digits", data_dir).split_fingerprint


def test_smaller_fractions_of_the_training_images_are_parts_of_larger_ones_and_stratified(data_dir):
    whole = load("digits", data_dir).train
    larger = set(whole.indices)
    for fraction in (0.7, 0.3, 0.1, 0.02):
        train = load("digits", data_dir, train_fraction=fraction).train
        assert len(train) == round(fraction * len(whole))
        assert set(train.indices) < larger
        assert np.abs(np.array(per_class(train)) - fraction * np.array(per_class(whole))).max() <= 1
        larger = set(train.indices)


def test_limits_bound_the_training_and_the_test_images_and_keep_them_stratified(data_dir):
    splits, whole = load("digits", data_dir, train_limit=200, test_limit=50), load("digits", data_dir)
    assert set(splits.train.indices) < set(whole.train.indices)
    assert set(splits.test.indices) < set(whole.test.indices)
    assert (len(splits.train), len(splits.test)) == (200, 50)
    assert set(per_class(splits.train)) <= {19, 20, 21}
    assert set(per_class(splits.test)) <= {4, 5, 6}


def test_a_limit_above_what_is_there_changes_nothing(data_dir):
    whole = load("digits", data_dir)
    assert load("digits", data_dir, train_limit=10_000, test_limit=359).split_fingerprint == whole.split_fingerprint


def test_validation_is_cut_from_the_training_images_and_never_from_the_test_images(data_dir):
    splits, whole = load("digits", data_dir, val_fraction=0.25), load("digits", data_dir)
    assert len(splits.val) == round(0.25 * 1438)
    assert set(splits.train.indices) | set(splits.val.indices) == set(whole.train.indices)
    assert splits.test.fingerprint == whole.test.fingerprint
    assert splits.split_fingerprint != whole.split_fingerprint


@pytest.mark.parametrize("fields", [{}, {"train_fraction": 0.3}, {"train_limit": 100, "test_limit": 50}])
def test_no_image_is_in_two_parts(fields, data_dir):
    found = parts(load("digits", data_dir, val_fraction=0.1, **fields))
    assert len(found) == 3
    assert not any(set(one.indices) & set(two.indices) for one, two in combinations(found, 2))


def test_statistics_are_those_of_the_training_images_alone(data_dir):
    train = load("digits", data_dir, train_fraction=0.3).train
    images = train.source.images[train.indices] / 255
    np.testing.assert_allclose(statistics(train), [images.mean((0, 1, 2)), images.std((0, 1, 2))], rtol=1e-9)


def test_constants_for_another_number_of_channels_are_refused(data_dir):
    spec = RunSpec(dataset="digits", normalise="0.5 0.5 0.5 / 0.2 0.2 0.2")
    with pytest.raises(DataProblem, match="3 channels, digits has 1"):
        constants(spec, load_splits(spec, data_dir).train)


@pytest.mark.slow
def test_eurosat_is_cut_by_content_and_stratified(unpacked):
    splits = load("eurosat", unpacked(*EUROSAT))
    assert (len(splits.train), len(splits.test), splits.val) == (21_600, 5_400, None)
    assert per_class(splits.test) == [600, 600, 600, 500, 500, 400, 500, 600, 500, 600]
    assert (splits.classes, splits.channels, splits.image_size) == (10, 3, 64)
    assert splits.train.source.names[::9] == ("AnnualCrop", "SeaLake")
    assert fingerprints(splits) == ("a2a29e68ec3b0316", "21ce5437ece701e9")


@pytest.mark.slow
def test_eurosat_is_read_as_torchvision_reads_it(unpacked):
    from torchvision.datasets import EuroSAT

    source, reader = load("EuroSAT", unpacked(*EUROSAT)).train.source, EuroSAT(unpacked(*EUROSAT))
    places = {file: place for place, file in enumerate(source.files)}
    for index in range(0, 27_000, 2_700):
        image, label = reader[index]
        place = places["/".join(Path(reader.samples[index][0]).parts[-2:])]
        np.testing.assert_array_equal(source.images[place], np.asarray(image))
        assert source.labels[place] == label


@pytest.mark.slow
def test_eurosat_has_the_published_mean_and_no_duplicates(unpacked):
    splits = load("EuroSAT", unpacked(*EUROSAT))
    mean, std = statistics(splits.train)
    # Of all 27,000 images: shared/data/README.md. The training part differs from them by its sampling alone.
    np.testing.assert_allclose(mean, (0.3444, 0.3803, 0.4078), atol=5e-4)
    np.testing.assert_allclose(std, (0.2027, 0.1369, 0.1156), atol=5e-4)
    assert duplicates(splits) == []


@pytest.mark.slow
def test_eurosat_is_opened_again_without_decoding(unpacked, monkeypatch):
    before = fingerprints(load("EuroSAT", unpacked(*EUROSAT)))
    monkeypatch.setattr(cache, "_build", lambda *given: pytest.fail("decoded again"))
    assert fingerprints(load("EuroSAT", unpacked(*EUROSAT))) == before


def test_the_lossless_cifar_subset_is_a_folder_of_images(unpacked):
    splits = load(LOSSLESS, unpacked("cifar10/cifar10-lossless-subset.tar.gz"))
    assert (len(splits.train), len(splits.test), splits.image_size) == (4_000, 1_000, 32)
    assert " ".join(splits.train.source.names) == "airplane automobile bird cat deer dog frog horse ship truck"
    assert (min(per_class(splits.train)), max(per_class(splits.train))) == (366, 422)
    assert (min(per_class(splits.test)), max(per_class(splits.test))) == (86, 112)
    assert fingerprints(splits) == ("b524b47a9a24eecf", "70e9db783a35ad04")
    assert duplicates(splits) == []


def test_the_lossless_cifar_subset_has_the_statistics_of_its_release(unpacked):
    splits = load(LOSSLESS, unpacked("cifar10/cifar10-lossless-subset.tar.gz"))
    mean, std = statistics(splits.train)
    np.testing.assert_allclose(mean, (0.4916, 0.4818, 0.4447), atol=5e-5)  # shared/data/README.md
    np.testing.assert_allclose(std, (0.2471, 0.2440, 0.2625), atol=5e-5)


@pytest.mark.slow
def test_the_jpeg_copy_of_cifar_is_a_folder_of_images(unpacked):
    splits = load(JPEG, unpacked(*JPEGS))
    assert per_class(splits.train) == [5_000] * 10
    assert per_class(splits.test) == [1_000] * 10
    np.testing.assert_allclose(statistics(splits.train)[0], (0.4913, 0.4821, 0.4465), atol=5e-5)
    assert duplicates(splits) == []


@pytest.mark.parametrize("archive", [JPEGS[1], "cifar10/cifar10-lossless-subset.tar.gz"])
def test_copies_of_cifar_are_never_taken_for_cifar10_proper(archive, unpacked, attnbench):
    root = unpacked(archive)
    done = attnbench("run", "--dataset", "CIFAR10", "--data-dir", root, "--tracker", "none", env=NO_NETWORK)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    for part in ("CIFAR10", "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", str(root)):
        assert part in line


# --- Flowers ------------------------------------------------------------------------------------------------------

DUPLICATES = [
    ("train: jpg/image_07307.jpg", "test: jpg/image_07309.jpg"),
    ("val: jpg/image_08077.jpg", "test: jpg/image_08067.jpg"),
]


def test_flowers_have_their_official_splits_and_the_duplicates_in_them(unpacked):
    splits = load("oxford102flowers", unpacked(*FLOWERS), image_size=16)
    assert [len(split) for split in parts(splits)] == [1_020, 1_020, 6_149]
    assert per_class(splits.train) == per_class(splits.val) == [10] * 102
    assert (min(per_class(splits.test)), max(per_class(splits.test))) == (20, 238)
    assert sorted(duplicates(splits)) == DUPLICATES


def test_a_validation_share_of_ones_own_replaces_the_official_one(unpacked):
    splits = load("Oxford102Flowers", unpacked(*FLOWERS), image_size=16, val_fraction=0.2)
    assert [len(split) for split in parts(splits)] == [816, 204, 6_149]
    assert per_class(splits.val) == [2] * 102


@pytest.mark.slow
def test_data_check_reports_the_duplicates_of_the_flowers(unpacked, attnbench):
    done = attnbench("data", "check", "Oxford102Flowers", "--data-dir", unpacked(*FLOWERS))
    assert done.returncode == 1, done.stderr  # these images are smaller than the official ones
    assert "train  0 of 1,020 images are the official ones" in done.stdout
    for one, two in DUPLICATES:
        assert f"{one} = {two}" in done.stdout
    assert "2 exact duplicates across splits" in done.stdout


def test_a_flower_that_is_missing_is_named(unpacked):
    """As after unpacking one archive of the two."""
    official = unpacked(FLOWERS[0]) / "flowers-102"
    Path("flowers-102/jpg").mkdir(parents=True)
    for name in ("imagelabels.mat", "setid.mat"):
        Path("flowers-102", name).symlink_to(official / name)
    with pytest.raises(DataProblem, match=r"image_\d{5}\.jpg"):
        load("Oxford102Flowers", Path(), image_size=16)
