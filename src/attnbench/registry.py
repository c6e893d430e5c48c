"""A folder of files becomes entries with cards, read from the source with `ast`: nothing is imported to know a name.

To add a mechanism, a backbone or a data set, add a file. `package.module:Object` needs no file here: its
options and its digest are read from the user's source in the same way.
"""

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from attnbench.cards import Backbone, Paper, Source
from attnbench.errors import BadReference
from attnbench.refs import Ref, nearest, parse

Card = TypeVar("Card", Paper, Backbone, Source)
_Definition = ast.ClassDef | ast.FunctionDef
_HERE = Path(__file__).parent


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

    def about(self) -> dict[str, Any]:
        """The entry and its card as plain values: at least `name`, `kind`, `control` and `inert`."""
        card = dataclasses.asdict(self.card)
        first = {"name": self.name, "kind": card.pop("kind", self.target.split(".")[1]), "summary": self.summary}
        return {**first, "control": False, "inert": {}, "options": dict(self.defaults), **card}

    def identity(self) -> int | str:
        """What makes a run another run when it changes: our card's version, or the digest of the user's file."""
        if self.builtin or self.source is None:
            return self.card.version
        return hashlib.sha256(self.source.read_bytes()).hexdigest()[:16]


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

    def resolve(self, text: str) -> tuple[Entry[Card], dict[str, object]]:
        """The entry and the options that differ from its defaults, checked and in their default's type."""
        ref = parse(text)
        entry = self.find(ref.name)
        options = {key: self._option(entry, key, value) for key, value in ref.options}
        return entry, {key: value for key, value in options.items() if value != entry.defaults.get(key, _NONE)}

    def canonical(self, text: str) -> str:
        """The one spelling of a reference: the registry's case, defaults dropped, options sorted."""
        entry, options = self.resolve(text)
        return str(Ref(entry.name, tuple(sorted(options.items()))))

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
            if isinstance(node, _Definition) and (registered := self._registered(tree, node)):
                yield _entry(registered[0], module, node, registered[1], file, node.name)

    def _registered(self, tree: ast.Module, node: _Definition) -> tuple[str, Card] | None:
        """The name and the card in the decorator above a class or function, if it is registered with us."""
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == self._decorator:
                name, about = call.args
                literal = _constant(tree, about.id) if isinstance(about, ast.Name) else about
                assert isinstance(literal, ast.Call), f"the card of {node.name} must be written out"
                values = {word.arg: ast.literal_eval(word.value) for word in literal.keywords if word.arg}
                return ast.literal_eval(name), self._card(**values)
        return None

    def _foreign(self, path: str, card: Card | None = None) -> Entry[Card]:
        """Somebody's own object, read from its source; with the card in its decorator, if it has one."""
        module, _, attribute = path.partition(":")
        source = _source(module)
        definition = _definition(source, attribute)
        if definition is None:
            module, attribute, source = _imported(path)
            definition = _definition(source, attribute)
        if card is None and source and definition:
            registered = self._registered(ast.parse(source.read_bytes()), definition)
            card = registered[1] if registered else None
        blank: Any = {"title": path, "sites": {}, "image_size": 32} if self._card is Backbone else {"title": path}
        return _entry(path, module, definition, card or self._card(**blank), source, attribute)

    def _option(self, entry: Entry[Card], key: str, value: object) -> object:
        where = f"{self.what} {entry.name!r}"
        if key not in entry.defaults:
            known = ", ".join(entry.defaults) or "none"
            raise BadReference(f"{where} has no option {key!r}; its options: {known}")
        default = entry.defaults[key]
        value = getattr(entry.card, "synonyms", {}).get(key, {}).get(value, value)
        choices = entry.choices.get(key, ())
        if choices and value not in choices:
            raise BadReference(f"{where}: {key}={value!r} is not one of {', '.join(map(repr, choices))}")
        if default is None or (
            isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
        ):
            return value
        if isinstance(default, int | float) and isinstance(value, int | float) and not isinstance(value, bool):
            return _as(default, value)
        raise BadReference(f"{where}: {key}={value!r} must be {_a(type(default).__name__)}, as {default!r} is")


_NONE = object()


def _as(default: object, value: int | float) -> int | float:
    """A number in its default's type where that loses nothing: `reduction=16.0` is `reduction=16`."""
    if isinstance(default, float):
        return float(value)
    return int(value) if float(value).is_integer() else value


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _source(module: str) -> Path | None:
    """The file of a module, found without importing the module itself."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError) as problem:
        raise BadReference(f"{module!r} cannot be imported: {problem}") from None
    if found is None:
        raise BadReference(f"no module {module!r} in {Path.cwd().name}/ or where Python looks for modules")
    return Path(found.origin) if found.origin and found.origin.endswith(".py") else None


def _imported(path: str) -> tuple[str, str, Path]:
    """Where an object is really defined, when its module only passes it on: module, name, file."""
    module, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise BadReference(f"module {module!r} has no {attribute!r}{nearest(attribute, dir(found))}") from None
    home = sys.modules.get(getattr(found, "__module__", ""), None)
    file = getattr(home, "__file__", None)
    if not file:
        raise BadReference(f"{path!r} has no source file, so runs with it could not be told apart")
    return found.__module__, getattr(found, "__qualname__", attribute), Path(file)


def _definition(source: Path | None, attribute: str) -> _Definition | None:
    if source is None:
        return None
    body = ast.parse(source.read_bytes()).body
    return next((node for node in body if isinstance(node, _Definition) and node.name == attribute), None)


def _constant(tree: ast.Module, name: str) -> ast.expr | None:
    """The value that a module gives to a name."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node.value
    return None


def _entry(
    name: str, module: str, node: _Definition | None, card: Card, source: Path | None, attribute: str
) -> Entry[Card]:
    function = _constructor(node, source) if isinstance(node, ast.ClassDef) else node
    defaults, choices, names = _signature(function)
    doc = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ") if node else ""
    return Entry(name, f"{module}:{attribute}", card, defaults, choices, names, doc, source)


def _constructor(node: ast.ClassDef, source: Path | None) -> ast.FunctionDef | None:
    """Its `__init__`, or that of a base class in the same file."""
    own = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    bases = [_definition(source, base.id) for base in node.bases if isinstance(base, ast.Name)]
    inherited = (_constructor(base, source) for base in bases if isinstance(base, ast.ClassDef))
    return own or next((found for found in inherited if found), None)


def _signature(
    function: ast.FunctionDef | None,
) -> tuple[dict[str, object], dict[str, tuple[object, ...]], tuple[str, ...]]:
    """Options with their defaults, the choices of those annotated `Literal`, and all parameter names."""
    if function is None:
        return {}, {}, ()
    spec = function.args
    positional = [*spec.posonlyargs, *spec.args]
    given = dict(zip(positional[len(positional) - len(spec.defaults) :], spec.defaults, strict=True))
    given |= {arg: value for arg, value in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if value}
    defaults = {arg.arg: _default(value) for arg, value in given.items() if arg.arg != "size"}
    choices = {arg.arg: _literals(arg.annotation) for arg in given if _literals(arg.annotation)}
    return defaults, choices, tuple(arg.arg for arg in [*positional, *spec.kwonlyargs])


def _default(node: ast.expr) -> object:
    """The default as a value; one that is not a literal (a class, say) accepts any option."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _literals(annotation: ast.expr | None) -> tuple[object, ...]:
    if isinstance(annotation, ast.Subscript) and getattr(annotation.value, "id", "") == "Literal":
        listed = annotation.slice
        return tuple(ast.literal_eval(e) for e in (listed.elts if isinstance(listed, ast.Tuple) else [listed]))
    return ()


ATTENTION = Registry("attention", "attention", _HERE / "mechanisms", Paper)
BACKBONES = Registry("backbone", "backbone", _HERE / "backbones", Backbone)
DATASETS = Registry("dataset", "dataset", _HERE / "data", Source)
