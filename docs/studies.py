"""A study and the records that the docs show of it."""

import functools
from pathlib import Path

from attnbench.comparison import Comparison, compare
from attnbench.store import Store
from attnbench.study import Study

ROOT = Path(__file__).parent.parent


@functools.cache
def comparison(name: str) -> Comparison:
    """What studies/NAME.yaml finds in results/NAME."""
    return compare(Study.load(ROOT / "studies" / f"{name}.yaml"), Store(ROOT / "results" / name))
