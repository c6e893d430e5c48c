"""What the numbers were measured on: versions, hardware, and the code itself."""

import functools
import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ROOMS = ("mechanisms", "backbones", "networks", "data", "training")
NUMERICAL = ("devices.py", "maps.py", "seeding.py", "catalogue/formula.py", *(f"{room}/*.py" for room in _ROOMS))
"""Files of this package that decide the numbers of a run."""
PACKAGES = ("attnbench", "torch", "torchvision", "numpy", "scipy", "mlflow", "pillow", "scikit-learn", "timm")
DECIDING = ("torch", "torchvision", "numpy", "pillow", "scikit-learn", "timm")
"""Those of them that can change what is computed."""


@functools.cache
def environment() -> dict[str, object]:
    """Versions, processor, platform, git state and the digest of this package's code; a JSON-ready mapping."""
    commit, dirty = _git()
    return {
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "git_commit": commit,
        "git_dirty": dirty,
        "code": code_digest(),
    }


def deciding() -> dict[str, str | None]:
    """What two machines must have in common for one run on both: the code's digest and versions of packages."""
    return {"code": code_digest(), **{name: _version(name) for name in DECIDING}}


@functools.cache
def code_digest() -> str:
    """Hash of the Python files that decide a run's numbers; what reads, shows or starts runs is not among them."""
    here = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for file in sorted(file for part in NUMERICAL for file in here.glob(part)):
        digest.update(file.relative_to(here).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git() -> tuple[str | None, bool | None]:
    """The commit of the checkout that the package lies in, and whether it has uncommitted changes."""
    here = Path(__file__).parent.parent
    command = ["git", "-C", str(here)]
    try:
        tracked = subprocess.run([*command, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10)
        if tracked.returncode:
            return None, None
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        status = subprocess.run([*command, "status", "--porcelain", "."], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    return commit.stdout.strip() or None, bool(status.stdout.strip())
