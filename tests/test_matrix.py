"""What a page concludes at a glance: its sentence, the order of arms, and the bars of the verdict matrix."""

import dataclasses

import handmade
import pytest

from attnbench import compare
from attnbench.report.matrix import MOST_NAMES, arranged, headline, rows, spent, timed_by

SECOND = {"given": {"dataset": "fashionmnist"}}


def shifted(attention: str, by: float, **changed) -> list:
    """The plain network's scores with a constant added, as those of another arm."""
    return [
        handmade.record(attention, seed, accuracy + by, **changed)
        for seed, accuracy in enumerate(handmade.ACCURACY["none"])
    ]


def test_few_mechanisms_of_one_data_set_are_named_with_their_verdicts():
    found = compare([*handmade.records(), *shifted("eca", -5.0)])
    assert headline(found) == "Better than none: se. Worse than none: eca. Undecided: cbam."


def test_many_mechanisms_are_counted():
    names = ["eca", *(f"se(reduction={r})" for r in range(2, 2 + MOST_NAMES))]
    found = compare([*handmade.records("none"), *(run for name in names for run in shifted(name, 0.0))])
    assert headline(found) == f"Of {MOST_NAMES + 1} comparisons with none {MOST_NAMES + 1} are undecided."


def test_controls_are_not_counted():
    assert headline(compare([*handmade.records("none", "se"), *shifted("static", 0.0)])) == "Better than none: se."
    assert headline(compare(handmade.records("none"))) == "Nothing is compared with none."


def test_controls_are_told_where_nothing_else_is_compared():
    assert headline(compare([*handmade.records("none"), *shifted("static", -5.0)])) == "Worse than none: static."


def test_several_data_sets_are_counted_together():
    found = compare([*handmade.records(), *handmade.records(**SECOND)])
    assert headline(found) == "Of 4 comparisons with none 2 are better and 2 are undecided."


def test_arms_stand_in_one_order_on_all_data_sets_the_best_first_and_controls_last():
    first = [*handmade.records(), *shifted("eca", -1.0), *shifted("static", 5.0)]
    second = [*handmade.records(**SECOND), *shifted("eca", 2.5, **SECOND), *shifted("static", 5.0, **SECOND)]
    found = arranged(compare([*first, *second]))
    assert [[arm.name for arm in cell.arms] for cell in found.cells] == [["none", "se", "eca", "cbam", "static"]] * 2
    assert [row.arm for row in rows(found)] == ["se", "eca", "cbam", "static"]
    assert [row.control for row in rows(found)] == [False, False, False, True]


def test_an_arm_that_a_data_set_lacks_has_no_answer_there():
    found = arranged(compare([*handmade.records(), *handmade.records("none", "se", **SECOND)]))
    assert {row.arm: [answer is not None for answer in row.answers] for row in rows(found)} == {
        "se": [True, True],
        "cbam": [True, False],
    }


def test_a_bar_is_drawn_to_scale_and_a_control_beyond_it_ends_in_an_arrow():
    found = arranged(compare([*handmade.records(), *shifted("static", -60.0)]))
    bars = {row.arm: row.answers[0].bar for row in rows(found)}
    gaps = {arm.name: arm.difference for arm in found.cells[0].arms if arm.difference}
    unit = (bars["se"].at - bars["se"].zero) / gaps["se"].mean
    for name in ("se", "cbam"):
        for place, value in ((bars[name].low, gaps[name].low), (bars[name].high, gaps[name].high)):
            assert place == pytest.approx(bars[name].zero + unit * value, abs=0.15)  # places have one decimal
        assert bars[name].cut == (False, False)
    margin = found.plan.margin
    assert bars["se"].margin == pytest.approx(
        [bars["se"].zero - unit * margin, bars["se"].zero + unit * margin], abs=0.15
    )
    assert (bars["static"].cut, bars["static"].at) == ((True, False), 0.0)


def test_what_it_took_is_said_of_one_clock_alone():
    assert (spent(compare(handmade.records())), timed_by(compare(handmade.records()))) == ("15 runs", "time")
    for seconds, told in (
        (900.0, "3.75 CPU hours"),
        (9e5, "3,750 CPU hours"),
        (20.0, "5 CPU minutes"),
        (2.0, "30 CPU seconds"),
    ):
        curves = [{"epoch": 1, "train_loss": 1.0, "train_accuracy": 50.0, "cpu_seconds": seconds}]
        found = compare([dataclasses.replace(each, curves=curves) for each in handmade.records()])
        assert (spent(found), timed_by(found)) == (f"15 runs, {told} of training", "CPU time")


@pytest.mark.parametrize("address", ["javascript:alert(1)", "http://x.org", "", 7])
def test_only_an_address_of_the_web_becomes_a_link(address):
    made = handmade.records("none", "se")
    for each in made:
        each.cards["attention"]["url"] = address
    assert [row.paper for row in rows(compare(made))] == [""]
