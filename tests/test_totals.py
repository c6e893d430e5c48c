"""Whole networks have as many parameters as their papers, or the code released with them, say."""

import pytest
import torch

from attnbench import network

EXACT = [
    ("resnet50", "none", None, 25_557_032),  # torchvision
    ("resnet50", "se", None, 28_088_024),  # with biases, as the Caffe models
    ("resnet50", 'se(variant="classic")', None, 28_071_976),  # without
    ("resnet50", "eca", None, 25_557_118),
    ("resnet50", "fca", None, 28_071_976),  # frequencies in place of averages cost nothing
]
ROUNDED = [
    ("resnet50", "bam", "paper", 25.92),  # Park et al. 2018, ImageNet
    ("resnet50", "srm", None, 25.62),  # Lee et al. 2019, ImageNet
    ("resnet50", "sge", None, 25.56),  # released with PytorchInsight
    ("resnet50", "triplet", None, 25.56),  # Misra et al. 2020, ImageNet
]


def total(backbone: str, attention: str, site: str | None) -> int:
    with torch.device("meta"):
        model = network(backbone, attention, classes=1000, site=site)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("backbone", "attention", "site", "published"), EXACT)
def test_a_network_has_exactly_as_many_parameters_as_published(backbone, attention, site, published):
    assert total(backbone, attention, site) == published


@pytest.mark.parametrize(("backbone", "attention", "site", "published"), ROUNDED)
def test_a_network_has_as_many_million_parameters_as_published(backbone, attention, site, published):
    assert round(total(backbone, attention, site) / 1e6, 2) == published
