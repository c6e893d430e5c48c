"""Mean average precision of a detector, at an overlap of a half."""

import torch
from torchvision.ops import box_iou


def mean_average_precision(found, truth):
    """Mean over classes of the area under precision over recall, in percent.

    Args:
        found: for each image `boxes` (N 4, corners in pixels), `labels` and `scores`, as torchvision's detectors say.
        truth: for each image its `boxes` and `labels`.
    """
    areas = []
    for label in torch.cat([each["labels"] for each in truth]).unique():
        chosen = [each["labels"] == label for each in found]
        said = [(each["scores"][mine], each["boxes"][mine]) for each, mine in zip(found, chosen, strict=True)]
        areas.append(average_precision(said, [each["boxes"][each["labels"] == label] for each in truth]))
    return 100 * sum(areas) / len(areas)


def average_precision(found, truth):
    """The area of one class, in 0..1: a true box is found once, by the surest box that overlaps it by half.

    Args:
        found: for each image its scores N and boxes N 4.
        truth: for each image its true boxes M 4.
    """
    listed = [(float(s), number, box) for number, each in enumerate(found) for s, box in zip(*each, strict=True)]
    listed.sort(key=lambda each: -each[0])
    hits, free = torch.zeros(len(listed)), [torch.ones(len(boxes)) for boxes in truth]
    for place, (_, number, box) in enumerate(listed):
        overlaps = box_iou(box[None], truth[number])[0] * free[number]
        if len(overlaps) and overlaps.max() >= 0.5:
            hits[place], free[number][overlaps.argmax()] = 1, 0
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    best = precision.flip(0).cummax(0).values.flip(0) if len(hits) else precision  # at this recall or above
    return float((best * hits).sum()) / sum(map(len, truth))
