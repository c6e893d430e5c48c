"""A folder of files becomes entries with cards, read from the source with `ast`: nothing is imported to know a name.

To add a mechanism, a backbone or a data set, add a file. `package.module:Object` needs no file here: its
options and its digest are read from the user's source in the same way.
"""

import ast
import dataclasses
import hashlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from attnbench.catalogue.cards import Backbone, Paper, Source
from attnbench.catalogue.refs import Ref, nearest, parse
from attnbench.catalogue.sources import Definition, constant, constructor, definition, imported, signature, source_of
from attnbench.errors import BadReference

Card = TypeVar("Card", Paper, Backbone, Source)
_PACKAGE = Path(__file__).parent.parent


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

    @property
    def builtin(self) -> bool:
        """Whether it is one of ours, with a version on its card, rather than somebody's own code."""
        return ":" not in self.name

    def load(self) -> Any:
        """Import the class or function."""
        module, _, attribute = self.target.partition(":")
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found

    def construct(self, options: Mapping[str, object], *arguments: object) -> Any:
        """Call the class or function.

        Raises:
            BadReference: it refuses its arguments.
        """
        try:
            return self.load()(*arguments, **options)
        except (ValueError, TypeError, ZeroDivisionError) as problem:
            asked = Ref(self.name, tuple(sorted((key, options[key]) for key in options if key in self.defaults)))
            raise BadReference(f"{asked}: {problem}") from problem

    def about(self) -> dict[str, Any]:
        """The entry and its card as plain values: at least `name`, `kind`, `control` and `inert`."""
        card = dataclasses.asdict(self.card)
        first = {"name": self.name, "kind": card.pop("kind", _KINDS.get(type(self.card))), "summary": self.summary}
        site = {"site": self.card.site} if isinstance(self.card, Paper) else {}
        return {**first, "control": False, "inert": {}, "options": dict(self.defaults), **site, **card}

    def identity(self) -> int | str:
        """What makes a run another run when it changes: our card's version, or the digest of the user's file."""
        if self.builtin or self.source is None:
            return self.card.version
        return hashlib.sha256(self.source.read_bytes()).hexdigest()[:16]


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
        return self.parts[0].placed if self.parts else self.card

    @property
    def settings(self) -> dict[str, Any]:
        """All options, those left at their defaults too."""
        return {**self.entry.defaults, **self.options}

    def __str__(self) -> str:
        """The one spelling of the reference: the registry's case, defaults dropped, options sorted."""
        return str(Ref(self.entry.name, tuple(sorted(self.options.items()))))

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
        return self.entry.construct({**self.options, **more}, *arguments)


class Registry(Generic[Card]):
    """The mechanisms, the backbones, or the data sets: names in any case, errors with the nearest name."""

    def __init__(self, what: str, decorator: str, folder: Path, card: type[Card]) -> None:
        self.what, self._decorator, self._folder = what, decorator, folder
        self._card: type[Card] = card
        self._entries: dict[str, Entry[Card]] | None = None
        self._added: dict[str, Entry[Card]] = {}

    def __iter__(self) -> Iterator[Entry[Card]]:
        return iter(sorted(self._known().values(), key=lambda entry: entry.name.lower()))

    def find(self, name: str) -> Entry[Card]:
        """The entry called `name`, in any case, or the user's `package.module:Object`.

        Raises:
            BadReference: nothing is called so.
        """
        if ":" in name:
            return self._foreign(name)
        known = self._known()
        if name.lower() in known:
            return known[name.lower()]
        names = [entry.name for entry in known.values()]
        instead = nearest(name, names) or f"; known are {', '.join(sorted(names))}"
        raise BadReference(f"no {self.what} is called {name!r}{instead} (or give package.module:Class)")

    def resolve(self, text: str) -> Choice[Card]:
        """What a reference asks for; its options are checked, and in their default's type.

        Raises:
            BadReference: it cannot be read, nothing is called so, or an option is unknown or impossible.
        """
        ref = parse(text)
        entry = self.find(ref.name)
        options = {key: self._option(entry, key, value) for key, value in ref.options}
        options = {key: value for key, value in options.items() if value != entry.defaults.get(key, _NONE)}
        parts = [self.resolve(str(options.get(name, entry.defaults[name]))) for name in _nested(entry)]
        return Choice(entry, options, tuple(parts))

    def canonical(self, text: str) -> str:
        """The one spelling of a reference."""
        return str(self.resolve(text))

    def add(self, name: str, card: Card, target: Any) -> None:
        """Register the user's own object at run time; ours are found by their files."""
        path = f"{target.__module__}:{target.__qualname__}"
        if not target.__module__.startswith("attnbench."):
            self._added[name.lower()] = self._foreign(path, card)

    def _known(self) -> dict[str, Entry[Card]]:
        if self._entries is None:
            found = {}
            for file in sorted(self._folder.glob("*.py")):
                for entry in self._read(file):
                    found[entry.name.lower()] = entry
            self._entries = found
        return {**self._added, **self._entries}

    def _read(self, file: Path) -> Iterator[Entry[Card]]:
        """The entries that a file of ours registers."""
        tree, module = ast.parse(file.read_bytes()), f"attnbench.{self._folder.name}.{file.stem}"
        for node in tree.body:
            if isinstance(node, Definition) and (registered := self._registered(tree, node)):
                yield _entry(registered[0], module, node, registered[1], file, node.name)

    def _registered(self, tree: ast.Module, node: Definition) -> tuple[str, Card] | None:
        """The name and the card in the decorator above a class or function, if it is registered with us."""
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == self._decorator:
                name, about = call.args
                literal = constant(tree, about.id) if isinstance(about, ast.Name) else about
                assert isinstance(literal, ast.Call), f"the card of {node.name} must be written out"
                values = {word.arg: ast.literal_eval(word.value) for word in literal.keywords if word.arg}
                return ast.literal_eval(name), self._card(**values)
        return None

    def _foreign(self, path: str, card: Card | None = None) -> Entry[Card]:
        """Somebody's own object, read from its source; with the card in its decorator, if it has one."""
        module, _, attribute = path.partition(":")
        source = source_of(module)
        node = definition(source, attribute)
        if node is None:
            module, attribute, source = imported(path)
            node = definition(source, attribute)
        if card is None and source and node:
            registered = self._registered(ast.parse(source.read_bytes()), node)
            card = registered[1] if registered else None
        blank: Any = {"title": path, "sites": {}, "image_size": 32} if self._card is Backbone else {"title": path}
        return _entry(path, module, node, card or self._card(**blank), source, attribute)

    def _option(self, entry: Entry[Card], key: str, value: object) -> object:
        where = f"{self.what} {entry.name!r}"
        if key not in entry.defaults:
            known = ", ".join(entry.defaults) or "none"
            raise BadReference(f"{where} has no option {key!r}; its options: {known}{nearest(key, entry.defaults)}")
        default = entry.defaults[key]
        value = getattr(entry.card, "synonyms", {}).get(key, {}).get(value, value)
        if key in _nested(entry) and isinstance(value, str):
            return self.canonical(value)
        choices = entry.choices.get(key, ())
        if choices and value not in choices:
            raise BadReference(f"{where}: {key}={value!r} is not one of {', '.join(map(repr, choices))}")
        if default is None or (
            isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
        ):
            return value
        truths = isinstance(value, bool) or isinstance(default, bool)
        if isinstance(default, int | float) and isinstance(value, int | float) and not truths:
            return _as(default, value)
        raise BadReference(f"{where}: {key}={value!r} must be {_a(type(default).__name__)}, as {default!r} is")


_NONE = object()
_KINDS = {Backbone: "backbone", Source: "dataset"}
"""What a card without kinds of its own is about."""


def _nested(entry: Entry[Any]) -> tuple[str, ...]:
    """The options that are references themselves."""
    found: tuple[str, ...] = getattr(entry.card, "nested", ())
    return found


def _as(default: object, value: int | float) -> int | float:
    """A number in its default's type where that loses nothing: `reduction=16.0` is `reduction=16`."""
    if isinstance(default, float):
        return float(value)
    return int(value) if float(value).is_integer() else value


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _entry(
    name: str, module: str, node: Definition | None, card: Card, source: Path | None, attribute: str
) -> Entry[Card]:
    function = constructor(node, source) if isinstance(node, ast.ClassDef) else node
    defaults, choices, names = signature(function)
    doc = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ") if node else ""
    return Entry(name, f"{module}:{attribute}", card, defaults, choices, names, doc, source)


ATTENTION = Registry("attention", "attention", _PACKAGE / "mechanisms", Paper)
BACKBONES = Registry("backbone", "backbone", _PACKAGE / "backbones", Backbone)
DATASETS = Registry("dataset", "dataset", _PACKAGE / "data", Source)
