"""`attnbench advise`: what the committed findings say to a question, and that it says when they say nothing."""

import dataclasses
from pathlib import Path

import pytest

from attnbench.analysis.findings import Finding, Regime, advised, as_line, known
from attnbench.cli import main
from attnbench.report.counsel import sentence, strength, study_file
from attnbench.spec.contest import Contest

SMALL = Regime("small", "EuroSAT", "resnet20", "fast", 10, 2_000, 32, "none", 0.5)
WHOLE = dataclasses.replace(SMALL, study="whole", train_images=20_000)
OTHER = dataclasses.replace(WHOLE, study="other", dataset="CIFAR10")


def finding(regime: Regime, attention: str, gain: float, verdict: str = "undecided", **costs: object) -> Finding:
    given = {"parameters": 1.01, "training": 1.1, "latency": None, **costs}
    return Finding(regime, attention, 6, 7, gain, gain - 1, gain + 1, verdict, **given)


FOUND = [
    finding(SMALL, "se", 0.2),
    finding(SMALL, "cbam", 1.5, "better", latency=1.4),
    finding(SMALL, "eca", 1.2, "better", latency=1.05),
    finding(WHOLE, "cbam", -0.1, "equivalent"),
    finding(OTHER, "cbam", 0.9, "better"),
]


def say(found=FOUND, like=None, limits=None, train_images=None) -> tuple[str, str]:
    answer = advised(found, like, limits, train_images)
    return sentence(answer, like, limits or {}, train_images), strength(answer)


def test_the_largest_gain_that_was_shown_is_advised_with_its_costs_and_the_others():
    said, told = say(like="EuroSAT", train_images=2_500)
    assert said.startswith("cbam: +1.50 points over none (95 % interval [+0.50, +2.50], 6 + 7 seeds) on EuroSAT (2,000")
    assert said.endswith("at x1.01 parameters, x1.10 training time, x1.40 latency; eca +1.20 better too.")
    assert told.startswith("Strength: 3 studies; besides this one it was equivalent on EuroSAT, resnet20: -0.10 points")
    assert "better on CIFAR10" in told


def test_limits_leave_out_what_costs_more_and_what_was_not_measured():
    assert say(like="EuroSAT", limits={"latency": 1.1}, train_images=2_000)[0].startswith("eca: +1.20")
    assert advised(FOUND, "EuroSAT", {"latency": 1.1}, 2_000).beyond == 1
    assert advised(FOUND, "EuroSAT", {"latency": 1.1}, 2_000).unmeasured == 1
    said, _ = say(like="CIFAR10", limits={"latency": 1.1})
    assert said.startswith("none: of the mechanisms that were tried on CIFAR10")
    assert said.endswith("none is known to be within latency x1.1; of the rest 1 is not measured for it.")


def test_studies_that_trained_the_same_answer_together():
    again = dataclasses.replace(SMALL, study="again", margin=1.0)
    found = [*FOUND[:3], finding(again, "coord", 2.0, "better", latency=1.02), finding(again, "eca", 1.0)]
    said, told = say(found)
    assert said.startswith("coord: +2.00 points over none")
    assert "study again" in said
    assert "cbam +1.50 and eca +1.20 better too" in said
    assert told.startswith("Strength: one study")
    assert say(found[:1] + found[4:], limits={"latency": 1.1})[0].startswith("none")
    assert say([*found[:3], found[4]])[0].startswith("cbam")


def test_the_regime_is_the_nearest_in_training_images_or_the_one_with_the_most():
    assert advised(FOUND, "EuroSAT", None, 5_900).regime == SMALL
    assert advised(FOUND, "EuroSAT", None, 7_000).regime == WHOLE
    assert advised(FOUND, "EuroSAT").regime == WHOLE
    assert advised(FOUND, None, None, 2_000).regime == SMALL


@pytest.mark.parametrize(("like", "train_images"), [("CIFAR100", None), ("EuroSAT", 600), ("EuroSAT", 61_000)])
def test_where_nothing_is_near_it_says_so(like, train_images):
    said, told = say(like=like, train_images=train_images)
    assert said.startswith(f"Nothing is known: no committed study compared mechanisms on {like}")
    assert told == "The study below would tell."


def test_no_better_one_is_no_proof_and_each_verdict_is_named():
    said, told = say(like="EuroSAT")
    assert said.startswith("none: no mechanism was shown to be better on EuroSAT (20,000 training images")
    assert "cbam (equivalent): -0.10 points over none" in said
    assert "no proof" in told


def test_one_study_is_said_to_be_one():
    assert "one study" in say(FOUND[:3])[1]


def test_what_the_package_carries_is_read_back_as_it_was_written():
    assert known()
    assert all(as_line(each).keys() == as_line(known()[0]).keys() for each in known())
    assert all(each.low <= each.gain <= each.high for each in known())


def test_the_study_that_would_tell_is_one_that_choose_takes(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["advise", "--like", "fashionmnist", "--latency", "1.1", "--parameters", "1.05", "--out", "mine.yaml"])
    assert ended.value.code == 0
    contest = Contest.load(Path("mine.yaml"))
    assert (contest.base["dataset"], contest.limits) == ("FashionMNIST", {"parameters": 1.05, "latency": 1.1})
    assert len(contest.arms) > 60
    assert "Nothing is known" in capsys.readouterr().out
    Path("own.yaml").write_text(study_file(None, {}))
    assert Contest.load(Path("own.yaml")).base["dataset"] == 'imagefolder(path="my-images")'


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--latency=0"], "--latency 0: a ratio to the plain network is above 0"),
        (["--train-images=0"], "--train-images 0: at least 1"),
        (["--like=cifr"], "did you mean 'CIFAR10'"),
        (["--like=cifar100", "--out=/proc/mine.yaml"], "/proc/mine.yaml cannot be written"),
    ],
)
def test_questions_that_make_no_sense_are_refused_in_a_line(flags, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["advise", *flags])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
