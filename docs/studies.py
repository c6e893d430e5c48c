"""A study and the records that the docs show of it."""

import dataclasses
import functools
from pathlib import Path

from attnbench.analysis.comparison import Comparison, compare
from attnbench.analysis.plan import Plan
from attnbench.report.tables import body, tables
from attnbench.spec.study import Study
from attnbench.store.runs import Store

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
EARLIER = "*These runs were made by an earlier state of the numerical code (`results/earlier/README.md`).*\n\n"


@functools.cache
def comparison(name: str) -> Comparison:
    """What studies/NAME.yaml finds in results/NAME; or all that lies in results/earlier/NAME, analysed as it says."""
    study = Study.load(ROOT / "studies" / f"{name}.yaml")
    if not earlier(name):
        return compare(study, Store(RESULTS / name))
    plan = Plan(study.baseline, study.margin, study.pairing)
    return dataclasses.replace(compare(Store(RESULTS / "earlier" / name).records(), plan=plan), name=study.name)


def earlier(name: str) -> str:
    """What is said of a study whose records are of an earlier state of the numerical code; empty for the others."""
    return EARLIER if (RESULTS / "earlier" / name).is_dir() else ""


def report(name: str) -> str:
    """A study's verdicts and tables."""
    return earlier(name) + body(comparison(name))


def table(name: str) -> str:
    """A study's tables alone."""
    return earlier(name) + tables(comparison(name))
