"""Learning rates and optimisers: torch's own are the oracle."""

import math

import numpy as np
import pytest
import torch
from conftest import TINY
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from attnbench import RunSpec
from attnbench.training.optim import begin_momentum, learning_rate, optimizer


def spec(**fields: object) -> RunSpec:
    return RunSpec(**{**TINY, **fields})


def rates(one: RunSpec, steps: int) -> list[float]:
    return [learning_rate(one, epoch, step, steps) for epoch in range(one.epochs) for step in range(steps)]


def scheduled(make, lr: float, count: int) -> list[float]:
    """The learning rates of torch's own scheduler."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=lr)
    scheduler, found = make(sgd), []
    for _ in range(count):
        found.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if len(found) < count:
            scheduler.step()
    return found


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 7), (5, 3), (25, 4)])
@pytest.mark.parametrize("lr", [0.1, 1e-3])
def test_each_schedule_is_torchs_own(epochs, steps, lr):
    total = epochs * steps
    by_epoch = scheduled(lambda sgd: CosineAnnealingLR(sgd, epochs), lr, epochs)
    expected = {
        "cosine-epoch": np.repeat(by_epoch, steps),
        "cosine": scheduled(lambda sgd: CosineAnnealingLR(sgd, total), lr, total),
        "constant": [lr] * total,
    }
    if total > 1:  # torch's own divides by zero at one step
        cycle = dict(max_lr=lr, total_steps=total, cycle_momentum=False)
        expected["onecycle"] = scheduled(lambda sgd: OneCycleLR(sgd, **cycle), lr, total)
    for schedule, theirs in expected.items():
        ours = rates(spec(epochs=epochs, lr=lr, schedule=schedule), steps)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=schedule)


@pytest.mark.parametrize("schedule", ["cosine-epoch", "cosine", "constant"])
def test_a_warm_up_rises_in_a_line_to_the_peak(schedule):
    found = rates(spec(epochs=4, lr=0.5, schedule=schedule, warmup=2.0), steps=5)
    np.testing.assert_allclose(found[:10], [0.5 * (step + 1) / 11 for step in range(10)], rtol=1e-12)
    assert found[10] == max(found) == 0.5
    rest = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * 0.5)) / 2, "cosine-epoch": 0.5}
    assert found[15] == pytest.approx(0.5 * rest[schedule])


def test_a_warm_up_sets_the_length_of_the_one_cycles_rise():
    cycle = dict(max_lr=0.1, total_steps=20, cycle_momentum=False, pct_start=0.5)
    theirs = scheduled(lambda sgd: OneCycleLR(sgd, **cycle), 0.1, 20)
    ours = rates(spec(epochs=4, lr=0.1, schedule="onecycle", warmup=2.0), steps=5)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_a_first_step_that_overflows_in_half_precision_changes_nothing():
    torch.use_deterministic_algorithms(True)  # what is undefined is nan then
    try:
        ends = []
        for overflows in (True, False):
            torch.manual_seed(0)
            model = torch.nn.Linear(3, 1)
            made, scaler = (
                optimizer(spec(optimizer="sgd", lr=0.1), model),
                torch.amp.GradScaler("cpu", init_scale=8.0),
            )
            begin_momentum(made)
            for bad in [True] * overflows + [False, False]:
                made.zero_grad()
                scaler.scale(model(torch.ones(2, 3)).sum() * (float("inf") if bad else 1.0)).backward()
                scaler.step(made)
                scaler.update()
            ends.append(model.weight.detach())
        assert torch.equal(*ends)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.0, False)])
def test_sgd_is_nesterovs(momentum, nesterov):
    made = optimizer(spec(optimizer="sgd", momentum=momentum), torch.nn.Linear(2, 2))
    assert isinstance(made, torch.optim.SGD)
    assert (made.defaults["nesterov"], made.defaults["momentum"]) == (nesterov, momentum)
