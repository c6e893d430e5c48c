"""One thing that can be asked for: its card, its options, where it is, and what calling it takes."""

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from attnbench.catalogue import foreign
from attnbench.catalogue.cards import Backbone, Paper, Source
from attnbench.catalogue.digest import digest_of, digest_of_object
from attnbench.catalogue.refs import COMPOSITIONS, Ref
from attnbench.catalogue.sources import Definition, constructor, signature, signature_of
from attnbench.errors import BadReference

Card = TypeVar("Card", Paper, Backbone, Source)
_GIVEN = {Paper: 1, Backbone: 2, Source: 2}
"""How many arguments we give: the width; classes and channels; folder and split."""
_WIDTH = re.compile(
    r"^(?!.*(group|head|ratio|reduc|kernel|filter_?size|in_?size|input_?size|layer|block|map$))"
    r".*(chan|plane|dim|width|inp|filter|feat|^(in|c|ch|n|nf|nc)\d*(_|$))",
    re.IGNORECASE,
)
"""Names of a first argument that has a default and is a width all the same."""
_KINDS = {Backbone: "backbone", Source: "dataset"}
"""What a card without kinds of its own is about."""


@dataclass(frozen=True)
class Entry(Generic[Card]):
    """A registered thing: its card, its options with their defaults, and where to import it from."""

    name: str
    target: str
    card: Card
    defaults: Mapping[str, object] = field(default_factory=dict)
    choices: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    """All parameter names, those without a default too."""
    summary: str = ""
    source: Path | None = None
    thing: Any = field(default=None, compare=False)
    """The class or function itself, where it was given at run time."""

    @property
    def builtin(self) -> bool:
        """Whether it is one of ours, with a version on its card, rather than somebody's own code."""
        return ":" not in self.name

    @property
    def composed(self) -> bool:
        """Whether it is a composition, which takes other mechanisms."""
        return self.name in COMPOSITIONS

    @property
    def importable(self) -> bool:
        """Whether another process finds it by its name."""
        return not self.target.startswith("__main__:") and "<locals>" not in self.target

    @property
    def required(self) -> tuple[str, ...]:
        """Parameters that an option must give: those without a default behind the ones that we give."""
        given = _GIVEN[type(self.card)] + self.composed
        return tuple(name for name in self.arguments[given:] if name not in self.defaults and name != "size")

    def load(self) -> Any:
        """Import the class or function."""
        if self.thing is not None:
            return self.thing
        module, _, attribute = self.target.partition(":")
        if self.builtin:
            return _below(importlib.import_module(module), attribute)
        with foreign.running(f"{self.name} cannot be imported"):
            return _below(foreign.load(module), attribute)

    def call(self, options: Mapping[str, object], *arguments: object) -> Any:
        """Call the class or function; what somebody's own raises keeps its place and its traceback.

        Raises:
            ForeignError, BadReference: somebody's own raised something, or was called wrongly.
        """
        function = self.load()
        if self.builtin:
            return function(*arguments, **options)
        asked = Ref(self.name, tuple(sorted((key, value) for key, value in options.items() if key != "size")))
        if isinstance(self.card, Paper):
            options = {key: self._width(key, value, arguments) for key, value in options.items()}
            arguments = arguments if self._takes_width(options) else ()
        with foreign.running(f"{asked}, called with {', '.join(map(str, arguments)) or 'its options alone'}"):
            return function(*arguments, **options)

    def construct(self, options: Mapping[str, object], *arguments: object) -> Any:
        """Call the class or function.

        Raises:
            ForeignError, BadReference: it refuses its arguments.
        """
        try:
            return self.call(options, *arguments)
        except (ValueError, TypeError, ZeroDivisionError) as problem:
            asked = Ref(self.name, tuple(sorted((key, options[key]) for key in options if key in self.defaults)))
            raise BadReference(f"{asked}: {problem}") from problem

    def _takes_width(self, options: Mapping[str, object]) -> bool:
        """Whether its first argument is the number of channels, rather than an option that has a value already."""
        first = self.arguments[0] if self.arguments else ""
        return first not in options and (self.defaults.get(first) is None or bool(_WIDTH.search(first)))

    def _width(self, key: str, value: object, arguments: tuple[object, ...]) -> object:
        """An option's value, `"channels"` being the width where there is no default that it could mean."""
        return arguments[0] if value == "channels" and key in self.required else value

    def about(self) -> dict[str, Any]:
        """The entry and its card as plain values: at least `name`, `kind`, `control` and `inert`."""
        card = dataclasses.asdict(self.card)
        first = {"name": self.name, "kind": card.pop("kind", _KINDS.get(type(self.card))), "summary": self.summary}
        site = {"site": self.card.site} if isinstance(self.card, Paper) else {}
        return {**first, "control": False, "inert": {}, "options": dict(self.defaults), **site, **card}

    def identity(self) -> int | str:
        """What makes a run another run when it changes: our card's version, or the digest of the user's own code."""
        if self.thing is not None and not self.importable:
            return digest_of_object(self.thing)
        if self.builtin or self.source is None:
            return self.card.version
        return digest_of(self.source, self.target.partition(":")[0])


@dataclass(frozen=True)
class Choice(Generic[Card]):
    """What a reference asks for: an entry, and the options that differ from its defaults."""

    entry: Entry[Card]
    options: Mapping[str, object]
    parts: tuple["Choice[Card]", ...] = ()
    """The mechanisms that it is made of."""

    @property
    def card(self) -> Card:
        """The entry's card."""
        return self.entry.card

    @property
    def placed(self) -> Card:
        """The card that says where it goes: of what is made of another mechanism, that one's."""
        return self.parts[0].placed if self.parts and not self.entry.composed else self.card

    @property
    def settings(self) -> dict[str, Any]:
        """All options, those left at their defaults too."""
        return {**self.entry.defaults, **self.options}

    @property
    def at_defaults(self) -> bool:
        """Whether no option was given, to it or to a part."""
        return not self.options and all(part.at_defaults for part in self.parts)

    def __str__(self) -> str:
        """The one spelling of the reference: the registry's case, defaults dropped, options sorted."""
        return str(self._ref)

    @property
    def _ref(self) -> Ref:
        parts = tuple(part._ref for part in self.parts) if self.entry.composed else ()
        return Ref(self.entry.name, tuple(sorted(self.options.items())), parts)

    @property
    def identity(self) -> int | str:
        """The entry's identity, joined by those of its parts."""
        own = self.entry.identity()
        return "+".join(map(str, [own, *(part.identity for part in self.parts)])) if self.parts else own

    def construct(self, *arguments: object, **more: object) -> Any:
        """Call the class or function with the options.

        Raises:
            BadReference: it refuses its arguments.
        """
        made_of = {"parts": tuple(map(str, self.parts))} if self.entry.composed else {}
        return self.entry.construct({**self.options, **made_of, **more}, *arguments)


def _below(found: Any, attribute: str) -> Any:
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def inherits(node: Definition, source: Path | None) -> bool:
    """Whether a class takes its constructor from a class in another file, so that only importing tells its options."""
    if not isinstance(node, ast.ClassDef) or constructor(node, source) is not None:
        return False
    return any(ast.unparse(base).split(".")[-1] not in ("Module", "object") for base in node.bases)


def given(path: str, thing: Any, card: Card) -> Entry[Card]:
    """An object of a script, a notebook or a function, which only this process knows."""
    name, (defaults, choices, names) = path.replace("<locals>.", ""), signature_of(thing)
    return Entry(name, path, card, defaults, choices, names, inspect.getdoc(thing) or "", None, thing)


def entry_of(
    name: str, module: str, node: Definition | None, card: Card, source: Path | None, attribute: str, found: Any
) -> Entry[Card]:
    """The entry of what stands in a file; `found` is the object where its file had to be imported to know it."""
    function = constructor(node, source) if isinstance(node, ast.ClassDef) else node
    defaults, choices, names = signature(function) if function or found is None else signature_of(found)
    doc = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ") if node else ""
    return Entry(name, f"{module}:{attribute}", card, defaults, choices, names, doc, source)
