"""What a user's own code is made of: a digest of a file and of the files of theirs that it imports, or of a class."""

import ast
import hashlib
import inspect
import sysconfig
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from attnbench.errors import BadReference

_INSTALLED = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}


def digest_of(source: Path, module: str) -> str:
    """The digest of a module's file and of every file below the same top folder that it imports, however far along.

    An installed package is its one file: it changes with its version, not under somebody's hands.
    """
    top = _top(source, module)
    files = {source.resolve()} if top in _INSTALLED else _closure(source.resolve(), top)
    if len(files) == 1:
        return hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    lines = sorted(f"{file.relative_to(top)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def carried(source: Path, module: str) -> dict[str, bytes]:
    """The files that a digest is of, by where they lie below their top folder; none of an installed package.

    With them go the `__init__.py` of the packages above them.
    """
    top = _top(source, module)
    if top in _INSTALLED:
        return {}
    files = _closure(source.resolve(), top)
    packages = {folder / "__init__.py" for file in files for folder in file.parents if top in folder.parents}
    return {file.relative_to(top).as_posix(): file.read_bytes() for file in files | packages if file.is_file()}


def _top(source: Path, module: str) -> Path:
    """The folder that a module's file is imported from."""
    return source.resolve().parents[module.count(".") + (source.name == "__init__.py")]


def digest_of_object(thing: Any) -> str:
    """The digest of a class or function that stands in no module: in a script, a notebook, or a function.

    It is of its source, and of what of the same place it uses: base classes, helpers, and plain values.

    Raises:
        BadReference: Python does not know its source.
    """
    texts, waiting, met = [], [thing], {id(thing)}
    while waiting:
        one = waiting.pop()
        texts.append(_source_of(one))
        for name, used in sorted(_uses(one).items()):
            if _plain(used):
                texts.append(f"{name} = {used!r}")
            elif getattr(used, "__module__", None) == thing.__module__ and id(used) not in met:
                met.add(id(used))
                waiting.append(used)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _plain(value: Any) -> bool:
    """Whether it reads the same in every process."""
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(map(_plain, [*value, *value.values()]))
    return value is None or isinstance(value, bool | int | float | str)


def _source_of(thing: Any) -> str:
    for parts in ([thing], _methods(thing)):  # a notebook may know the source of methods only
        try:
            if text := "\n".join(textwrap.dedent(inspect.getsource(one)) for one in parts):
                return text
        except (OSError, TypeError):
            continue
    raise BadReference(f"the source of {thing.__qualname__} is not known here; put it into a file of its own")


def _methods(thing: Any) -> list[Any]:
    return [one for one in vars(thing).values() if inspect.isfunction(one)]


def _uses(thing: Any) -> dict[str, Any]:
    """The classes, functions and plain values that a class or a function names: its bases, and what its code reads."""
    found = {base.__qualname__: base for base in getattr(thing, "__bases__", ())}
    for function in [thing] if inspect.isfunction(thing) else _methods(thing):
        read = inspect.getclosurevars(function)
        found |= {
            name: used
            for name, used in {**read.globals, **read.nonlocals}.items()
            if _plain(used) or inspect.isfunction(used) or inspect.isclass(used)
        }
    return found


def _closure(source: Path, top: Path) -> set[Path]:
    found, waiting = {source}, [source]
    while waiting:
        file = waiting.pop()
        stamp = file.stat()
        fresh = set(_imports(file, top, stamp.st_mtime_ns, stamp.st_size)) - found
        found |= fresh
        waiting += fresh
    return found


@lru_cache(maxsize=512)
def _imports(file: Path, top: Path, _time: int, _size: int) -> tuple[Path, ...]:
    """The files below `top` that a file imports, at its top or in a function."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ()  # it is told when it is imported
    found = (_file(place) for node in ast.walk(tree) for place in _places(node, file, top))
    return tuple(dict.fromkeys(one.resolve() for one in found if one is not None))


def _places(node: ast.AST, file: Path, top: Path) -> Iterator[Path]:
    """Where the modules that a statement may import would lie, without a suffix."""
    if isinstance(node, ast.Import):
        yield from (top.joinpath(*name.name.split(".")) for name in node.names)
    if isinstance(node, ast.ImportFrom):
        start = file.parents[node.level - 1] if node.level and node.level <= len(file.parents) else top
        home = start.joinpath(*(node.module or "").split(".")) if node.module else start
        yield from (home, *(home / name.name for name in node.names))


def _file(place: Path) -> Path | None:
    """The file of a module that would lie there."""
    return next((file for file in (place.with_name(f"{place.name}.py"), place / "__init__.py") if file.is_file()), None)
