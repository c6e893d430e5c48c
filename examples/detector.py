"""Does a mechanism help a detector? SSDLite on coloured shapes: python detector.py scores.csv [STEPS]"""

import itertools
import sys
from pathlib import Path

import shapes
import torch
from precision import mean_average_precision
from torchvision.models import resnet18
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead

import attnbench

SIDE, BATCH, CLASSES = 64, 16, 1 + len(shapes.SHAPES)
TRAIN, TEST = shapes.several(400, SIDE, seed=0), shapes.several(100, SIDE, seed=1)


def network(arm, seed):
    """SSDLite whose random weights depend on the seed alone, and a mechanism that starts as nothing."""
    torch.manual_seed(seed)
    body = IntermediateLayerGetter(resnet18(weights=None), {"layer2": "8x8", "layer3": "4x4"})
    anchors = DefaultBoxGenerator([[], []], scales=[0.35, 0.45, 0.55])
    head = SSDLiteHead([128, 256], anchors.num_anchors_per_location(), CLASSES, torch.nn.BatchNorm2d)
    model = SSD(body, anchors, (SIDE, SIDE), CLASSES, head=head, score_thresh=0.01, detections_per_img=20)
    return model if arm == "none" else attnbench.graft(model, arm, example=[TRAIN[0][0], TRAIN[1][0]], seed=seed)


def train(model, steps, seed):
    """AdamW under one cycle; the order of the images depends on the seed alone."""
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.train().parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(steps):
        batch = [TRAIN[number] for number in torch.randint(len(TRAIN), (BATCH,), generator=order)]
        loss = sum(model([image for image, *_ in batch], shapes.targets(batch)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def score(model):
    """Mean average precision on the test images, in percent."""
    return mean_average_precision(model.eval()([image for image, *_ in TEST]), shapes.targets(TEST))


if __name__ == "__main__":
    name, steps, *_ = [*sys.argv[1:], "60"]
    with Path(name).open("w") as file:
        print("arm,seed,score,unit", file=file)
        for seed, arm in itertools.product(range(3), ("none", "eca")):
            train(model := network(arm, seed), int(steps), seed)
            print(f"{arm},{seed},{score(model):.3f},%", file=file, flush=True)
