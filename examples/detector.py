"""Does a mechanism help a detector? SSDLite on coloured shapes: python detector.py scores.csv [STEPS]"""

import functools
import sys

import paired
import shapes
import torch
from precision import mean_average_precision
from torchvision.models import resnet18
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead

import attnbench

SIDE, CLASSES = 64, 1 + len(shapes.SHAPES)
TRAIN, TEST = shapes.several(400, SIDE, seed=0), shapes.several(100, SIDE, seed=1)


def network(arm, seed):
    """SSDLite whose random weights depend on the seed alone, and a mechanism that starts as nothing."""
    torch.manual_seed(seed)
    body = IntermediateLayerGetter(resnet18(weights=None), {"layer2": "8x8", "layer3": "4x4"})
    anchors = DefaultBoxGenerator([[], []], scales=[0.35, 0.45, 0.55])
    head = SSDLiteHead([128, 256], anchors.num_anchors_per_location(), CLASSES, torch.nn.BatchNorm2d)
    model = SSD(body, anchors, (SIDE, SIDE), CLASSES, head=head, score_thresh=0.01, detections_per_img=20)
    return model if arm == "none" else attnbench.graft(model, arm, example=[TRAIN[0][0], TRAIN[1][0]], seed=seed)


def loss(model, batch):
    """What torchvision's detectors learn from: the errors of boxes and classes."""
    return sum(model([image for image, *_ in batch], shapes.targets(batch)).values())


@torch.no_grad()
def score(model):
    """Mean average precision on the test images, in percent."""
    return mean_average_precision(model.eval()([image for image, *_ in TEST]), shapes.targets(TEST))


if __name__ == "__main__":
    name, steps, *_ = [*sys.argv[1:], "60"]
    paired.scores(name, ("none", "eca"), network, functools.partial(paired.train, TRAIN, loss, int(steps)), score)
