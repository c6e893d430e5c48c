"""A study and the records that the docs show of it."""

import functools
from pathlib import Path

from attnbench.analysis.comparison import Comparison, compare
from attnbench.report.tables import body, tables
from attnbench.spec.study import Study
from attnbench.store.runs import Store

ROOT = Path(__file__).parent.parent


@functools.cache
def comparison(name: str) -> Comparison:
    """What studies/NAME.yaml finds in results/NAME."""
    return compare(Study.load(ROOT / "studies" / f"{name}.yaml"), Store(ROOT / "results" / name))


def report(name: str) -> str:
    """A study's verdicts and tables."""
    return body(comparison(name))


def table(name: str) -> str:
    """A study's tables alone."""
    return tables(comparison(name))
