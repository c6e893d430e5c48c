"""Published gains beside ours: the rule, the file, and which regime of ours a claim is set beside."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT
from handmade import ACCURACY, record

from attnbench.analysis.comparison import compare
from attnbench.errors import AttnbenchError

GOOD = {
    "mechanism": "se",
    "network": "ResNet-18",
    "data": "digits",
    "plain": "91.2",
    "with": "93.2",
    "gain": "2.0",
    "runs": "null",
    "paper": "Somebody's",
    "year": "2020",
    "url": "https://example.org/table",
    "seen": "Table 1",
    "metric": "accuracy",
}
NAN = float("nan")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that makes the page."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("claims")


@pytest.fixture
def load(page) -> Callable[..., list]:
    """The claims of a file with one claim, some of whose keys are others; None: left out."""

    def loaded(**changed: str | None) -> list:
        row = {key: value for key, value in {**GOOD, **changed}.items() if value is not None}
        Path("claims.yaml").write_text(
            f"tables:\n  - claims:\n      - {{{', '.join(f'{k}: {v}' for k, v in row.items())}}}\n"
        )
        return page.load(Path("claims.yaml"))

    return loaded


@pytest.mark.parametrize(
    ("gain", "low", "high", "said"),
    [
        (1.0, 0.2, 1.5, "agrees"),
        (1.0, 1.2, 1.5, "agrees"),  # exceeds it
        (1.0, 0.2, 0.9, "smaller"),
        (1.0, -0.5, 0.9, "smaller"),
        (1.0, -0.9, -0.1, "opposite"),
        (1.0, -0.2, 1.5, "cannot tell"),
        (1.0, NAN, NAN, "cannot tell"),  # one seed
        (0.0, 0.2, 1.5, "cannot tell"),
        (-1.0, -1.5, -0.2, "agrees"),
        (-1.0, -0.9, 0.5, "smaller"),
        (-1.0, 0.1, 0.9, "opposite"),
        (-1.0, -1.5, 0.2, "cannot tell"),
    ],
)
def test_the_rule(page, gain, low, high, said):
    assert page.outcome(gain, low, high) == said


def test_a_claim_is_read_with_what_its_table_says(load):
    (claim,) = load()
    assert (claim.mechanism, claim.plain, claim.with_mechanism, claim.gain, claim.runs) == ("se", 91.2, 93.2, 2.0, None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gain": "2.1"}, "gain: 2.1 is not 93.2 - 91.2 = 2.00"),
        ({"mechanism": "sse"}, "mechanism: no attention is called 'sse'; did you mean 'se'?"),
        ({"mechanism": "static"}, "mechanism: 'static' is a control; give a mechanism"),
        ({"url": "somewhere"}, "url: 'somewhere' is neither an https address nor a file from docs/ on"),
        ({"url": None}, "url: required"),
        ({"runs": "0"}, "runs: 0 is neither a whole number from 1 on nor null"),
        ({"plain": "912"}, "plain: 912 is no accuracy in percent"),
        ({"paper": "2020"}, "paper: 2020 is no text"),
        ({"sen": "Table 1"}, "unknown key 'sen'; did you mean 'seen'?"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_line(load, changed, message):
    with pytest.raises(AttnbenchError) as caught:
        load(**changed)
    assert str(caught.value).startswith(f"claims.yaml:3: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tables: []", "claims.yaml: no claims"),
        ("tables: [{paper: A}]", "claims.yaml:1: neither a table with claims nor a claim with keys"),
        ("tables: [{claims: [se]}]", "claims.yaml:1: neither a table with claims nor a claim with keys"),
        ("tables: 1", "claims.yaml: no claims"),
        ("tables: [", "claims.yaml:1: "),
    ],
)
def test_a_file_of_another_shape_is_refused(page, text, message):
    Path("claims.yaml").write_text(text)
    with pytest.raises(AttnbenchError) as caught:
        page.load(Path("claims.yaml"))
    assert str(caught.value).startswith(message)


def test_every_claim_of_the_repository_can_be_read(page):
    assert len(page.load()) >= 24


def runs(given: dict | None = None) -> list:
    return [record(arm, seed, accuracy, given) for arm, row in ACCURACY.items() for seed, accuracy in enumerate(row)]


def test_a_claim_is_set_beside_the_same_mechanism_on_the_same_data_trained_longest(page, load):
    cells = compare([*runs(), *runs({"epochs": 9})]).cells
    (claim,), (other,), (elsewhere,) = load(), load(mechanism="eca"), load(data="CIFAR10")
    found = page.nearest(claim, cells)
    assert found is not None
    assert (found.arm.name, found.arm.records[0].spec["epochs"]) == ("se", 9)
    assert (page.nearest(other, cells), page.nearest(elsewhere, cells)) == (None, None)


def test_other_options_of_the_mechanism_are_better_than_nothing_and_are_said(page, load):
    (claim,) = load(mechanism="se(reduction=8)")
    found = page.nearest(claim, compare(runs()).cells)
    assert found is not None
    assert found.text.startswith("`se`, ")
