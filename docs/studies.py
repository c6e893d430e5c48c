"""A study and the records that the docs show of it."""

import dataclasses
import functools
from pathlib import Path

from attnbench import demo
from attnbench.analysis.comparison import Comparison, compare
from attnbench.analysis.plan import Plan
from attnbench.cli.choosing import answered
from attnbench.execution.choosing import confirmation_looks, recalled, screened
from attnbench.report.advice import Choice
from attnbench.report.choosing import as_text, confirmed, said
from attnbench.report.tables import body, tables
from attnbench.spec.contest import Contest
from attnbench.spec.run import Runtime
from attnbench.spec.study import Study
from attnbench.store.runs import Store
from attnbench.store.studies import StudyJournal

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
REFERENCE = ("reference-cifar10", "reference-cifar100", "reference-flowers102", "reference-eurosat")
"""The studies of the classic table; those are evidence at whose verdicts somebody has looked."""
ASKED = ("asked-eurosat", "asked-cifar100")
"""The studies of the ten mechanisms that are asked for most; evidence likewise."""
CHOICES = ("choose-eurosat",)
"""Choices whose confirmation is evidence."""
EARLIER = "*These runs were made by an earlier state of the numerical code (`results/earlier/README.md`).*\n\n"


@functools.cache
def comparison(name: str) -> Comparison:
    """What studies/NAME.yaml finds in results/NAME; or all that lies in results/earlier/NAME, analysed as it says."""
    study = Study.load(demo.STUDY if name == demo.STUDY.stem else ROOT / "studies" / f"{name}.yaml")
    if not earlier(name):
        return compare(study, Store(RESULTS / name))
    plan = Plan(study.baseline, study.margin, study.pairing)
    return dataclasses.replace(compare(Store(RESULTS / "earlier" / name).records(), plan=plan), name=study.name)


def trained() -> list[str]:
    """The studies that are evidence and have come to their first look."""
    return [name for name in (*REFERENCE, *ASKED) if StudyJournal(Store(RESULTS / name), name).looks()]


def begun(name: str) -> str:
    """How far a study has come that has no verdicts yet: what a table says in their place."""
    count = len(Store(RESULTS / name).records())
    return f"{count} runs, no look yet" if count else "not run yet"


def earlier(name: str) -> str:
    """What is said of a study whose records are of an earlier state of the numerical code; empty for the others."""
    return EARLIER if (RESULTS / "earlier" / name).is_dir() else ""


def report(name: str) -> str:
    """A study's verdicts and tables."""
    return earlier(name) + body(comparison(name))


def differences(name: str) -> str:
    """The picture of a study's verdicts: each arm's difference to the plain network with its interval, as SVG."""
    from attnbench.report.charts import static
    from attnbench.report.figures import figures

    (cell,) = comparison(name).cells
    return static(figures(cell)[0].chart)[0]


def table(name: str) -> str:
    """A study's tables alone."""
    return earlier(name) + tables(comparison(name))


@functools.cache
def chosen(name: str) -> Choice:
    """What the choice studies/NAME.yaml came to, whose runs are all in results/NAME."""
    contest, store = Contest.load(ROOT / "studies" / f"{name}.yaml"), Store(RESULTS / name)
    before = recalled(contest, store)
    assert before is not None, f"results/{name}/studies does not say what was known before the first run"
    rounds = screened(contest, before.arms, Runtime(store=str(store.path), data_dir=str(RESULTS)))
    looks = confirmation_looks(contest, before, rounds, store)
    return answered(contest, before, rounds, contest.confirmation(rounds[-1].kept, looks), store)


def choice(name: str) -> str:
    """What to take, and what was confirmed."""
    return f"{said(chosen(name))}\n{as_text(confirmed(chosen(name)))}"
