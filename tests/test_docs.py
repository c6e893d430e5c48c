"""What the documents say is so."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

import attnbench

TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
SOURCES = [file for file in TRACKED if file.startswith("src/attnbench/") and file.endswith(".py")]
SOURCES = [file for file in SOURCES if "/mechanisms/" not in file]  # docs/mechanisms.md is made from them


def test_every_table_is_what_its_records_say():
    check = subprocess.run([sys.executable, ROOT / "docs" / "render.py", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.parametrize("file", SOURCES)
def test_the_tree_in_the_readme_has_a_line_for(file):
    tree = (ROOT / "README.md").read_text().split("## What is where")[1]
    name = file.removeprefix("src/attnbench/")
    assert name.endswith("__init__.py") or re.search(rf"^\s*{re.escape(name.split('/')[-1])}\s", tree, re.MULTILINE)


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
