"""What docs/recipes.md is made of: the fields of a run and the keys of a study's file, as their docstrings say them."""

import dataclasses
from typing import Any

from attnbench.report.markup import markdown_words
from attnbench.spec.recipes import RECIPES, preset
from attnbench.spec.run import RunSpec, Runtime, field_docs
from attnbench.spec.study import Study


def recipes() -> str:
    """The fields that recipes differ in, a column for each recipe."""
    told = [preset(name) for name in RECIPES]
    differing = [name for name in told[0] if len({repr(fields[name]) for fields in told}) > 1]
    return _table(
        ["field", *RECIPES], [[f"`{name}`", *(_value(fields[name]) for fields in told)] for name in differing]
    )


def fields() -> str:
    """Every field of a run."""
    return _documented(RunSpec)


def runtime() -> str:
    """Every field of how a run is executed."""
    return _documented(Runtime)


def keys() -> str:
    """Every key of a study's file."""
    return _documented(Study)


def _documented(kind: Any) -> str:
    said = field_docs(kind)
    rows = [[f"`{field.name}`", _value(field.default), said[field.name]] for field in dataclasses.fields(kind)]
    return _table(["", "default", ""], rows)


def _value(value: object) -> str:
    return "" if value is None or value is dataclasses.MISSING else f"`{value}`"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join([*markdown_words(heads, rows), ""])
