"""The catalogue as a whole: broad, without doubles, and every entry in a network."""

import itertools
import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from torch import nn

from attnbench import RunSpec, Store, Study, build_attention, network
from attnbench.catalogue.registry import ATTENTION
from attnbench.examine.sameness import same

HERE = Path(__file__).parent
ENTRIES = [entry for entry in ATTENTION if entry.builtin]
NAMES = [entry.name for entry in ENTRIES if not entry.card.control]
TIER_1 = (
    "se ese scse eca srm gct fca cbam bam sge simam coord ela triplet mca sa ema mlca gam ge gc nl a2 sk splat lka nam"
)
SMALL = "resnet20(widths=(8, 16, 16))"


def test_is_as_broad_as_it_says():
    assert set(TIER_1.split()) <= set(NAMES)
    assert len(NAMES) >= 60


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_card_says_what_a_bibliography_and_a_reader_need(entry):
    card = entry.card
    assert entry.summary.endswith(".")
    assert card.title
    if card.control:
        return
    assert card.authors
    assert card.venue
    assert 2016 <= card.year <= 2025
    assert re.fullmatch(r"https://\S+", card.url)
    assert card.parameters
    assert all(reason.strip() for reason in card.inert.values())


def test_no_two_names_are_one_paper_by_mistake():
    """Two mechanisms of one paper have different summaries."""
    told = [(entry.card.url, entry.summary) for entry in ENTRIES if not entry.card.control]
    assert len(set(told)) == len(told)


def filled(module: nn.Module, phase: int) -> nn.Module:
    """Every parameter with values that its shape alone decides: what order or name it has does not matter."""
    with torch.no_grad():
        for parameter in module.parameters():
            values = torch.sin(phase + torch.arange(parameter.numel(), dtype=torch.float64))
            parameter.copy_(values.reshape(parameter.shape) / 2)
    return module


def test_no_two_names_compute_the_same_function():
    """With the same values in the same shapes two names of one function would agree at every filling."""
    x = torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outputs = {}
    for name in NAMES:
        module = build_attention(name, 32, (8, 8)).double().eval()
        with torch.no_grad():  # in some fillings all hidden units of a narrow layer are dead
            outputs[name] = torch.stack([filled(module, phase)(x) for phase in range(1, 5)])
    doubles = [
        (one, two) for one, two in itertools.combinations(NAMES, 2) if (outputs[one] - outputs[two]).abs().max() < 1e-6
    ]
    assert doubles == []


def test_the_same_function_under_another_name_is_seen():
    one, two = (build_attention(name, 32, (8, 8)).double().eval() for name in ("se", "se(reduction=16)"))
    x = torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(filled(one, 2)(x), filled(two, 2)(x))


@pytest.mark.parametrize("name", NAMES)
def test_trains_a_step_in_a_network(name):
    model = network(SMALL, name, classes=4, image_size=18)
    model(torch.randn(4, 3, 18, 18)).square().mean().backward()
    grown = [p for p in model.parameters() if p.grad is not None and p.grad.isfinite().all()]
    assert len(grown) >= len(list(network(SMALL, "none", classes=4).parameters())) - 9  # convolutions may be replaced


@pytest.mark.parametrize("name", NAMES)
def test_differs_from_the_plain_network_in_the_mechanism_only(name):
    spec = {"dataset": "CIFAR10", "backbone": SMALL}
    found = same(RunSpec(**spec, attention=name), RunSpec(**spec))
    assert found.differences == ()
    assert bool(found.replaced) == (ATTENTION.resolve(name).placed.kind == "R")


def test_most_of_tier_1_has_a_second_witness():
    """Somebody else's module or its values, besides our own reference of the equations."""
    told = set(TIER_1.split())
    modules = {name for name in told if "def witness(" in (HERE / "equations" / f"{name}.py").read_text()}
    values = {name for name in told if list((HERE / "golden").glob(f"{name}[.-]*npz"))}
    assert len(modules | values) >= 20


def test_every_mechanism_of_the_study_learned_and_none_diverged():
    """Guessing gives at most 11.1 %, the share of the largest class; the bound is twice that."""
    study, store = Study.load(ROOT / "studies" / "catalogue.yaml"), Store(ROOT / "results" / "earlier" / "catalogue")
    records = store.records()
    assert len(records) == len(study.runs())
    assert len({record.canonical["attention"] for record in records}) >= 20
    assert all(record.done for record in records)
    assert min(record.accuracy for record in records) > 22
