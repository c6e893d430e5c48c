"""What help says of a verb: an example, and for each flag a plain word for its value, by one rule for all verbs."""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional, UseAppendAction, arg

from attnbench.spec.run import field_docs

EXAMPLES = {
    "run": "attnbench run --dataset digits --attention se --backbone resnet20 --epochs 3",
    "demo": "attnbench demo",
    "init": "attnbench init photos --hours 2",
    "study": "attnbench study mine.yaml --until-decided --jobs 2",
    "choose": "attnbench choose contest.yaml --dry-run",
    "advise": "attnbench advise --like EuroSAT --parameters 1.05",
    "power": "attnbench power mine.yaml --spread 0.5",
    "variance": "attnbench variance mine.yaml --seeds 8 --jobs 2",
    "tune": "attnbench tune mine.yaml --dry-run",
    "report": "attnbench report mine.yaml",
    "compare": "attnbench compare se none --study mine.yaml",
    "verdict": "attnbench verdict scores.csv --baseline none",
    "submit": "attnbench submit mine.yaml",
    "verify": "attnbench verify mine-0123456789ab.zip --retrain any",
    "leaderboard": "attnbench leaderboard bundles",
    "list": "attnbench list attention --kind D --since 2021",
    "show": 'attnbench show "se(reduction=8)"',
    "check": "attnbench check mypkg.blocks:MyGate",
    "same": "attnbench same se cbam --backbone resnet20",
    "profile": "attnbench profile se eca cbam --backbone resnet20",
    "data": "attnbench data get CIFAR10",
    "evaluate": "attnbench evaluate 0123456789ab --gate shuffled",
    "predict": "attnbench predict 0123456789ab one.jpg two.jpg --top 1",
    "export": "attnbench export 0123456789ab --to onnx",
    "fold": "attnbench fold 0123456789ab --margin 0.5",
    "reproduce": "attnbench reproduce 0123456789ab",
    "store": "attnbench store list attention=se status=done",
    "sync": "attnbench sync",
    "ui": "attnbench ui --port 5001",
}
"""Verb -> a command line that means something; the tests parse them all."""
STANDS = Positional[int].__metadata__[0]  # type: ignore[attr-defined]
"""What marks a value that stands without a flag."""
AGAIN = UseAppendAction[int].__metadata__[0]  # type: ignore[attr-defined]
"""What marks a flag that is given once for each value."""

ANNOTATED: Any = Annotated
FIELD: Any = dataclasses.field
"""Both without what a type checker asks of a form that is written down."""


def described(name: str, verb: Callable[..., int]) -> str:
    """What a verb does, and an example."""
    about = (inspect.getdoc(verb) or "").split("\n\nArgs:")[0]
    return f"{about}\n\nExample: {EXAMPLES[name]}"


@functools.cache  # a verb is changed once
def plain(verb: Callable[..., int]) -> Callable[..., int]:
    """The same verb; its help calls values `INT`, `FILE` or `{a,b}`, and has no default where that is None."""
    hints = get_type_hints(verb, include_extras=True)
    given = inspect.signature(verb).parameters
    verb.__annotations__ = {name: _plain(name, hints[name], parameter.default) for name, parameter in given.items()}
    return verb


def _plain(name: str, hint: Any, default: object) -> Any:
    """A parameter's type with its word; that of a dataclass whose fields are flags, with those of its fields."""
    kind, extras = _parts(hint)
    if dataclasses.is_dataclass(kind):
        return ANNOTATED[(_plain_fields(kind), *extras)]
    word = None if AGAIN in extras else _word(kind, name.upper() if STANDS in extras else "")
    required = default is inspect.Parameter.empty
    said: dict[str, Any] = {"metavar": f"[{word}]" if STANDS in extras and not required else word}
    if default in (None, ()) or (required and get_origin(kind) is tuple):  # the parser would call it optional
        said["help_behavior_hint"] = ""
    return ANNOTATED[(kind, *extras, arg(**said))]


def _plain_fields(kind: Any) -> Any:
    """A dataclass like `kind`, for the parser; what is made of it is of `kind` itself, and equal to what is."""
    docs, hints = getattr(kind, "DOCS", None) or field_docs(kind), get_type_hints(kind, include_extras=True)
    fields: list[Any] = []

    def made(_: type, **values: Any) -> Any:
        return kind(**values)

    for each in dataclasses.fields(kind):
        about = " ".join(docs[each.name].split()) if each.name in docs else None
        hint = ANNOTATED[_plain(each.name, hints[each.name], each.default), arg(help=about)]
        again = FIELD(default=each.default, default_factory=each.default_factory)
        fields.append((each.name, hint, again))
    return dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), kw_only=True, frozen=True, namespace={"DOCS": docs, "__new__": made}
    )


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type, and what it is annotated with."""
    return (hint.__origin__, hint.__metadata__) if hasattr(hint, "__metadata__") else (hint, ())


def _word(kind: Any, name: str = "") -> str | None:
    """What help calls a value of a type; None where the parser has a plain word itself.

    Args:
        name: what a value that stands without a flag is called.
    """
    origin, parts = get_origin(kind), [_parts(part)[0] for part in get_args(kind) if part is not type(None)]
    if origin in (Union, types.UnionType):
        return _word(parts[0], name) or parts[0].__name__.upper()
    if origin is tuple:
        return f"{name or parts[0].__name__.upper()} ..."
    if origin is Literal:
        return f"{{{','.join(parts)}}}"
    return name or None
