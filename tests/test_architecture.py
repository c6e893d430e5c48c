"""The architecture: imports point down, the two halves stay apart, and files stay of a size that is read."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

SOURCE = ROOT / "src" / "attnbench"

LAYERS = [
    {"errors", "files", "console", "demo"},
    {"devices"},
    {"seeding", "maps"},
    {"catalogue"},
    {"mechanisms", "backbones", "spec"},
    {"data", "networks", "store"},
    {"training", "analysis"},
    {"execution", "report"},
    {"examine"},
    {"deploy"},
    {"cli"},
    {"__main__"},
]
"""Rooms (and files at the root): one imports from the layers listed before its own, and its files import each other."""

PLAIN = ["catalogue", "spec", "store", "analysis", "report", "cli"]
"""The half that thinks: no file in these rooms needs torch or mlflow to be imported."""

DECORATORS = {"mechanisms": "attention", "backbones": "backbone", "data": "dataset"}
MODULES = sorted(file for file in SOURCE.rglob("*.py") if file != SOURCE / "__init__.py")
EVERY_MODULE = pytest.mark.parametrize("file", MODULES, ids=lambda file: file.relative_to(SOURCE).as_posix())
EVERY_FILE = pytest.mark.parametrize(
    "file", sorted(SOURCE.rglob("*.py")), ids=lambda file: file.relative_to(SOURCE).as_posix()
)


def imports(file: Path) -> Iterator[str]:
    """Every module a file imports, at its top or in a function, as full dotted names."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def part(file: Path) -> str:
    """The module below attnbench that a file is, or the package that it lies in."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def layer(name: str) -> int:
    return next(number for number, members in enumerate(LAYERS) if name in members)


def registers(package: str) -> list[Path]:
    """The files of a package that register something."""
    return [f for f in (SOURCE / package).glob("*.py") if f"\n@{DECORATORS[package]}(" in f.read_text()]


def ours(file: Path) -> set[str]:
    """The parts of attnbench that a file imports."""
    parts = {name.split(".")[1] for name in imports(file) if name.startswith("attnbench.")}
    return {name for name in parts if (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file()}


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_every_module_has_its_layer_and_every_layer_its_modules():
    listed = [name for members in LAYERS for name in members]
    assert sorted(listed) == sorted({part(file) for file in MODULES})


@EVERY_MODULE
def test_imports_point_down(file):
    own = part(file)
    wrong = {name for name in ours(file) - {own} if layer(name) >= layer(own)}
    assert not wrong, f"{own} imports {', '.join(sorted(wrong))}, which are not below it"


@pytest.mark.parametrize("package", ["mechanisms", "backbones", "data"])
def test_a_file_that_registers_something_imports_little(package):
    """What is added in one file must not come to depend on the rest of us."""
    allowed = {*sys.stdlib_module_names, "torch", f"attnbench.{package}"}
    allowed |= {"numpy", "sklearn", "torchvision", "attnbench.errors"} if package == "data" else set()
    allowed |= {"torchvision", "timm"} if package == "backbones" else set()
    allowed |= {"attnbench.maps"} if package != "data" else set()
    assert registers(package)
    for file in registers(package):
        top = {name if name.startswith("attnbench") else name.split(".")[0] for name in imports(file)}
        strange = {name for name in top if not any(name == a or name.startswith(f"{a}.") for a in allowed)}
        assert not strange, f"{file.name} imports {', '.join(sorted(strange))}"


@pytest.mark.parametrize("package", ["mechanisms", "backbones"])
def test_every_file_of_a_registrys_folder_registers_something(package):
    files = {file for file in (SOURCE / package).glob("*.py") if file.name != "__init__.py"}
    assert files == set(registers(package))


@pytest.mark.parametrize("room", PLAIN)
def test_the_half_that_thinks_imports_neither_torch_nor_mlflow(room):
    names = [".".join(file.relative_to(SOURCE.parent).with_suffix("").parts) for file in (SOURCE / room).glob("*.py")]
    code = f"import sys, {', '.join(names)}; print([m for m in ('torch', 'mlflow') if m in sys.modules])"
    done = run(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_is_made_without_torch_and_pydantic():
    code = (
        "import contextlib, io, sys\n"
        "from attnbench.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(['--help'])\n"
        "print({'torch', 'pydantic', 'scipy', 'mlflow'} & set(sys.modules))"
    )
    done = run(code)
    assert done.stdout == "set()\n", done.stderr


def test_public_names_are_what_they_say_after_every_submodule_was_imported():
    """A submodule that shared a public name would take its place."""
    code = (
        "import importlib, pkgutil, types, attnbench\n"
        "for found in pkgutil.walk_packages(attnbench.__path__, 'attnbench.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "for name in attnbench.__all__:\n"
        "    value = getattr(attnbench, name)\n"
        "    assert callable(value) and not isinstance(value, types.ModuleType), name\n"
        "print(*attnbench.__all__)"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    wanted = (
        "RunSpec Runtime Study Store run compare verdict load network build_attention attention backbone dataset "
        "graft sites load_pretrained ungraft fold"
    )
    assert set(done.stdout.split()) == set(wanted.split())


def test_every_module_is_imported_without_what_only_posix_has():
    """As on Windows, as far as that can be played here: the libraries are imported first, for they find it out."""
    code = (
        "import importlib, os, pkgutil, signal, sys\n"
        "import altair, filelock, PIL.Image, rich, safetensors.torch, scipy.special, sklearn.datasets, tyro\n"
        "import torchvision\n"
        "for name in ('fcntl', 'grp', 'pwd', 'resource', 'termios', '_posixshmem'): sys.modules[name] = None\n"
        "for name in ('SIGUSR2', 'SIGKILL', 'SIGHUP', 'pthread_sigmask'): delattr(signal, name)\n"
        "for name in ('fork', 'getuid', 'geteuid', 'killpg', 'setsid', 'uname'): delattr(os, name)\n"
        "import attnbench\n"
        "for found in pkgutil.walk_packages(attnbench.__path__, 'attnbench.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "print('all')"
    )
    done = run(code)
    assert done.stdout == "all\n", done.stderr


def test_an_unknown_public_name_is_an_attribute_error():
    import attnbench

    with pytest.raises(AttributeError, match="nosuch"):
        _ = attnbench.nosuch


@EVERY_FILE
def test_a_file_has_at_most_300_lines(file):
    assert len(file.read_text().splitlines()) <= 300


@EVERY_FILE
def test_a_function_has_at_most_40_lines(file):
    functions = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > 40} == {}


@EVERY_FILE
def test_a_public_name_has_a_docstring(file):
    """`forward` is torch's, and says what it does in the class."""
    definitions = (ast.ClassDef, ast.FunctionDef)
    tree = ast.parse(file.read_text())
    bodies = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")]
    public = [
        node
        for body in bodies
        for node in body.body
        if isinstance(node, definitions) and node.name[0] != "_" and node.name != "forward"
    ]
    assert ast.get_docstring(tree) or not tree.body
    assert [node.name for node in public if not ast.get_docstring(node)] == []
