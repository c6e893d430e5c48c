"""Does a mechanism help segmentation? A U-Net on coloured shapes: python segmentation.py scores.csv [STEPS]"""

import functools
import sys

import paired
import segmentation_models_pytorch as smp
import shapes
import torch

import attnbench

SIDE, CLASSES = 64, 1 + len(shapes.SHAPES)
TRAIN, TEST = shapes.several(400, SIDE, seed=0), shapes.several(100, SIDE, seed=1)


def network(arm, seed):
    """A small U-Net whose random weights depend on the seed alone, and a mechanism that starts as nothing."""
    torch.manual_seed(seed)
    model = smp.Unet("resnet18", encoder_depth=3, encoder_weights=None, decoder_channels=(32, 16, 8), classes=CLASSES)
    return model if arm == "none" else attnbench.graft(model, arm, example=(3, SIDE, SIDE), seed=seed)


def loss(model, batch):
    """Cross-entropy over all pixels."""
    images, masks = stacked(batch)
    return torch.nn.functional.cross_entropy(model(images), masks)


@torch.no_grad()
def score(model):
    """Mean over classes of intersection over union, in percent, over all pixels of the test images."""
    images, masks = stacked(TEST)
    counts = smp.metrics.get_stats(model.eval()(images).argmax(1), masks, mode="multiclass", num_classes=CLASSES)
    return 100 * float(smp.metrics.iou_score(*(each.sum(0) for each in counts)).mean())


def stacked(batch):
    """Images B 3 H W and masks B H W."""
    return torch.stack([image for image, *_ in batch]), torch.stack([mask for _, mask, *_ in batch])


if __name__ == "__main__":
    name, steps, *_ = [*sys.argv[1:], "100"]
    paired.scores(name, ("none", "se"), network, functools.partial(paired.train, TRAIN, loss, int(steps)), score)
