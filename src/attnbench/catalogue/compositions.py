"""Mechanisms put together, as `chain(eca, sa)` and `parallel(eca, sa)`: an entry made of those of the parts."""

import ast
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from attnbench.catalogue.cards import Paper
from attnbench.catalogue.entries import Choice, Entry
from attnbench.errors import BadReference

MOST = 8
"""Mechanisms that a composition has at most."""


def composed(entry: Entry[Any], parts: Sequence[Choice[Any]]) -> Entry[Any]:
    """The entry of a composition of these parts: where it goes, its parameters, and what holds of each part.

    It works at stage level if all its parts do. It is built for one size of maps if one of them is.

    Raises:
        BadReference: parts that make no composition.
    """
    _refuse(entry.name, parts)
    cards = [part.card for part in parts]
    card = dataclasses.replace(
        entry.card,
        kind="S" if all(part.placed.kind == "S" for part in parts) else "D",
        parameters=_sum(parts) if all(one.parameters for one in cards) else "",
        inert={f"parts.{place}.{path}": why for place, one in enumerate(cards) for path, why in one.inert.items()},
        no_decay=tuple(f"parts.{place}.{path}" for place, one in enumerate(cards) for path in one.no_decay),
        positions=_told(parts, [part.placed.positions for part in parts]),
        clamping=_told(parts, [one.clamping for one in cards]),
        determinism=_told(parts, [one.determinism for one in cards]),
    )
    sized = any("size" in part.entry.arguments for part in parts)
    arguments = tuple(name for name in entry.arguments if sized or name != "size")
    return dataclasses.replace(entry, card=card, arguments=arguments)


def papers(choice: Choice[Paper]) -> dict[str, Paper]:
    """Name -> card of each mechanism that a reference is about: of a composition, those of its parts."""
    if not choice.entry.composed:
        return {choice.entry.name: choice.card}
    return {name: card for part in choice.parts for name, card in papers(part).items()}


def _refuse(name: str, parts: Sequence[Choice[Paper]]) -> None:
    if not 2 <= len(parts) <= MOST:
        found = f"; here is {parts[0]} alone" if len(parts) == 1 else f"; here are {len(parts)}" if parts else ""
        raise BadReference(f"{name} takes 2 to {MOST} mechanisms, as in {name}(eca, sa){found}")
    if replacing := next((part for part in parts if part.placed.kind == "R"), None):
        raise BadReference(f"{name}: {replacing} takes the place of a convolution and cannot be a part")
    if name == "chain" and any(part.entry.name == "none" for part in parts):
        raise BadReference("chain: none does nothing in it; leave it out")


def _told(parts: Sequence[Choice[Paper]], sentences: Sequence[str]) -> str:
    """What is said of parts, each once, with the part's name."""
    said = {str(part): sentence.rstrip(".") for part, sentence in zip(parts, sentences, strict=True) if sentence}
    return "; ".join(f"{part}: {sentence}" for part, sentence in said.items())


def _sum(parts: Sequence[Choice[Paper]]) -> str:
    """The number of parameters of all parts as an expression of C, H and W alone."""
    return ast.unparse(functools.reduce(lambda one, other: ast.BinOp(one, ast.Add(), other), map(_formula, parts)))


def _formula(part: Choice[Paper]) -> ast.expr:
    """A part's number of parameters, its options written in.

    Raises:
        BadReference: the card of somebody's own has none that can be read.
    """
    known: dict[str, ast.expr] = {name: ast.Constant(value) for name, value in part.settings.items()}
    try:
        for name, expression in part.card.where.items():
            known[name] = _inlined(expression, known)
        return _inlined(part.card.parameters, known)
    except SyntaxError as problem:
        raise BadReference(f"the card of {part} has a formula that is no expression: {problem.text}") from None


def _inlined(expression: str, known: Mapping[str, ast.expr]) -> ast.expr:
    """An expression with what is known in place of its names."""
    found: ast.expr = _Inline(known).visit(ast.parse(expression, mode="eval").body)
    return found


class _Inline(ast.NodeTransformer):
    """Puts expressions in place of names, but of those that a comprehension binds."""

    def __init__(self, known: Mapping[str, ast.expr]) -> None:
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """The expression in place of a name."""
        return self.known.get(node.id, node) if isinstance(node.ctx, ast.Load) else node
