"""Devices: one file speaks of CUDA, and what must never wait for a device does not."""

import copy
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from attnbench.training.loop import _take_in

SOURCE = Path(__file__).parent.parent / "src" / "attnbench"


def test_one_file_calls_cuda():
    speaking = [file.name for file in SOURCE.rglob("*.py") if "torch.cuda" in file.read_text()]
    assert speaking == ["devices.py"]


def test_an_average_that_does_not_wait_is_that_of_torch():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    ours, theirs = (AveragedModel(model, use_buffers=True) for _ in range(2))
    for _ in range(4):
        model(torch.randn(2, 3, 8, 8)).sum().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        _take_in(ours, copy.deepcopy(model))
        theirs.update_parameters(model)
    assert all(a.equal(b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
