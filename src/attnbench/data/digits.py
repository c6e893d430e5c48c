"""Handwritten digits at 8 px: real images that ship with scikit-learn, so that nothing is downloaded."""

from pathlib import Path

import numpy as np

from attnbench.data import Raw, Source, dataset

DIGITS = Source(
    title="Optical recognition of handwritten digits (test part), as shipped with scikit-learn",
    url="https://archive.ics.uci.edu/dataset/80",
    licence="CC BY 4.0",
    classes=10,
    image_size=8,
    channels=1,
    names=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    splits=("all",),
    images={"all": 1797},
    digests={"all": "80f409d2bfc3da24a35ae0621c9ea615"},
    augment="none",
    ships_with="scikit-learn",
    note="No official split here: 20 % of each class are the test split, chosen by the images' content.",
    version=2,
)


@dataset("digits", DIGITS)
def digits(root: Path, split: str) -> Raw:
    """1,797 grey images of 8 x 8 pixels; 17 grey levels, spread over 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return Raw(images[..., None], bunch.target)
