"""Networks of other libraries, on random weights: they start as they were, keep their tensors, train and come back."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnbench
from attnbench.errors import BadReference

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
PHOTOS = [IMAGE[0], IMAGE[1, :, :56]]
BOXES = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])} for _ in PHOTOS]
Loss = Callable[[nn.Module], Tensor]
Known = tuple[nn.Module, Any, Loss]
"""A network, an example, and what a training step makes smaller."""

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the libraries are theirs


def tensors(found: Any) -> Iterator[Tensor]:
    """Everything that a network gives: a tensor, or mappings, lists and tuples of some."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, Mapping | list | tuple):
        for part in found.values() if isinstance(found, Mapping) else found:
            yield from tensors(part)


def squares(model: nn.Module) -> Tensor:
    return torch.stack([part.square().mean() for part in tensors(model(IMAGE))]).sum()


def detector(name: str, **more: Any) -> Known:
    from torchvision.models import detection

    model = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=3, **more)
    return model, PHOTOS, lambda model: torch.stack([*model(PHOTOS, BOXES).values()]).sum()


def segmentation(name: str) -> Known:
    from torchvision.models import segmentation as library

    return getattr(library, name)(weights=None, weights_backbone=None, num_classes=3), IMAGE, squares


def smp(name: str, encoder: str = "resnet18") -> Known:
    import segmentation_models_pytorch as library

    return getattr(library, name)(encoder, encoder_weights=None, classes=2), IMAGE, squares


@pytest.fixture(autouse=True)
def _pillow_as_it_is(monkeypatch):
    """Importing ultralytics changes how Pillow opens files, for the whole process."""
    from PIL import Image

    monkeypatch.setattr(Image, "open", Image.open)


def ultralytics(name: str) -> Known:
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel(name, nc=3, verbose=False)
    model.args = get_cfg()
    boxes, each = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.4, 0.4, 0.3, 0.3]]), torch.arange(2.0)
    batch = {"img": IMAGE, "batch_idx": each, "cls": each[:, None], "bboxes": boxes}
    return model, IMAGE, lambda model: model(batch)[0].sum()


def transformers(name: str, **more: Any) -> Known:
    import transformers as library

    config = getattr(library, f"{name.partition('For')[0].removesuffix('Backbone').removesuffix('Model')}Config")
    model = getattr(library, name)(config(hidden_sizes=[16, 32], depths=[2, 2], **more))
    return model, {"pixel_values": IMAGE}, squares


NETWORKS: dict[str, Callable[[], Known]] = {
    "SSDLite": lambda: detector("ssdlite320_mobilenet_v3_large"),
    "Faster R-CNN": lambda: detector("fasterrcnn_mobilenet_v3_large_320_fpn", min_size=64, max_size=64),
    "RetinaNet": lambda: detector("retinanet_resnet50_fpn", min_size=64, max_size=64),
    "DeepLabV3": lambda: segmentation("deeplabv3_mobilenet_v3_large"),
    "LR-ASPP": lambda: segmentation("lraspp_mobilenet_v3_large"),
    "U-Net": lambda: smp("Unet"),
    "U-Net on MobileNetV2": lambda: smp("Unet", "mobilenet_v2"),
    "FPN": lambda: smp("FPN"),
    "DeepLabV3+": lambda: smp("DeepLabV3Plus"),
    "YOLOv8": lambda: ultralytics("yolov8n.yaml"),
    "YOLO11": lambda: ultralytics("yolo11n.yaml"),
    "ResNet classifier": lambda: transformers("ResNetForImageClassification", embedding_size=16, layer_type="basic"),
    "ResNet backbone": lambda: transformers("ResNetBackbone", embedding_size=16, out_features=["stage1", "stage2"]),
    "ConvNeXt backbone": lambda: transformers("ConvNextBackbone", num_stages=2, out_features=["stage1", "stage2"]),
    "RegNet": lambda: transformers("RegNetModel", embedding_size=16, groups_width=8),
}
ALL = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True)
def _nothing_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def known(name: str) -> Known:
    torch.manual_seed(1)
    model, example, loss = NETWORKS[name]()
    return model.eval(), example, loss


def out(model: nn.Module, example: Any) -> list[Tensor]:
    with torch.no_grad():
        return list(tensors(model(**example) if isinstance(example, Mapping) else model(example)))


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return len(one) == len(two) > 0 and all(map(torch.equal, one, two))


@ALL
def test_a_librarys_network_starts_as_it_was_keeps_its_tensors_and_comes_back(name):
    model, example, _ = known(name)
    kinds = {path: type(module) for path, module in model.named_modules()}
    before, weights = out(model, example), {key: value.clone() for key, value in model.state_dict().items()}
    usual = attnbench.sites(model, example)[0]
    assert len(usual.paths) > 2
    attnbench.graft(model, "eca", example=example)
    assert same(out(model, example), before)
    found = attnbench.load_pretrained(model, weights)
    assert (set(found.loaded), found.missing, found.left_over) == (set(weights), (), ())
    assert same(out(model, example), before)
    back = attnbench.ungraft(model)
    assert {path: type(module) for path, module in back.named_modules()} == kinds
    assert list(back.state_dict()) == list(weights)
    assert same(out(back, example), before)


@ALL
def test_a_step_of_training_moves_the_mechanism_at_every_place(name):
    model, example, loss = known(name)
    usual = attnbench.sites(model, example)[0]
    attnbench.graft(model, "eca", example=example)
    added = {path: list(model.get_submodule(f"{path}.1").parameters()) for path in usual.paths}
    before = {path: [parameter.detach().clone() for parameter in held] for path, held in added.items()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    loss(model.train()).backward()
    optimiser.step()
    still = [path for path, held in added.items() if all(map(torch.equal, held, before[path]))]
    assert added
    assert not still


def test_a_u_nets_decoder_has_places_though_its_blocks_get_more_than_maps():
    model, example, _ = known("U-Net")
    before = out(model, example)
    attnbench.graft(model, "eca", r"decoder\.blocks\.\d+", example=example)
    assert same(out(model, example), before)


def test_a_block_is_no_gate_that_it_holds():
    model, example, _ = known("Faster R-CNN")
    behind, built_in = (attnbench.sites(model, example)[place] for place in (0, -1))
    assert (len(behind.paths), built_in.kind, len(built_in.paths)) == (15, "built-in", 8)


def test_maps_with_the_channels_last_are_no_place_even_where_their_shape_hides_it():
    model, example, _ = known("ConvNeXt backbone")  # 16 channels on 16x16
    assert [site.kind for site in attnbench.sites(model, example)] == ["post"]
    norm = "encoder.stages.0.layers.0.layernorm"
    with pytest.raises(BadReference, match=r"its maps are B H W C, .* not B C H W; it could be one of") as told:
        attnbench.graft(model, "eca", norm, example=example)
    assert "\n" not in str(told.value)


def test_a_network_of_tokens_is_answered_with_the_convolution_that_it_has():
    import transformers as library

    config = library.SwinConfig(image_size=64, embed_dim=12, depths=[2, 2], num_heads=[1, 2])
    model = library.SwinBackbone(config).eval()
    with pytest.raises(BadReference, match=r"no block .* in SwinBackbone; name a place; .*patch_embeddings.*proj"):
        attnbench.graft(model, "se", example=IMAGE)
    with pytest.raises(BadReference, match=r"it gives 3 dimensions, not maps B C H W; it could be one of .*proj"):
        attnbench.graft(model, "se", "swin.embeddings.norm", example=IMAGE)
    attnbench.graft(model, "se", "swin.embeddings.patch_embeddings.projection", example=IMAGE)


def test_a_layer_that_says_which_others_it_reads_is_wrapped_with_what_it_says():
    model, example, _ = known("YOLOv8")
    before = out(model, example)
    attnbench.graft(model, "eca", r"model\.(4|6|12)", example=example)
    assert same(out(model, example), before)


def test_behind_its_blocks_a_mechanism_outlives_that_ultralytics_joins_convolutions_and_norms():
    model, example, _ = known("YOLOv8")
    attnbench.graft(model, "eca", r"model\.\d+\.m\.\d+", example=example, init="own")
    before = out(model, example)[0]
    torch.testing.assert_close(out(model.fuse(verbose=False), example)[0], before, rtol=1e-3, atol=1e-3)
