"""Networks of torchvision: any of its classifiers by name, with or without its pretrained weights."""

import pickle

import torch
from torch import nn

from attnbench.backbones import Backbone, backbone, nearest

LIBRARY = Backbone(
    title="torchvision: its classification networks",
    url="https://docs.pytorch.org/vision/stable/models.html",
    sites={},
    families={
        r"resnet(18|34)": {
            "block": r"layer(?P<stage>\d)\.\d+\.bn2",
            "stage": r"layer(?P<stage>\d)",
            "pre": r"layer(?P<stage>\d)\.\d+\.conv1",
            "post": r"layer(?P<stage>\d)\.\d+",
            "conv": r"layer(?P<stage>\d)\.\d+\.conv[12]",
        },
        r"resnet(50|101|152)|resnext\d+_\w+|wide_resnet\d+_\d": {
            "block": r"layer(?P<stage>\d)\.\d+\.bn3",
            "stage": r"layer(?P<stage>\d)",
            "pre": r"layer(?P<stage>\d)\.\d+\.conv1",
            "post": r"layer(?P<stage>\d)\.\d+",
            "conv": r"layer(?P<stage>\d)\.\d+\.conv[123]",
        },
        r"regnet_[xy]_\w+": {
            "block": r"trunk_output\.block(?P<stage>\d)\.[\w-]+\.f\.c",
            "stage": r"trunk_output\.block(?P<stage>\d)",
            "pre": r"trunk_output\.block(?P<stage>\d)\.[\w-]+\.f\.a",
            "post": r"trunk_output\.block(?P<stage>\d)\.[\w-]+",
            "conv": r"trunk_output\.block(?P<stage>\d)\.[\w-]+\.f\.[abc]\.0",
        },
        r"densenet\d+": {
            "block": r"features\.denseblock(?P<stage>\d)\.denselayer\d+\.conv2",
            "stage": r"features\.denseblock(?P<stage>\d)",
            "pre": r"features\.denseblock(?P<stage>\d)\.denselayer\d+\.conv1",
            "conv": r"features\.denseblock(?P<stage>\d)\.denselayer\d+\.conv[12]",
        },
        r"mobilenet_v2": {
            "block": r"features\.(?:(?P<stage1>1)|(?P<stage2>2|3)|(?P<stage3>[456])|(?P<stage4>7|8|9|10)"
            r"|(?P<stage5>11|12|13)|(?P<stage6>14|15|16)|(?P<stage7>17))\.conv\.(?(stage1)2|3)",
            "stage": r"features\.(?:(?P<stage1>1)|(?P<stage2>3)|(?P<stage3>6)|(?P<stage4>10)|(?P<stage5>13)"
            r"|(?P<stage6>16)|(?P<stage7>17))",
            "pre": r"features\.(?:(?P<stage1>1)|(?P<stage2>2|3)|(?P<stage3>[456])|(?P<stage4>7|8|9|10)"
            r"|(?P<stage5>11|12|13)|(?P<stage6>14|15|16)|(?P<stage7>17))\.conv\.0",
            "post": r"features\.(?:(?P<stage1>1)|(?P<stage2>2|3)|(?P<stage3>[456])|(?P<stage4>7|8|9|10)"
            r"|(?P<stage5>11|12|13)|(?P<stage6>14|15|16)|(?P<stage7>17))",
        },
        r"convnext_\w+": {
            "block": r"features\.(?:(?P<stage1>1)|(?P<stage2>3)|(?P<stage3>5)|(?P<stage4>7))\.\d+\.block\.6",
            "stage": r"features\.(?:(?P<stage1>1)|(?P<stage2>3)|(?P<stage3>5)|(?P<stage4>7))",
            "pre": r"features\.(?:(?P<stage1>1)|(?P<stage2>3)|(?P<stage3>5)|(?P<stage4>7))\.\d+\.block\.0",
            "post": r"features\.(?:(?P<stage1>1)|(?P<stage2>3)|(?P<stage3>5)|(?P<stage4>7))\.\d+",
        },
        r"efficientnet_b\d": {
            "block": r"features\.(?P<stage>(?P<first>1)|[2-7])\.\d+\.block\.(?(first)2|3)",
            "stage": r"features\.(?P<stage>[1-7])",
            "pre": r"features\.(?P<stage>[1-7])\.\d+\.block\.0",
            "post": r"features\.(?P<stage>[1-7])\.\d+",
        },
        r"vgg11_bn": {
            "block": r"features\.(?:(?P<stage1>1)|(?P<stage2>5)|(?P<stage3>9|12)|(?P<stage4>16|19)|(?P<stage5>23|26))",
            "stage": r"features\.(?:(?P<stage1>3)|(?P<stage2>7)|(?P<stage3>14)|(?P<stage4>21)|(?P<stage5>28))",
            "conv": r"features\.(?:(?P<stage1>0)|(?P<stage2>4)|(?P<stage3>8|11)|(?P<stage4>15|18)|(?P<stage5>22|25))",
        },
        r"vgg13_bn": {
            "block": r"features\.(?:(?P<stage1>1|4)|(?P<stage2>8|11)|(?P<stage3>15|18)"
            r"|(?P<stage4>22|25)|(?P<stage5>29|32))",
            "stage": r"features\.(?:(?P<stage1>6)|(?P<stage2>13)|(?P<stage3>20)|(?P<stage4>27)|(?P<stage5>34))",
            "conv": r"features\.(?:(?P<stage1>0|3)|(?P<stage2>7|10)|(?P<stage3>14|17)"
            r"|(?P<stage4>21|24)|(?P<stage5>28|31))",
        },
        r"vgg16_bn": {
            "block": r"features\.(?:(?P<stage1>1|4)|(?P<stage2>8|11)|(?P<stage3>15|18|21)"
            r"|(?P<stage4>25|28|31)|(?P<stage5>35|38|41))",
            "stage": r"features\.(?:(?P<stage1>6)|(?P<stage2>13)|(?P<stage3>23)|(?P<stage4>33)|(?P<stage5>43))",
            "conv": r"features\.(?:(?P<stage1>0|3)|(?P<stage2>7|10)|(?P<stage3>14|17|20)"
            r"|(?P<stage4>24|27|30)|(?P<stage5>34|37|40))",
        },
        r"vgg19_bn": {
            "block": r"features\.(?:(?P<stage1>1|4)|(?P<stage2>8|11)|(?P<stage3>15|18|21|24)"
            r"|(?P<stage4>28|31|34|37)|(?P<stage5>41|44|47|50))",
            "stage": r"features\.(?:(?P<stage1>6)|(?P<stage2>13)|(?P<stage3>26)|(?P<stage4>39)|(?P<stage5>52))",
            "conv": r"features\.(?:(?P<stage1>0|3)|(?P<stage2>7|10)|(?P<stage3>14|17|20|23)"
            r"|(?P<stage4>27|30|33|36)|(?P<stage5>40|43|46|49))",
        },
    },
    image_size=224,
)
"""A shortcut's module is there only where a block changes the shape, so that there is no site `identity`."""
_MORE_ANSWERS: dict[str, dict[str, object]] = {
    "googlenet": {"aux_logits": False, "aux1": None, "aux2": None},
    "inception_v3": {"aux_logits": False, "AuxLogits": None},
}
"""Networks that answer with more than logits in training -> what they have where they do not."""


@backbone("torchvision", LIBRARY)
def torchvision(classes: int, in_channels: int, name: str = "resnet50", pretrained: bool = False) -> nn.Module:
    """A classification network of torchvision; `pretrained` loads its default ImageNet weights, for fine-tuning.

    Its classifier is a new one unless `classes` is that of the weights. For other than 3 input channels the first
    convolution is a new one: drawn with the spread of the old, or, pretrained, the sum of its colours divided by
    `in_channels`, so that an image whose channels are equal gives what it gave before.

    Raises:
        ValueError: an unknown name, weights that cannot be downloaded, or a network without a first convolution or a
            classifier that can be replaced.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(f"torchvision has no classification network {name!r}{nearest(name, known)}")
    more: dict[str, object] = {"num_classes": classes, "weights": None}
    if pretrained:
        more = {"weights": "DEFAULT"}
    elif name in _MORE_ANSWERS:
        more |= {"aux_logits": False, "init_weights": True}
    try:
        model: nn.Module = models.get_model(name, **more)
    except OSError as problem:
        raise ValueError(f"its pretrained weights cannot be fetched: {problem}") from problem
    except (RuntimeError, EOFError, pickle.UnpicklingError) as problem:  # a file that was cut off, or another's
        if not pretrained:
            raise
        file = f"{torch.hub.get_dir()}/checkpoints/{models.get_model_weights(name).DEFAULT.url.rsplit('/', 1)[-1]}"
        raise ValueError(
            f"its pretrained weights cannot be read: {problem}; if {file} is damaged, delete it"
        ) from problem
    for part, instead in _MORE_ANSWERS.get(name, {}).items():  # pretrained weights are of the whole
        setattr(model, part, instead)
    if in_channels != 3:
        _replace_first(model, in_channels, pretrained)
    if pretrained:
        _replace_classifier(model, classes)
    return model


def _replace_first(model: nn.Module, in_channels: int, pretrained: bool) -> None:
    """Give the network a first convolution for `in_channels` channels."""
    found = ((path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d))
    path, old = next(found, ("", None))
    if old is None or old.in_channels != 3 or getattr(model, "transform_input", False):
        raise ValueError(f"it takes 3 channels; {in_channels} are not supported")
    new = _like(old, in_channels, old.out_channels)
    weight = old.weight.detach()
    if pretrained:
        new.weight.data.copy_((weight.sum(1, keepdim=True) / in_channels).expand_as(new.weight))
    else:
        nn.init.normal_(new.weight, 0, float(weight.std()))
    if old.bias is not None and new.bias is not None:
        new.bias.data.copy_(old.bias)
    model.set_submodule(path, new)


def _replace_classifier(model: nn.Module, classes: int) -> None:
    """Give the network a new last layer, a linear one or a 1x1 convolution, for `classes` classes."""
    layers = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    path, old = layers[-1] if layers else ("", None)
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, classes, old.bias is not None)
    elif isinstance(old, nn.Conv2d) and old.kernel_size == (1, 1) and "." in path:
        new = _like(old, old.in_channels, classes)
    else:
        raise ValueError("its classifier was not found: the last layer is neither linear nor a 1x1 convolution")
    if classes != getattr(old, "out_features", getattr(old, "out_channels", 0)):
        model.set_submodule(path, new)


def _like(old: nn.Conv2d, in_channels: int, out_channels: int) -> nn.Conv2d:
    """A fresh convolution of the same geometry."""
    geometry = (old.kernel_size, old.stride, old.padding, old.dilation, old.groups, old.bias is not None)
    return nn.Conv2d(in_channels, out_channels, *geometry, old.padding_mode)  # type: ignore[arg-type]
