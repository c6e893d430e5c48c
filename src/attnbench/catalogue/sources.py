"""Somebody's source, read with `ast`: where a class or function is defined, and which options it takes."""

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from attnbench.catalogue.refs import nearest
from attnbench.errors import BadReference

Definition = ast.ClassDef | ast.FunctionDef


def source_of(module: str) -> Path | None:
    """The file of a module, found without importing the module itself."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError) as problem:
        raise BadReference(f"{module!r} cannot be imported: {problem}") from None
    if found is None:
        raise BadReference(f"no module {module!r} in {Path.cwd().name}/ or where Python looks for modules")
    return Path(found.origin) if found.origin and found.origin.endswith(".py") else None


def imported(path: str) -> tuple[str, str, Path]:
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


def definition(source: Path | None, attribute: str) -> Definition | None:
    """The class or function of that name at the top of a file."""
    if source is None:
        return None
    body = ast.parse(source.read_bytes()).body
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
