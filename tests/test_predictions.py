"""Scores of a run against scikit-learn and naive loops, and what is kept of its answers."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench.errors import StoreProblem
from attnbench.store.predictions import BINS, Predictions, Scores, scores, write


def answers(images: int = 300, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that know something of the labels; all classes are there, unequally often."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), rng.choice(classes, images - classes, p=np.arange(1, classes + 1) / 15)]
    logits = 2 * rng.standard_normal((images, classes)) + 2 * np.eye(classes)[labels]
    return logits.astype(np.float32), labels


def scored(logits: np.ndarray, labels: np.ndarray) -> Scores:
    return scores(np.asarray(logits, float), np.asarray(labels), np.asarray(logits).argmax(1))


def probabilities(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits.astype(np.float64))
    return raised / raised.sum(1, keepdims=True)


# Against others


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_are_those_of_scikit_learn(dtype):
    from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, recall_score

    logits, labels = answers()
    logits = logits.astype(dtype)
    predicted, chances = logits.argmax(1), probabilities(logits)
    found = scores(logits, labels, predicted)
    assert found.nll == pytest.approx(log_loss(labels, chances))
    assert found.brier == pytest.approx(np.mean(np.sum((chances - np.eye(5)[labels]) ** 2, axis=1)))
    assert found.macro_f1 == pytest.approx(100 * f1_score(labels, predicted, average="macro"))
    assert found.balanced_accuracy == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    assert found.recalls == pytest.approx(100 * recall_score(labels, predicted, average=None))
    assert found.balanced_accuracy != pytest.approx(100 * np.mean(predicted == labels)), "classes are equally frequent"


def test_brier_of_two_classes_is_twice_scikit_learns():
    """Which counts one class of the two."""
    from sklearn.metrics import brier_score_loss

    logits, labels = answers(200, 5)
    logits, labels = logits[:, :2], labels % 2
    expected = 2 * brier_score_loss(labels, probabilities(logits)[:, 1])
    assert scored(logits, labels).brier == pytest.approx(expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_calibration_error_is_that_of_a_naive_loop(seed):
    logits, labels = answers(seed=seed)
    logits[::2] *= 0.3  # not sure enough of these, and too sure of the others
    confidence, right = probabilities(logits).max(1), logits.argmax(1) == labels
    error, found = 0.0, scored(logits, labels)
    for place in range(BINS):
        low, high = place / BINS, (place + 1) / BINS
        held = [image for image, sure in enumerate(confidence) if low <= sure < high or sure == high == 1]
        if held:
            gap = np.mean([confidence[image] for image in held]) - np.mean([right[image] for image in held])
            error += len(held) / len(labels) * abs(gap)
        assert found.reliability[:, place] == pytest.approx([len(held), confidence[held].sum(), right[held].sum()])
    assert found.ece == pytest.approx(100 * error)
    below = found.reliability[1] < found.reliability[2]
    assert below.any()
    assert not below.all()


@pytest.mark.parametrize(("images", "sharpness"), [(200, 1.0), (1_000, 3.0), (4_000, 6.0)])
def test_a_calibrated_network_has_the_calibration_error_that_is_expected_of_one(images, sharpness):
    """Labels are drawn from the very probabilities; the formula is a normal's, and one bin of few images bounds it."""
    rng = np.random.default_rng(images)
    logits = sharpness * rng.standard_normal((images, 4))
    chances = probabilities(logits).cumsum(1)
    found = [scored(logits, (rng.random((images, 1)) > chances).sum(1).clip(max=3)) for _ in range(200)]
    errors = np.array([each.ece for each in found])
    noise = 4 * errors.std() / math.sqrt(len(errors))
    assert {each.ece_if_calibrated for each in found} == {found[0].ece_if_calibrated}
    assert errors.mean() == pytest.approx(found[0].ece_if_calibrated, rel=0.05, abs=noise)
    assert errors.mean() > 1.5 * noise, "a mean of signed errors would be nearer to 0"


# By hand


def test_the_expected_calibration_error_of_images_in_one_bin_each_is_their_own():
    """Two answers of confidence 0.9 lie 0.18 off on average each; in a bin together no normal says more."""
    logits = np.log([[0.9, 0.1], [0.1, 0.9]])
    assert scored(logits, np.array([0, 1])).ece_if_calibrated == pytest.approx(
        100 * min(math.sqrt(2 * 0.18 / math.pi), 0.36) / 2
    )
    sure = np.log([[0.999, 0.001], [0.001, 0.999]])
    assert scored(sure, np.array([0, 1])).ece_if_calibrated == pytest.approx(100 * 2 * 0.999 * 0.001)


def test_a_run_that_is_always_right_and_sure_has_the_best_scores():
    found = scored(50 * np.eye(4), np.arange(4))
    assert (found.nll, found.brier, found.ece) == pytest.approx((0, 0, 0), abs=1e-9)
    assert (found.macro_f1, found.balanced_accuracy) == (100, 100)
    assert found.reliability[:, -1] == pytest.approx([4, 4, 4])


def test_a_run_that_is_always_wrong_and_sure_has_the_worst():
    found = scored(50 * np.eye(4)[[1, 2, 3, 0]], np.arange(4))
    assert (found.nll, found.brier, found.ece) == pytest.approx((50, 2, 100))
    assert (found.macro_f1, found.balanced_accuracy) == (0, 0)


def test_a_run_that_knows_nothing_is_as_sure_as_it_is_right():
    found = scored(np.zeros((8, 4)), np.arange(8) % 4)
    assert (found.nll, found.brier, found.ece) == pytest.approx((math.log(4), 0.75, 0))


def test_a_class_without_images_has_no_recall_and_counts_where_it_was_said():
    """As in scikit-learn: class 2 was said and never right, class 3 is not there at all."""
    from sklearn.metrics import f1_score

    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    found = scores(np.eye(4)[predicted], labels, predicted)
    assert found.recalls == pytest.approx([50, 100, math.nan, math.nan], nan_ok=True)
    assert found.balanced_accuracy == 75
    assert found.macro_f1 == pytest.approx(100 * f1_score(labels, predicted, average="macro"))


@given(st.floats(-1000, 1000), st.permutations(range(30)))
@settings(deadline=None, max_examples=25)
def test_neither_a_shift_of_the_logits_nor_the_order_of_the_images_matters(shift, order):
    logits, labels = answers(30)
    found, moved = scored(logits, labels), scored(logits[order].astype(float) + shift, labels[order])
    numbers = [[each.nll, each.brier, each.ece, each.macro_f1] for each in (found, moved)]
    assert numbers[0] == pytest.approx(numbers[1])


def test_classes_are_those_of_the_full_precision():
    """Half precision may tie what was told apart: right is what the run said."""
    logits = np.array([[1.0, 1.0001], [3.0, 1.0]], np.float32)
    write(Path("p.npz"), logits, np.array([1, 0]))
    found = Predictions(Path("p.npz"))
    assert found.predicted.tolist() == [1, 0]
    assert found.correct.all()
    assert found.scores().reliability[2].sum() == 2


# The file


def test_what_is_written_is_read_again():
    logits, labels = answers()
    write(Path("p.npz"), logits, labels)
    found, again = Predictions(Path("p.npz")), scored(logits.astype(np.float16), labels)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.correct, logits.argmax(1) == labels)
    assert (found.scores().nll, found.scores().ece) == pytest.approx((again.nll, again.ece))
    assert found.scores().nll == pytest.approx(scored(logits, labels).nll, abs=2e-3)
    assert [file.name for file in Path().iterdir()] == ["p.npz"]


def test_logits_too_large_for_half_precision_still_have_scores(recwarn):
    """As a run far off has them: sure of itself, right about three images and wrong about one."""
    logits = np.array([[1e5, 0], [0, 1e5], [3e5, -2e5], [9e4, -8e4]], np.float32)
    write(Path("p.npz"), logits, np.array([0, 1, 0, 1]))
    found = Predictions(Path("p.npz")).scores()
    assert (found.brier, found.ece, found.balanced_accuracy) == pytest.approx((0.5, 25, 75))
    assert not [str(each.message) for each in recwarn.list]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "flipped", "another"])
def test_a_file_that_cannot_be_read_is_one_line_that_says_what_to_do(damage):
    file = Path("p.npz")
    write(file, *answers(2_000))
    good = file.read_bytes()
    bad = {"empty": b"", "cut": good[: len(good) // 2], "text": b"hello"}
    bad["flipped"] = good[:200] + bytes(byte ^ 255 for byte in good[200:1_000]) + good[1_000:]
    if damage in bad:
        file.write_bytes(bad[damage])
    elif damage == "missing":
        file.unlink()
    else:
        np.savez(file, other=np.arange(3))
    with pytest.raises(StoreProblem, match=r"p\.npz cannot be read .* delete the run's folder") as told:
        Predictions(file).scores()
    assert "\n" not in str(told.value)
