"""Networks of timm, if it is installed: any of its models by name, with or without its pretrained weights."""

import importlib.util

from torch import nn

from attnbench.backbones import Backbone, backbone, nearest

LIBRARY = Backbone(
    title="timm: PyTorch Image Models",
    url="https://huggingface.co/docs/timm",
    sites={},
    families={
        r"resnet(10t|18d?|34d?)(\..+)?": {
            "block": r"layer(?P<stage>\d)\.\d+\.bn2",
            "stage": r"layer(?P<stage>\d)",
            "pre": r"layer(?P<stage>\d)\.\d+\.conv1",
            "post": r"layer(?P<stage>\d)\.\d+",
            "conv": r"layer(?P<stage>\d)\.\d+\.conv[12]",
        },
        r"(resnet(14t|26[dt]?|(50|101|152|200)[dcs]?|50t)|resnext(50d?|101)_\d+x\d+d|wide_resnet\d+_2)(\..+)?": {
            "block": r"layer(?P<stage>\d)\.\d+\.bn3",
            "stage": r"layer(?P<stage>\d)",
            "pre": r"layer(?P<stage>\d)\.\d+\.conv1",
            "post": r"layer(?P<stage>\d)\.\d+",
            "conv": r"layer(?P<stage>\d)\.\d+\.conv[123]",
        },
        r"regnet[xy]_\d+(\..+)?": {
            "block": r"s(?P<stage>\d)\.b\d+\.conv3",
            "stage": r"s(?P<stage>\d)",
            "pre": r"s(?P<stage>\d)\.b\d+\.conv1",
            "post": r"s(?P<stage>\d)\.b\d+",
            "conv": r"s(?P<stage>\d)\.b\d+\.conv[123]\.conv",
        },
        r"densenet\d+(\..+)?": {
            "block": r"features\.denseblock(?P<stage>\d)\.denselayer\d+\.conv2",
            "stage": r"features\.denseblock(?P<stage>\d)",
            "pre": r"features\.denseblock(?P<stage>\d)\.denselayer\d+\.conv1",
            "conv": r"features\.denseblock(?P<stage>\d)\.denselayer\d+\.conv[12]",
        },
        r"mobilenetv2_\d+(\..+)?|efficientnet_b\d(\..+)?": {
            "block": r"blocks\.(?:(?P<stage1>0)|(?P<stage2>1)|(?P<stage3>2)|(?P<stage4>3)"
            r"|(?P<stage5>4)|(?P<stage6>5)|(?P<stage7>6))\.\d+\.bn(?(stage1)2|3)",
            "stage": r"blocks\.(?:(?P<stage1>0)|(?P<stage2>1)|(?P<stage3>2)|(?P<stage4>3)"
            r"|(?P<stage5>4)|(?P<stage6>5)|(?P<stage7>6))",
            "pre": r"blocks\.(?:(?P<stage1>0)|(?P<stage2>1)|(?P<stage3>2)|(?P<stage4>3)"
            r"|(?P<stage5>4)|(?P<stage6>5)|(?P<stage7>6))\.\d+\.conv_(?(stage1)dw|pw)",
            "post": r"blocks\.(?:(?P<stage1>0)|(?P<stage2>1)|(?P<stage3>2)|(?P<stage4>3)"
            r"|(?P<stage5>4)|(?P<stage6>5)|(?P<stage7>6))\.\d+",
            "conv": r"blocks\.(?:(?P<stage1>0)|(?P<stage2>1)|(?P<stage3>2)|(?P<stage4>3)"
            r"|(?P<stage5>4)|(?P<stage6>5)|(?P<stage7>6))\.\d+\.conv_(pw|dw|pwl)",
        },
        r"convnext_(nano|tiny|small|base|large)(\..+)?": {
            "block": r"stages\.(?:(?P<stage1>0)|(?P<stage2>1)|(?P<stage3>2)|(?P<stage4>3))\.blocks\.\d+\.drop_path",
            "stage": r"stages\.(?:(?P<stage1>0)|(?P<stage2>1)|(?P<stage3>2)|(?P<stage4>3))",
            "pre": r"stages\.(?:(?P<stage1>0)|(?P<stage2>1)|(?P<stage3>2)|(?P<stage4>3))\.blocks\.\d+\.conv_dw",
            "post": r"stages\.(?:(?P<stage1>0)|(?P<stage2>1)|(?P<stage3>2)|(?P<stage4>3))\.blocks\.\d+",
            "identity": r"stages\.(?:(?P<stage1>0)|(?P<stage2>1)|(?P<stage3>2)|(?P<stage4>3))\.blocks\.\d+\.shortcut",
        },
    },
    image_size=224,
)
"""In ConvNeXt `block` lies behind the learned scale: before it no module holds a map."""


@backbone("timm", LIBRARY)
def timm(classes: int, in_channels: int, name: str = "resnet50", pretrained: bool = False) -> nn.Module:
    """A model of timm (`pip install timm`), its name with or without a tag; `pretrained` loads the tag's weights.

    The classifier is a new one unless `classes` is that of the weights; timm itself adapts the first convolution
    to `in_channels`.

    Raises:
        ValueError: timm is missing, an unknown name, or weights that cannot be downloaded.
    """
    if importlib.util.find_spec("timm") is None:
        raise ValueError("timm is not installed: pip install timm")
    import timm as library

    if not library.is_model(name):
        raise ValueError(f"timm has no model {name!r}{nearest(name.split('.')[0], library.list_models())}")
    try:
        model: nn.Module = library.create_model(name, pretrained=pretrained, num_classes=classes, in_chans=in_channels)
    except (OSError, RuntimeError) as problem:  # no such weights, or no network
        reason = str(problem).splitlines()[0]
        raise ValueError(f"timm cannot make {name!r}: {reason}") from problem
    return model
