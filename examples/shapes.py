"""Coloured shapes on noise: images to detect and to segment, drawn and never downloaded."""

import numpy as np
import torch

SHAPES = ("disc", "square", "triangle")


def drawn(rng, side):
    """One image of one or two shapes, the later over the earlier.

    Returns:
        image: float 3 H W in 0..1.
        mask: int64 H W, 0 for the ground, else 1 + the number of the shape.
        boxes: float N 4, left, top, right, bottom in pixels.
        labels: int64 N, 1 + the number of the shape.
    """
    image, mask = rng.uniform(0, 0.6, (3, side, side)), np.zeros((side, side), int)
    y, x = np.mgrid[:side, :side]
    boxes, labels = [], []
    for _ in range(rng.integers(1, 3)):
        shape, radius = rng.integers(len(SHAPES)), rng.integers(side // 8, side // 4)
        row, column = rng.integers(radius, side - radius, 2)
        down, across = y - row, x - column
        inside = (
            down**2 + across**2 <= radius**2,
            np.maximum(abs(down), abs(across)) <= radius,
            (abs(down) <= radius) & (abs(across) <= (down + radius) / 2),
        )[shape]
        colour = rng.uniform(0.3, 1, (3, 1))
        image[:, inside], mask[inside] = colour + rng.normal(0, 0.1, (3, inside.sum())), 1 + shape
        boxes.append([column - radius, row - radius, column + radius + 1, row + radius + 1])
        labels.append(1 + shape)
    pixels = torch.tensor(image.clip(0, 1), dtype=torch.float32)
    return pixels, torch.tensor(mask), torch.tensor(boxes, dtype=torch.float32), torch.tensor(labels)


def several(count, side, seed):
    """As many images, the same for the same seed."""
    rng = np.random.default_rng(seed)
    return [drawn(rng, side) for _ in range(count)]


def targets(images):
    """Boxes and labels alone, as torchvision's detectors take them."""
    return [{"boxes": boxes, "labels": labels} for _, _, boxes, labels in images]
