"""How far a run is: on stderr, at sensible intervals, and nothing where nobody asked."""

import io
from collections.abc import Iterator

import pytest
import torch
from conftest import TINY

from attnbench import RunSpec, Runtime, run
from attnbench.data.splits import constants, load_splits
from attnbench.training import progress
from attnbench.training.progress import EVERY, Watched, telling


@pytest.fixture
def watched(data_dir):
    """The batches of a split that tell of themselves, and what they told."""

    def make(part: str) -> tuple[Watched, list[tuple[str, int, int]]]:
        spec, told = RunSpec(**TINY, batch_size=33), []
        splits = load_splits(spec, data_dir)
        norm = constants(spec, splits.train)
        here = torch.device("cpu")
        return Watched(getattr(splits, part), spec, norm, here, told=lambda *what: told.append(what)), told

    return make


def test_an_epoch_and_a_test_tell_how_many_images_are_done(watched):
    train, told = watched("train")
    assert len(list(train.epoch(1))) == 3, "the last one of 100 images is left out"
    assert told == [("epoch 2/2", 33, 100), ("epoch 2/2", 66, 100), ("epoch 2/2", 100, 100)]
    test, told = watched("test")
    list(test.plain(20, 10))
    assert told == [("testing", 30, 50), ("testing", 50, 50)]


def ticking(seconds: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += seconds


def test_without_a_terminal_there_is_a_line_a_minute_on_stderr(capsys):
    with telling(True, ticking(EVERY / 4).__next__) as told:
        for done in range(0, 5400, 450):
            told("testing", done, 5400)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "attnbench: testing: 1,350 of 5,400 images; 45 s gone, about 2 min left",
        "attnbench: testing: 3,150 of 5,400 images; 2 min gone, about 75 s left",
        "attnbench: testing: 4,950 of 5,400 images; 3 min gone, about 15 s left",
    ]


def test_on_a_terminal_a_bar_comes_and_goes_with_each_pass(monkeypatch):
    screen = io.StringIO()
    real = progress.Console
    monkeypatch.setattr(progress, "Console", lambda **_: real(file=screen, force_terminal=True, width=100))
    with telling(True) as told:
        told("epoch 1/2", 10, 100)
        assert told.bar is not None
        told("epoch 1/2", 100, 100)
        assert told.bar is None, "gone before the epoch's line is printed"
        told("testing", 10, 50)
    assert told.bar is None, "gone also when the run is stopped"
    assert "epoch 1/2" in screen.getvalue()
    assert "testing" in screen.getvalue()
    assert "gone," in screen.getvalue()
    assert "left" in screen.getvalue()


def test_a_run_whose_curves_nobody_sees_is_silent(data_dir, monkeypatch, capfd):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    run(RunSpec(**TINY), Runtime(data_dir=str(data_dir), tracker="none"))
    assert capfd.readouterr() == ("", "")
    run(RunSpec(**TINY, seed=1), Runtime(data_dir=str(data_dir), tracker="console"))
    said = capfd.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["epoch", "epoch"]
    assert "attnbench: testing: 32 of 50 images" in said.err
