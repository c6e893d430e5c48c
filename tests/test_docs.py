"""What the documents say is so."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import attnbench

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_every_table_is_what_its_records_say():
    check = subprocess.run([sys.executable, ROOT / "docs" / "render.py", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.parametrize("step", re.findall(r"`([a-z_/]+\.py):(\w+)`", ARCHITECTURE), ids=":".join)
def test_the_way_of_a_run_names_what_there_is(step):
    file, name = step
    tree = ast.parse((ROOT / "src" / "attnbench" / file).read_text())
    names = {getattr(node, "name", None) for node in ast.walk(tree)}
    assert name in names, f"docs/architecture.md sends a reader to {file}:{name}"


def test_every_link_to_a_file_leads_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_versions_agree():
    assert f'version = "{attnbench.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {attnbench.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {attnbench.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_bind_nobody_to_cuda():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert not [line for line in lines if re.match(r"nvidia|triton|cuda", line)]
