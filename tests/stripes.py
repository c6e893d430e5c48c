"""A data set that is drawn and not read, for tests on machines that have no images: stripes of some width and slope."""

from pathlib import Path

import numpy as np

SIDE = 16
COUNTS = {"train": 96, "test": 48}
CLASSES = 4


def stripes(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Noisy stripes, uint8 N 16 16 3, whose direction is their class (N)."""
    rng = np.random.default_rng(split == "test")
    labels = np.arange(COUNTS[split]) % CLASSES
    y, x = np.mgrid[:SIDE, :SIDE]
    angles = (np.pi * labels / CLASSES)[:, None, None]
    waves = np.sin(1.5 * (x * np.cos(angles) + y * np.sin(angles)) + rng.uniform(0, 6, (len(labels), 1, 1)))
    noisy = 128 + 60 * waves[..., None] + rng.normal(0, 20, (len(labels), SIDE, SIDE, 3))
    return noisy.clip(0, 255).astype(np.uint8), labels
