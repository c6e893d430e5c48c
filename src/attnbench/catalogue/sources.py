"""Somebody's source, read with `ast`: where a class or function is defined, and which options it takes."""

import ast
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from attnbench.catalogue.foreign import findable, load
from attnbench.catalogue.refs import nearest
from attnbench.errors import BadReference

Definition = ast.ClassDef | ast.FunctionDef


def source_of(module: str) -> Path | None:
    """The file of a module, found without importing the module itself."""
    try:
        with findable():
            found = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError) as problem:
        if getattr(problem, "name", None) not in _above(module):
            raise  # the packages above it are imported: something fails in there
        found = None
    if found is None:
        raise BadReference(f"no module {module!r} in {Path.cwd().name}/ or where Python looks for modules")
    return Path(found.origin) if found.origin and found.origin.endswith(".py") else None


def _above(module: str) -> list[str | None]:
    """The names of the packages that a module lies in; and None, for one that was made without a file."""
    parts = module.split(".")
    return [None, *(".".join(parts[:length]) for length in range(1, len(parts) + 1))]


def imported(path: str) -> tuple[str, str, Path, Any]:
    """Where an object is really defined, when its module only passes it on: module, name, file; and the object."""
    module, _, attribute = path.partition(":")
    found = load(module)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise BadReference(f"module {module!r} has no {attribute!r}{nearest(attribute, dir(found))}")
        found = getattr(found, part)
    if not callable(found) or (hasattr(found, "forward") and not isinstance(found, type)):
        raise BadReference(f"{path!r} is {type(found).__name__}; give a class or a function")
    home, name = getattr(found, "__module__", None), getattr(found, "__qualname__", "")
    if home is None or _below(sys.modules.get(home), name) is not found:  # a partial, or a lambda
        home, name = module, attribute
    file = getattr(sys.modules.get(home), "__file__", None)
    if not file:
        raise BadReference(f"{path!r} has no source file, so runs with it could not be told apart")
    return home, name, Path(file), found


def _below(found: Any, path: str) -> Any:
    """What a dotted path below an object leads to; None if nothing."""
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def definition(source: Path | None, attribute: str) -> Definition | None:
    """The class or function of that name at the top of a file."""
    if source is None:
        return None
    body = ast.parse(source.read_bytes(), str(source)).body
    return next((node for node in body if isinstance(node, Definition) and node.name == attribute), None)


def constant(tree: ast.Module, name: str) -> ast.expr | None:
    """The value that a module gives to a name."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node.value
    return None


def constructor(node: ast.ClassDef, source: Path | None) -> ast.FunctionDef | None:
    """Its `__init__`, or that of a base class in the same file."""
    own = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    bases = [definition(source, base.id) for base in node.bases if isinstance(base, ast.Name)]
    inherited = (constructor(base, source) for base in bases if isinstance(base, ast.ClassDef))
    return own or next((found for found in inherited if found), None)


def signature(
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
    names = tuple(arg.arg for arg in [*positional, *spec.kwonlyargs])
    return defaults, choices, names[names[:1] == ("self",) :]


def signature_of(found: Any) -> tuple[dict[str, object], dict[str, tuple[object, ...]], tuple[str, ...]]:
    """The same of an object, for those that no `def` at the top of a file defines."""
    try:
        known = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return {}, {}, ()
    named = [one for one in known if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    defaults = {one.name: one.default for one in named if one.default is not one.empty and one.name != "size"}
    plain = {name: value if _is_plain(value) else None for name, value in defaults.items()}
    return plain, {}, tuple(one.name for one in named)


def _is_plain(value: object) -> bool:
    """Whether a value can be written in a reference."""
    return isinstance(value, int | float | str | tuple)


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
