"""Strict validation of plain values for a dataclass: what is wrong with each, in one sentence."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NotRequired, get_type_hints

from attnbench.catalogue.refs import nearest

MOST_TOLD = 100
"""Mistakes that are told at once."""


def violations(cls: type, values: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong with plain values for a dataclass: (path, message) each; strict, and unknown names are refused."""
    from pydantic import ValidationError

    try:
        _adapter(cls).validate_python(dict(values))
    except ValidationError as problem:
        return [(error["loc"], _sentence(error, cls)) for error in problem.errors(include_url=False)[:MOST_TOLD]]
    return []


@functools.cache
def _adapter(cls: type) -> Any:
    """Strict validation of a dataclass's fields as plain values; pydantic is imported when first needed."""
    from pydantic import TypeAdapter
    from typing_extensions import TypedDict

    named = {f.name for f in dataclasses.fields(cls)}
    hints = {name: kind for name, kind in get_type_hints(cls, include_extras=True).items() if name in named}
    required = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory}  # both MISSING
    typed: Any = TypedDict  # made at run time, which type checkers do not follow
    schema = typed(
        cls.__name__, {name: kind if name in required else NotRequired[kind] for name, kind in hints.items()}
    )
    schema.__pydantic_config__ = {"extra": "forbid", "strict": True}
    return TypeAdapter(schema)


def _sentence(error: Any, cls: type) -> str:
    name, value, kind = str(error["loc"][-1]), error["input"], error["type"]
    if kind == "missing":
        return "required"
    if kind == "extra_forbidden":
        return f"unknown field {name!r}{nearest(name, _known(cls, error['loc'][:-1]))}"
    if kind == "literal_error":
        options = error["ctx"]["expected"].replace(" or ", ", ")
        return f"{value!r} is not one of {options}"
    return f"{value!r} {error['msg'].removeprefix('Input ')}"


def _known(cls: Any, place: tuple[str | int, ...]) -> list[str]:
    """The names that stand at a place of a dataclass's plain values."""
    for part in place:
        cls = get_type_hints(cls)[str(part)]
    return list(get_type_hints(cls))
