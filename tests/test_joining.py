"""A mechanism joins a network as that is: modules of two names, mode and dtype, layout of maps, further arguments."""

import sys
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attnbench
from attnbench.errors import BadReference, ForeignError
from attnbench.networks.graft import moved

IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
POSITIONS = pytest.mark.parametrize("position", ["behind", "before", "instead"])


class Stem(nn.Module):
    """A network that has its first layers under two names, and runs them under the second."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.stem = nn.Sequential(*self.base[:3])

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.base[3](self.stem(x))
        return mixed


def stem() -> nn.Module:
    torch.manual_seed(1)
    return Stem().eval()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@POSITIONS
@pytest.mark.parametrize("at", ["base.1", "stem.1", ["base.1", "stem.1"]])
def test_a_module_of_two_names_is_one_place_under_both(at, position):
    model = stem()
    before, weights = model(IMAGE), weights_of(model)
    attnbench.graft(model, "se", at, example=IMAGE, position=position, init="own")
    assert model.stem[1] is model.base[1]
    assert not torch.equal(model(IMAGE), before), "the mechanism runs"
    if position != "instead":
        found = attnbench.load_pretrained(model, weights)
        assert (set(found.loaded), found.missing, found.left_over) == (set(weights), (), ())
    back = attnbench.ungraft(model)
    assert back.stem[1] is back.base[1]
    assert list(back.state_dict()) == list(weights)
    assert torch.equal(back(IMAGE), before)


@POSITIONS
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_mechanism_takes_the_mode_and_the_dtype_of_the_network(dtype, position):
    model, image = stem().to(dtype), IMAGE.to(dtype)
    attnbench.graft(model, "bam", "base.1", example=image, position=position)
    assert not any(module.training for module in model.modules())
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model(image).dtype == dtype, "one image has no statistics of a batch"


def test_a_mechanism_behind_a_norm_that_stands_still_stands_still_and_nothing_else_does():
    model = stem().train()
    model.base[1].eval()
    attnbench.graft(model, "bam", "base.1", example=IMAGE)
    still = {path for path, module in model.named_modules() if not module.training}
    assert still == {path for path, _ in model.named_modules() if path.startswith("base.1")}


def test_where_the_dtype_stays_a_table_of_another_one_keeps_it():
    module = nn.Conv2d(1, 1, 1)
    module.register_buffer("table", torch.zeros(1, dtype=torch.float64))
    assert moved(module, torch.float32, torch.zeros(1)).table.dtype == torch.float64
    assert moved(module, torch.float32, torch.zeros(1, dtype=torch.bfloat16)).table.dtype == torch.bfloat16


@pytest.mark.parametrize("attention", ["eca", "none"])
def test_what_was_replaced_comes_back_as_the_network_is_now(attention):
    import torchvision.models as library

    model = library.mobilenet_v3_small(weights=None).eval()
    names = list(model.state_dict())
    attnbench.graft(model, attention, "built-in", example=(3, 32, 32))
    back = attnbench.ungraft(model.train().double())
    assert list(back.state_dict()) == names
    assert all(module.training for module in back.modules())
    assert {parameter.dtype for parameter in back.parameters()} == {torch.float64}


# Maps with the channels last


@pytest.fixture(scope="module")
def swin() -> nn.Module:
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], 24, [2, 2], [2, 2], [2, 2], num_classes=2).eval()


@pytest.fixture(scope="module")
def convnext() -> nn.Module:
    """16 channels on 16x16 pixels: the shape does not tell which is which."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 1)], num_classes=2).eval()


LAST = {
    "swin": ["features.1.0.attn", r"features\.1\.\d+", "features.1", "features.1.0.norm1", "features.1.0.mlp.0",
             "features.1.0.stochastic_depth", "features.2"],
    "convnext": ["features.1.0.block.2", "features.1.0.block.3", "features.1.0.block.4", "features.3.0.block.1"],
}  # fmt: skip
FIRST = {
    "swin": ["features.0.0", "permute"],
    "convnext": ["features.0", "features.1", r"features\.1\.\d+", "features.1.0.block", "features.1.0.block.0",
                 "features.1.0.block.6", "features.1.0.stochastic_depth", "features.2", "features.3"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "at"), [(name, at) for name, places in LAST.items() for at in places])
def test_maps_b_h_w_c_are_no_place(request, name, at):
    model = request.getfixturevalue(name)
    with pytest.raises(BadReference, match=r"its maps are B H W C, .* not B C H W") as told:
        attnbench.graft(model, "se", at, example=(3, 64, 64))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("name", "at"), [(name, at) for name, places in FIRST.items() for at in places])
def test_maps_b_c_h_w_beside_them_are(request, name, at):
    model, image = request.getfixturevalue(name), torch.rand(1, 3, 64, 64)
    before = model(image)
    attnbench.graft(model, "se", at, example=image)
    assert torch.equal(model(image), before)
    attnbench.ungraft(model)


def test_attention_over_maps_b_h_w_c_is_neither_offered_nor_exchanged(swin):
    assert attnbench.sites(swin, (3, 64, 64)) == []
    with pytest.raises(BadReference, match="was built without attention that gates maps B C H W"):
        attnbench.graft(swin, "se", "built-in", example=(3, 64, 64))


def test_a_run_refuses_such_a_place_too():
    with pytest.raises(BadReference, match="cannot be a site: its maps are B H W C"):
        attnbench.network(
            'torchvision(name="convnext_tiny")', "se", 2, image_size=32, site=r"pattern:features\.1\.0\.block\.3"
        )


# Further arguments


class Joins(nn.Module):
    """A decoder's block: maps, the size that they are to have, and others that come with them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, height: int, width: int, skip: Tensor) -> Tensor:
        mixed: Tensor = self.two(self.one(F.interpolate(x, size=(height, width))) + skip)
        return mixed


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Joins(), Joins()])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, *x.shape[2:], skip=x)
        return x


@POSITIONS
def test_a_module_gets_what_the_network_gives_it_besides_maps(position):
    model = Decoder()
    assert [site.paths for site in attnbench.sites(model, IMAGE)] == [("blocks.0", "blocks.1")]
    before = model(IMAGE)
    attnbench.graft(model, "se", example=IMAGE, position=position)
    assert torch.equal(model(IMAGE), IMAGE if position == "instead" else before)


# Words, order, and mechanisms made for one size


def test_at_built_in_words_are_kept_or_refused():
    import torchvision.models as library

    torch.manual_seed(1)
    model, image = library.mobilenet_v3_small(weights=None).eval(), torch.rand(1, 3, 32, 32)
    for wrong, told in (
        ({"position": "before"}, "at='built-in' replaces; for position='before' name the paths"),
        ({"init": "Identity"}, "init='Identity' is not one of 'own', 'identity'; did you mean 'identity'"),
    ):
        with pytest.raises(BadReference, match=told):
            attnbench.graft(model, "eca", "built-in", example=image, **wrong)
    without = attnbench.graft(model, "none", "built-in", example=image)(image)
    eased = attnbench.graft(attnbench.ungraft(model), "eca", "built-in", example=image, init="identity")
    assert torch.equal(eased(image), without)


def test_a_network_too_is_built_with_no_start_that_there_is_not():
    with pytest.raises(BadReference, match="init='Identity' is not one of 'own', 'identity'"):
        attnbench.network("resnet20", "se", 2, image_size=16, init="Identity")


def test_places_may_be_listed_in_any_order_and_more_than_once():
    torch.manual_seed(1)
    block = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4)))
    model = nn.Sequential(block, nn.Conv2d(4, 4, 3)).eval()
    before, names = model(IMAGE), list(model.state_dict())
    attnbench.graft(model, "se", ["0.norm", "0", "1", "0.norm"], example=IMAGE)
    assert torch.equal(model(IMAGE), before)
    assert len([name for name in model.state_dict() if name.endswith("strength")]) == 3
    assert list(attnbench.ungraft(model).state_dict()) == names


TABLE = """
import torch
from torch import nn

class Table(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.table = nn.Parameter(torch.ones(14, 14))
    def forward(self, x):
        return x * (1 + self.table)
"""


def test_a_mechanism_of_somebodys_own_that_is_made_for_one_size_starts_as_nothing(tmp_path, monkeypatch):
    (tmp_path / "own_tables.py").write_text(TABLE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_tables", raising=False)
    torch.manual_seed(1)
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)).eval()
    before, names = model(IMAGE), list(model.state_dict())
    with pytest.raises(ForeignError, match=r"own_tables:Table at 2 on maps of 2x4x12x12: RuntimeError"):
        attnbench.graft(model, "own_tables:Table", ["1", "2"], example=IMAGE)
    assert list(model.state_dict()) == names
    attnbench.graft(model, "own_tables:Table", "1", example=IMAGE)
    assert torch.equal(model(IMAGE), before)
