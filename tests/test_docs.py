"""What the documents say is so."""

import ast
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import attnbench

DOCS = ROOT / "docs"
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


def test_every_page_is_in_the_navigation_of_the_site():
    listed = set(re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    elsewhere = {"index.md", "repository/CONTRIBUTING.md", "repository/CHANGELOG.md"}
    assert listed == pages | elsewhere


def test_the_reference_has_every_public_name_and_no_other():
    shown = re.findall(r"^::: attnbench\.(\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    public = [f"{home}.{name}" for name, home in attnbench._HOME.items()]
    assert sorted(shown) == sorted([*public, "errors"])


@pytest.mark.slow
def test_the_site_opens_from_disk_and_asks_for_nothing(browser, tmp_path):
    build = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        ROOT / "mkdocs.yml",
        "--site-dir",
        tmp_path,
    ]
    built = subprocess.run(build, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert built.returncode == 0, built.stderr
    assert not [*tmp_path.glob("*.py")]
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "index.html").as_uri())
    shown = page.evaluate("Array.from(document.images, image => image.naturalWidth)")
    assert shown
    assert all(shown)
    page.get_by_placeholder("Search").click()
    page.keyboard.type("equivalent")
    page.locator(".md-search-result__meta", has_text="matching").wait_for()
    assert not [url for url in asked if not url.startswith("file:")]
    page.close()
