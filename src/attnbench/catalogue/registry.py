"""A folder of files becomes entries with cards, read from the source with `ast`: nothing is imported to know a name.

To add a mechanism, a backbone or a data set, add a file. `package.module:Object` needs no file here: its
options and its digest are read from the user's source in the same way.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic

from attnbench.catalogue import foreign
from attnbench.catalogue.cards import Backbone, Paper, Source
from attnbench.catalogue.compositions import composed
from attnbench.catalogue.entries import Card, Choice, Entry, entry_of, given, inherits
from attnbench.catalogue.refs import nearest, parse
from attnbench.catalogue.sources import Definition, constant, definition, imported, source_of
from attnbench.errors import BadReference

__all__ = ["ATTENTION", "BACKBONES", "DATASETS", "Choice", "Entry", "Registry"]

_PACKAGE = Path(__file__).parent.parent


class Registry(Generic[Card]):
    """The mechanisms, the backbones, or the data sets: names in any case, errors with the nearest name."""

    def __init__(self, what: str, decorator: str, folder: Path, card: type[Card]) -> None:
        self.what, self._decorator, self._folder = what, decorator, folder
        self._card: type[Card] = card
        self._entries: dict[str, Entry[Card]] | None = None
        self._added: dict[str, Entry[Card]] = {}

    def __iter__(self) -> Iterator[Entry[Card]]:
        """Compositions are left out: they are nothing without their parts."""
        known = (entry for entry in self._known().values() if not entry.composed)
        return iter(sorted(known, key=lambda entry: entry.name.lower()))

    @property
    def compositions(self) -> list[Entry[Card]]:
        """What takes other mechanisms, and is no mechanism by itself."""
        return [entry for entry in self._ours().values() if entry.composed]

    def find(self, name: str) -> Entry[Card]:
        """The entry called `name`, in any case, or the user's `package.module:Object`.

        Raises:
            BadReference: nothing is called so.
        """
        if ":" in name:
            added = (entry for entry in self._added.values() if entry.name == name and not entry.importable)
            return next(added, None) or self._foreign(name)
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
        if missing := [key for key in entry.required if key not in options]:
            also = ' ("channels" for the width)' if isinstance(entry.card, Paper) else ""
            how = f"{entry.name}({missing[0]}=...){also}"
            raise BadReference(f"{self.what} {entry.name!r} needs {missing[0]}; give it as an option: {how}")
        made_of = [str(options.get(name, entry.defaults[name])) for name in _nested(entry)]
        made_of += map(str, ref.parts)
        parts: tuple[Choice[Card], ...] = tuple(map(self.resolve, made_of))
        return Choice(composed(entry, parts) if entry.composed else entry, options, parts)

    def canonical(self, text: str) -> str:
        """The one spelling of a reference."""
        return str(self.resolve(text))

    def add(self, name: str, card: Card, target: Any) -> None:
        """Register the user's own object at run time; ours are found by their files.

        Raises:
            BadReference: one of ours is called so.
        """
        if target.__module__.startswith("attnbench."):
            return
        path = f"{target.__module__}:{target.__qualname__}"
        self._refuse_ours(name, path)
        if target.__module__ == "__main__" or "<locals>" in path:
            self._added[name.lower()] = given(path, target, card)
        else:
            self._added[name.lower()] = self._foreign(path, card)

    def _refuse_ours(self, name: str, path: str) -> None:
        if name.lower() in self._ours():
            raise BadReference(f"{path}: one of ours is called {name!r}; register it under another name")

    def _known(self) -> dict[str, Entry[Card]]:
        return {**self._added, **self._ours()}

    def _ours(self) -> dict[str, Entry[Card]]:
        if self._entries is None:
            found = {}
            for file in sorted(self._folder.glob("*.py")):
                for entry in self._read(file):
                    found[entry.name.lower()] = entry
            self._entries = found
        return self._entries

    def _read(self, file: Path) -> Iterator[Entry[Card]]:
        """The entries that a file of ours registers."""
        tree, module = ast.parse(file.read_bytes()), f"attnbench.{self._folder.name}.{file.stem}"
        for node in tree.body:
            if isinstance(node, Definition) and (registered := self._registered(tree, node)):
                yield entry_of(registered[0], module, node, registered[1], file, node.name, None)

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
        foreign.admit(path)
        module, _, attribute = path.partition(":")
        found: Any = None
        with foreign.running(f"{path} cannot be imported"):
            source = source_of(module)
            node = definition(source, attribute)
            if node is None or inherits(node, source):
                module, attribute, source, found = imported(path)
                node = definition(source, attribute)
            if card is None and source and node:
                card = self._card_above(source, node, module)
        if source is not None:
            foreign.named(source)
        blank: Any = {"title": path, "sites": {}, "image_size": 32} if self._card is Backbone else {"title": path}
        return entry_of(path, module, node, card or self._card(**blank), source, attribute, found)

    def _card_above(self, source: Path, node: Definition, module: str) -> Card | None:
        """The card in a decorator of the user's; their file is imported where it is not written out."""
        try:
            registered = self._registered(ast.parse(source.read_bytes()), node)
        except (AssertionError, ValueError):
            foreign.load(module)
            made = (entry.card for entry in self._added.values() if entry.name == f"{module}:{node.name}")
            return next(made, None)
        if registered and not module.startswith("attnbench."):
            self._refuse_ours(registered[0], f"{module}:{node.name}")
        return registered[1] if registered else None

    def _option(self, entry: Entry[Card], key: str, value: object) -> object:
        where = f"{self.what} {entry.name!r}"
        if key in entry.required:
            return value
        if key not in entry.defaults:
            options = [*entry.required, *entry.defaults]
            known = ", ".join(options) or "none"
            raise BadReference(f"{where} has no option {key!r}; its options: {known}{nearest(key, options)}")
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


def _nested(entry: Entry[Any]) -> tuple[str, ...]:
    """The options that are references themselves."""
    found: tuple[str, ...] = getattr(entry.card, "nested", ())
    return found


def _as(default: object, value: int | float) -> int | float:
    """A number in its default's type where that loses nothing: `reduction=16.0` is `reduction=16`."""
    try:
        exact = float(value)
    except OverflowError:  # a whole number beyond any float
        return value
    if isinstance(default, float):
        return exact
    return int(value) if exact.is_integer() else value


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


ATTENTION = Registry("attention", "attention", _PACKAGE / "mechanisms", Paper)
BACKBONES = Registry("backbone", "backbone", _PACKAGE / "backbones", Backbone)
DATASETS = Registry("dataset", "dataset", _PACKAGE / "data", Source)
