"""Batches: what an epoch shows, in which order, and what augmentation does to each image."""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from attnbench import RunSpec
from attnbench.data.augment import augmented, drawn, shrunk, turned, uniform
from attnbench.data.batches import Batches
from attnbench.data.placed import AHEAD, Placed, ahead
from attnbench.data.splits import constants, load_splits
from attnbench.seeding import stream

PATIENT = settings(deadline=None, max_examples=50)
KINDS = st.lists(st.sampled_from(["crop", "flip", "dihedral", "cutout"]), unique=True)
FILL = np.array([10, 20, 30], np.uint8)
CPU = torch.device("cpu")


def noise(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Grey levels from 64 on, so that what is padded or cut out can be told from the image."""
    return np.random.default_rng(seed).integers(64, 256, (count, size, size, 3), dtype=np.uint8)


def shown(images: np.ndarray, names: list[str], indices: np.ndarray | None = None, epoch: int = 0) -> np.ndarray:
    return augmented(images, np.arange(len(images)) if indices is None else indices, 7, epoch, names, FILL)


@pytest.fixture
def batches(data_dir: Path) -> Callable[..., Batches]:
    """Batches of the digits' training images under the given fields."""

    def make(room: int = 0, **fields: object) -> Batches:
        spec = RunSpec(**{"dataset": "digits", "batch_size": 100, "augment": "crop+flip+cutout", **fields})
        split = load_splits(spec, data_dir).train
        return Batches(split, spec, constants(spec, split), CPU, room)

    return make


def same(one: Batches, two: Batches, epoch: int = 1, first: int = 0) -> bool:
    """Whether `two` from step `first` on is what `one` gives from there on."""
    rest = itertools.islice(one.epoch(epoch), first, None)
    pairs = list(zip(rest, two.epoch(epoch, first), strict=True))
    return bool(pairs) and all(a[0] == b[0] and a[1].equal(b[1]) and a[2].equal(b[2]) for a, b in pairs)


@PATIENT
@given(st.permutations(range(12)), st.integers(1, 12), KINDS, st.integers(0, 5))
def test_what_an_image_becomes_does_not_depend_on_its_batch(order, count, names, epoch):
    images, chosen = noise(12), np.array(order[:count])
    together = shown(images, names, epoch=epoch)
    np.testing.assert_array_equal(shown(images[chosen], names, chosen, epoch), together[chosen])


@PATIENT
@given(KINDS)
def test_augmentation_leaves_the_images_it_was_given_as_they_were(names):
    images = noise(12)
    images.flags.writeable = False
    shown(images, names)
    np.testing.assert_array_equal(images, noise(12))


@pytest.mark.parametrize("other", [{"seed": 8}, {"epoch": 1}, {"indices": np.arange(12) + 12}])
def test_seed_epoch_and_index_each_change_what_an_image_becomes(other):
    given_ = {"images": noise(12), "indices": np.arange(12), "seed": 7, "epoch": 0, "names": ["crop"], "fill": FILL}
    assert (augmented(**given_) != augmented(**{**given_, **other})).any()


def places(image: np.ndarray, result: np.ndarray, pad: int) -> list[tuple[int, int, bool]]:
    """Where in the padded image the result was cut from, and whether it is mirrored: by trying, pixel by pixel."""
    size, found = len(image), []
    for top, left, mirrored in itertools.product(range(2 * pad + 1), range(2 * pad + 1), (False, True)):
        expected = np.zeros_like(image)
        for y, x in itertools.product(range(size), range(size)):
            row, column = top + y - pad, left + x - pad
            if 0 <= row < size and 0 <= column < size:
                expected[y, size - 1 - x if mirrored else x] = image[row, column]
        if (expected == result).all():
            found.append((top, left, mirrored))
    return found


@pytest.mark.parametrize("size", [8, 12])
def test_crop_and_flip_give_crops_of_the_image_padded_with_black_mirrored_or_not(size):
    images = noise(20, size)
    found = [places(*pair, pad=1) for pair in zip(images, shown(images, ["crop", "flip"]), strict=True)]
    assert all(len(place) == 1 for place in found)
    assert {mirrored for ((_, _, mirrored),) in found} == {False, True}


def test_an_image_is_padded_by_an_eighth_of_its_side():
    """In a thousand draws from 0..8 for a side of 32 both ends come up."""
    ramp = np.broadcast_to(np.arange(1, 33, dtype=np.uint8)[None, :, None, None], (1000, 32, 32, 1))
    corners = augmented(ramp, np.arange(1000), 7, 0, ["crop"], FILL[:1])
    assert set((corners == 0).all((2, 3)).sum(1)) == {0, 1, 2, 3, 4}


def fair(counts: np.ndarray) -> bool:
    """No sign against equal chances; the draws have fixed seeds, so this holds always or never."""
    return bool(chisquare(counts).pvalue > 0.01)


@pytest.mark.parametrize("epoch", [0, 1])
def test_half_of_the_images_are_flipped(epoch):
    ramp = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, None, :, None], (4000, 16, 16, 1))
    flipped = augmented(ramp, np.arange(4000), 7, epoch, ["flip"], FILL[:1])[:, 0, 0, 0] == 15
    assert fair(np.bincount(flipped, minlength=2))


@pytest.mark.parametrize("epoch", [0, 1])
def test_each_offset_of_a_crop_mirrored_or_not_is_as_likely_as_any_other(epoch):
    """In a picture whose pixels are numbered, two pixels in the middle of a crop tell its offsets and its sense."""
    numbered = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    crops = augmented(np.repeat(numbered, 5000, 0), np.arange(5000), 7, epoch, ["crop", "flip"], FILL[:1])
    one, two = crops[:, 8, 8:10, 0].astype(int).T
    rows, columns = np.divmod(one + (two < one), 16)
    assert fair(np.bincount(((rows - 6) * 5 + columns - 6) * 2 + (two < one), minlength=50))


def test_the_eight_senses_are_those_of_a_square():
    """The quarter turns of a picture and of its mirror image, each once, the picture itself first."""
    picture = noise(1, 5)
    found = turned(np.repeat(picture, 8, 0), np.arange(8))
    turns = [np.rot90(image, times) for image in (picture[0], picture[0][:, ::-1]) for times in range(4)]
    assert {image.tobytes() for image in found} == {image.tobytes() for image in turns}
    np.testing.assert_array_equal(found[0], picture[0])


@pytest.mark.parametrize("epoch", [0, 1])
def test_each_sense_is_as_likely_as_any_other(epoch):
    picture = noise(1, 5)
    senses = {image.tobytes(): sense for sense, image in enumerate(turned(np.repeat(picture, 8, 0), np.arange(8)))}
    drawn = augmented(np.repeat(picture, 4000, 0), np.arange(4000), 7, epoch, ["dihedral"], FILL)
    assert fair(np.bincount([senses[image.tobytes()] for image in drawn], minlength=8))


def test_cutout_fills_one_square_of_half_the_side_which_the_edges_may_cut():
    images, results, full = noise(200), shown(noise(200), ["cutout"]), 0
    for image, result in zip(images, results, strict=True):
        hole = (result != image).any(2)
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        square = np.ix_(range(rows[0], rows[-1] + 1), range(columns[0], columns[-1] + 1))
        assert hole[square].all()
        assert (result[hole] == FILL).all()
        assert 4 <= len(rows) <= 8
        assert 4 <= len(columns) <= 8
        assert len(rows) == 8 or rows[0] == 0 or rows[-1] == 15
        full += hole.sum() == 64
    assert full > 20


def test_a_hole_is_centred_on_any_pixel_with_equal_chances():
    white = np.full((5000, 8, 8, 1), 255, np.uint8)
    hole = augmented(white, np.arange(5000), 7, 0, ["cutout"], FILL[:1])[..., 0] == 10
    ends = [8 - np.argmax(hole.any(axis)[:, ::-1], 1) for axis in (2, 1)]
    starts = [np.argmax(hole.any(axis), 1) for axis in (2, 1)]
    centres = [np.where(start > 0, start + 2, end - 2) for start, end in zip(starts, ends, strict=True)]
    assert fair(np.bincount(centres[0] * 8 + centres[1], minlength=64))


def test_what_is_cut_out_becomes_about_zero_for_the_network(batches):
    """The fill is the mean in 256 grey levels, so that the hole is off by half a level at most."""
    made = batches(augment="cutout")
    _, std = constants(made.spec, made.split)
    holes = next(made.epoch(0))[1].abs() <= 0.5 / (255 * std[0]) + 1e-6
    assert holes.float().mean() > 4 / 64


@PATIENT
@given(st.integers(0, 2**63 - 1), st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(1, 8))
def test_uniform_numbers_are_in_the_unit_interval_and_follow_their_index(seed, indices, count):
    numbers = uniform(seed, np.array(indices), count)
    assert numbers.shape == (len(indices), count)
    assert ((numbers >= 0) & (numbers < 1)).all()
    np.testing.assert_array_equal(uniform(seed, np.array(indices[::-1]), count)[::-1], numbers)


def test_uniform_numbers_are_uniform_and_uncorrelated_across_draws_epochs_and_neighbours():
    epochs = [uniform(stream(0, "augment", epoch), np.arange(10_000), 5) for epoch in range(3)]
    numbers = np.concatenate([*epochs, np.roll(epochs[0], 1, axis=0)], axis=1)
    for column in numbers.T[:15]:
        assert chisquare(np.bincount((column * 50).astype(int), minlength=50)).pvalue > 1e-3
    off = np.corrcoef(numbers.T)[~np.eye(20, dtype=bool)]
    assert np.abs(off).max() < 4 / np.sqrt(10_000)  # four standard errors of a correlation of nothing


@pytest.mark.parametrize("augment", ["none", "crop+flip+cutout"])
def test_batches_of_colour_images_are_float32_and_channels_last(augment, batches):
    grey = batches().split
    source = dataclasses.replace(grey.source, images=np.repeat(grey.source.images, 3, axis=3))
    spec = RunSpec(dataset="digits", augment=augment)
    made = Batches(dataclasses.replace(grey, source=source), spec, ((0.5,) * 3, (0.25,) * 3), CPU)
    for _, images, labels in made.epoch(0):
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.shape[1:] == (3, 8, 8)
        assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("normalise", ["train", "0.3 / 0.2"])
def test_batches_are_normalised_with_the_constants_of_the_run(normalise, batches):
    made = batches(augment="none", normalise=normalise)
    ((mean,), (std,)) = constants(made.spec, made.split)
    raw = made.split.source.images[made.split.indices][..., 0] / 255
    images, labels = (torch.cat(parts).numpy() for parts in zip(*made.plain(64), strict=True))
    np.testing.assert_allclose(images[:, 0], (raw - mean) / std, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(labels, made.split.labels)


def each(batches: Iterable[tuple[Any, ...]]) -> list[bytes]:
    """One value for each image with its label, in the order in which they are shown."""
    pairs = [pair for *_, images, labels in batches for pair in zip(images, labels, strict=True)]
    return [image.numpy().tobytes() + bytes([label]) for image, label in pairs]


def test_every_epoch_shows_each_image_once_with_its_label_in_an_order_of_its_own(batches):
    made = batches(augment="none")
    first, second, plain = each(made.epoch(0)), each(made.epoch(1)), each(made.plain(64))
    assert sorted(first) == sorted(second) == sorted(plain)
    assert first != second
    assert first != plain


def test_another_seed_shows_another_order(batches):
    assert each(batches(augment="none").epoch(0)) != each(batches(augment="none", seed=1).epoch(0))


@pytest.mark.parametrize("arm", ["se", "cbam", "constant(value=0)"])
def test_for_one_seed_every_mechanism_sees_the_same_batches(arm, batches):
    assert same(batches(attention="none"), batches(attention=arm))


def test_an_epoch_started_in_its_middle_goes_on_as_if_it_had_not_stopped(batches):
    made = batches()
    assert all(same(made, batches(), first=first) for first in (0, 1, 7, 14))
    assert list(made.epoch(0, made.steps())) == []


@pytest.mark.parametrize(("share", "small"), [(0.0, 0), (0.3, 3), (0.25, 2), (0.9, 9)])
def test_the_first_epochs_of_a_progressive_run_have_three_quarters_of_the_side(share, small, batches):
    made = batches(epochs=10, progressive=share)
    sides = [next(made.epoch(epoch))[1].shape[2:] for epoch in range(10)]
    assert sides == [(6, 6)] * small + [(8, 8)] * (10 - small)


def test_small_images_are_the_augmented_ones_made_smaller(batches):
    """To 1.1 grey levels: rows and columns are each rounded to a whole level, by weights of 14 bits."""
    fields = {"normalise": "0 / 1", "augment": "flip"}
    small, whole = batches(epochs=2, progressive=0.5, **fields), batches(epochs=2, **fields)
    for (_, x, labels), (_, y, expected) in zip(small.epoch(0), whole.epoch(0), strict=True):
        assert torch.equal(labels, expected)
        assert x.is_contiguous(memory_format=torch.channels_last)
        exact = F.interpolate(y.double(), (6, 6), mode="bilinear", antialias=True)
        torch.testing.assert_close(x.double(), exact, rtol=0, atol=1.1 / 255)
    for size in (7, 64):
        assert shrunk(noise(2, size), 5).shape == (2, 5, 5, 3)


@pytest.mark.parametrize(
    ("images", "size", "lengths"),
    [
        (101, 50, [50, 50]),
        (102, 50, [50, 50, 2]),
        (100, 50, [50, 50]),
        (30, 50, [30]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_a_last_batch_of_one_image_is_dropped(images, size, lengths, batches):
    made = batches(train_limit=images, batch_size=size)
    assert [len(labels) for _, _, labels in made.epoch(0)] == lengths
    assert made.steps() == len(lengths)


def test_the_dropped_batch_is_another_image_in_each_epoch(batches):
    made = batches(train_limit=101, batch_size=50, augment="none")
    dropped = [set(each(made.plain(64))) - set(each(made.epoch(epoch))) for epoch in range(4)]
    assert all(len(images) == 1 for images in dropped)
    assert len(set.union(*dropped)) > 1


LOTS = 1 << 30
"""Bytes in which every split here has room."""


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"augment": "none"},
        {"augment": "crop+flip+dihedral+cutout"},
        {"augment": "crop", "progressive": 0.9, "image_size": 16, "epochs": 4},
    ],
)
def test_batches_made_by_the_device_are_those_of_the_cpu(batches, fields):
    here, there = batches(**fields), batches(LOTS, **fields)
    assert same(here, there)
    assert same(here, there, first=3)
    for one, two in zip(here.plain(100, 5), there.plain(100, 5), strict=True):
        assert one[0].equal(two[0])
        assert one[1].equal(two[1])


@PATIENT
@given(st.integers(4, 40), KINDS, st.data())
def test_a_device_augments_and_shrinks_as_numpy_does(size, names, data):
    side = data.draw(st.integers(2, size))
    images, order, numbers = noise(9, size), np.arange(9)[::-1].copy(), np.arange(9) * 5 + 2
    want = augmented(images[order], numbers, 7, 3, names, FILL)
    want = want if side == size else shrunk(want, side)
    placed = Placed(images, order, FILL, CPU)
    found = list(placed.batches(order, drawn(numbers, 7, 3, names, size), side, [4, 4, 1]))
    assert np.array_equal(torch.cat([made for made, _ in found]).numpy(), want)
    assert torch.cat([labels for _, labels in found]).tolist() == list(range(9))


def test_images_that_do_not_fit_stay_where_they_are(batches):
    there = batches(LOTS)
    taken = there.split.source.images[there.split.indices].nbytes
    assert batches(taken)._placed is not None
    assert batches(taken - 1)._placed is None


def test_batches_made_ahead_are_the_same_and_end_when_nobody_takes_more():
    made = [(torch.full((2, 3), n, dtype=torch.uint8), torch.tensor([n, n])) for n in range(10)]
    found = list(ahead(iter(made), CPU))
    assert all(a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(found, made, strict=True))
    taken, threads = [], threading.active_count()

    def counted() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in made:
            taken.append(batch)
            yield batch

    batches = ahead(counted(), CPU)
    next(batches)
    batches.close()
    assert len(taken) <= 1 + AHEAD
    assert threading.active_count() == threads


def test_what_goes_wrong_while_batches_are_made_ahead_is_told():
    def broken() -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.zeros(1), torch.zeros(1)
        raise OSError("the disk is gone")

    batches = ahead(broken(), CPU)
    next(batches)
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
