"""The distributions: what is in them, and that they install."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

SHIPPED = {"report/page.html", "report/page.css", "demo/quick.zip", "demo/flowers.zip", "catalogue/", "py.typed"}
"""Of each of these something must be in the wheel."""
LARGEST = 2_000_000
"""Bytes of either distribution."""


@pytest.mark.slow
def test_the_distributions_hold_the_package_and_no_results(tmp_path):
    """The wheel is built from the unpacked sdist, so what the sdist lacks would be missing in it."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)], check=True)
    with zipfile.ZipFile(wheel) as archive:
        wheels = archive.namelist()
    with tarfile.open(sdist) as archive:
        sources = ["/".join(Path(name).parts[1:]) for name in archive.getnames()]
    sources_of_package = {
        file.relative_to(ROOT / "src").as_posix() for file in (ROOT / "src" / "attnbench").rglob("*.py")
    }
    assert sources_of_package <= set(wheels)
    assert {name for name in SHIPPED if not any(file.startswith(f"attnbench/{name}") for file in wheels)} == set()
    assert {name.split("/")[0] for name in wheels if ".dist-info" not in name} == {"attnbench"}
    assert not [name for name in sources if name.split("/")[0] in ("results", "tests", "docs", "studies", "benchmarks")]
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} <= set(sources)
    assert max(wheel.stat().st_size, sdist.stat().st_size) < LARGEST
