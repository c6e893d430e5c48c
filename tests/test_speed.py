"""The benchmarks of speed: baselines that compute the same network, paired ratios, and an alarm that rings."""

import importlib
import itertools
import json
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from attnbench.analysis.stats import estimate
from attnbench.networks.network import network
from attnbench.store.environment import environment


@pytest.fixture
def part(monkeypatch):
    """A module of benchmarks/, by its name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.mark.parametrize(("attention", "ours"), [("none", "none"), ("se", 'se(variant="classic")'), ("cbam", "cbam")])
def test_the_textbook_network_is_ours_in_other_words(part, attention, ours):
    textbook = part("baselines").textbook("resnet20", attention).double().eval()
    model = network("resnet20", ours, 10, 1, 3, 32).double().eval()
    weights = [value for name, value in textbook.state_dict().items()]
    assert len(weights) == len(model.state_dict())
    model.load_state_dict(dict(zip(model.state_dict(), weights, strict=True)))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(textbook(images), model(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("step", ["classic_step", "timm_step"])
def test_a_baselines_step_trains(part, step):
    baselines = part("baselines")
    model = baselines.textbook("resnet20", "se")
    before = [parameter.clone() for parameter in model.parameters()]
    getattr(baselines, step)(model, torch.randn(4, 3, 32, 32), torch.arange(4))()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True) if old.ndim == 4)


def test_convolutions_alone_are_all_of_them_with_their_gradients(part):
    model = network("resnet20", "none", 10, 0, 3, 32)
    part("baselines").convolutions(model, torch.randn(2, 3, 32, 32))()
    convs = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convs) == 19
    assert all(conv.weight.grad is not None for conv in convs)
    assert all(module.weight.grad is None for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))


def test_pil_and_ours_make_batches_of_the_same_shape(part):
    steps = part("steps")
    batches = steps.batches_of(steps.spec_of("resnet20", augment="crop+flip"), 64)
    ours = [images for _, images, _ in batches.epoch(0)]
    pil = list(part("baselines").pil_batches(batches.split.source.images, 32))
    assert [x.shape for x in ours] == [x.shape for x in pil] == [(32, 3, 32, 32)] * 2


def test_ratios_are_taken_round_by_round(part):
    ticks = itertools.count()
    work = {"one": 3, "two": 1}
    things = {name: lambda many=many: [next(ticks) for _ in range(many - 1)] for name, many in work.items()}
    took = part("paired").Paired(things, rounds=5, clock=lambda: float(next(ticks)))
    assert took.ratio("one", "two") == part("paired").Ratio(3.0, 3.0, 3.0, 5)


HERE = environment()["cpu"]
WORSE = [
    (1.0, True, HERE, 0),
    (0.9, True, HERE, 0),
    (0.8, True, HERE, 1),
    (1.2, False, HERE, 1),
    (0.8, True, "i386", 0),
]


@pytest.mark.parametrize(("value", "more", "cpu", "code"), WORSE)
def test_a_ratio_that_is_much_worse_than_the_committed_one_is_an_error_on_such_a_processor(
    part, tmp_path, monkeypatch, capsys, value, more, cpu, code
):
    speed = part("speed")
    monkeypatch.setattr(speed, "FILE", tmp_path / "speed.json")
    speed.FILE.write_text(json.dumps({"cpu": cpu, "rows": [{"goal": "P1", "what": "a step", "value": 1.0}]}))
    row = speed.Row("P1", "a step", 1.0, more, value, value, value, 5)
    assert speed.compared([row, speed.Row("P1", "new", None, True, 9.0, 9.0, 9.0, 5)]) == code
    said = capsys.readouterr().out
    assert ("a step" in said) == (value in (0.8, 1.2))
    assert ("those were measured on i386" in said) == (cpu == "i386")


def test_seconds_are_not_compared_with_another_machines(part, tmp_path, monkeypatch):
    speed = part("speed")
    monkeypatch.setattr(speed, "FILE", tmp_path / "speed.json")
    speed.FILE.write_text(
        json.dumps({"cpu": HERE, "rows": [{"goal": "P8", "what": "a command, CPU seconds", "value": 1.0}]})
    )
    slower = speed.Row("P8", "a command, CPU seconds", 5.0, False, 3.0, 3.0, 3.0, 5, comparable=False)
    assert speed.compared([slower]) == 0


@pytest.mark.parametrize("slow", [1, 7])
def test_help_is_measured_against_a_yardstick_of_the_same_machine(part, monkeypatch, slow):
    """A machine that is so many times slower finds other seconds and the same ratio."""
    commands = part("commands")
    seconds = {"-m": 0.2 * slow, "-c": 0.1 * slow}
    monkeypatch.setattr(commands, "_python_seconds", lambda arguments, cwd=None: seconds[arguments[0]])
    took, ratio = commands.rows(quick=True)
    assert (took.value, took.comparable) == (pytest.approx(0.2 * slow), False)
    assert (ratio.value, ratio.comparable, ratio.rounds) == (pytest.approx(2), True, 5)


def test_what_surrounds_training_is_cpu_seconds_less_cpu_seconds(part, tmp_path, monkeypatch):
    """Of a run that waited for others: its wall time says nothing about what it used."""
    commands = part("commands")
    curves = {"curves": [{"seconds": 500.0, "cpu_seconds": 2.0}, {"seconds": 500.0, "cpu_seconds": 1.0}]}
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "record.json").write_text(json.dumps(curves))
    monkeypatch.setattr(commands, "_cpu_seconds", lambda *_: 9.0)
    assert commands._around(tmp_path).value == pytest.approx((9 - 3) / commands.LONG)


def test_the_cost_to_a_verdict_is_cpu_time_times_variance(monkeypatch):
    """Twice the time and four times the variance: eight times the CPU time. Of resumed runs the time does not count."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    performance = importlib.import_module("performance")
    fast, plain = (
        SimpleNamespace(
            values=accuracies,
            score=estimate(accuracies),
            records=[
                SimpleNamespace(curves=[{"cpu_seconds": seconds}] * epochs, resumed=resumed)
                for seconds, resumed in ((30.0, 0), (1.0, 1), (30.0, 0))
            ],
        )
        for accuracies, epochs in (([80.0, 81.0, 82.0], 2), ([78.0, 80.0, 82.0], 4))
    )
    monkeypatch.setattr(performance, "_arms", lambda name: [("plain", plain), ("fast", fast)])
    lines = performance.verdict("any").splitlines()
    assert lines[2] == "| plain | 3 | 80.00 % [75.03, 84.97] | 2.000 | 2.00 | 8.000 | |"
    assert lines[3].startswith("| fast | 3 | 81.00 % [78.52, 83.48] | 1.000 | 1.00 | 1.000 | 2.00 (time) x 4.00")
    assert lines[3].endswith("= **8.00** [0.21, 312.00] |")  # F(0.975; 2, 2) is 39
