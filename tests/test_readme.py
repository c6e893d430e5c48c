"""README's code, block after block in one fresh folder, as a reader pastes it; STAND_INS says what is shortened."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import HANG, ROOT, SHARED, wait_for

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = re.findall(BLOCK, (ROOT / "README.md").read_text(encoding="utf-8"))
CLONED = (
    "Makefile",
    "pyproject.toml",
    "constraints.txt",
    "requirements.txt",
    "README.md",
    "LICENSE",
    "run_experiment.py",
)
INSTALLED = "what it installs is there: a link to the environment of these tests, and pip only says what it would do"
CUT = "sed -i 's/^looks: .*/looks: [3]/; s/epochs: [0-9]*/epochs: 1/' mine.yaml"
FLOWERS = {51: "petunia", 77: "passion flower"}


@dataclass(frozen=True)
class StandIn:
    """What is other than in a reader's shell, for one block of README."""

    begins: str
    """The block's first line."""
    why: str = ""
    """What differs, and why; nothing: it runs as it is."""
    before: Callable[[Path], object] = lambda _: None
    """What is made in the folder first."""
    changed: dict[str, str] = field(default_factory=dict)
    """Text of the block -> what is put in its place."""
    leaves: tuple[str, ...] = ()
    """Files that are there afterwards."""


def photos(folder: Path) -> None:
    """Two kinds of flowers, twelve photos of each."""
    from scipy.io import loadmat

    with tarfile.open(SHARED / "flowers102" / "flowers102-128px-trainval.tar.gz") as archive:
        archive.extractall(folder / "flowers", filter="data")
    root = folder / "flowers" / "flowers-102"
    labels = loadmat(root / "imagelabels.mat")["labels"][0]
    for label, name in FLOWERS.items():
        (folder / "photos" / name).mkdir(parents=True)
        there = (root / "jpg" / f"image_{number:05}.jpg" for number, own in enumerate(labels, 1) if own == label)
        for file in [file for file in there if file.exists()][:12]:
            shutil.copy(file, folder / "photos" / name)


def eurosat(folder: Path) -> None:
    """The official files of EuroSAT, where a download would put them."""
    for part in (1, 2):
        with tarfile.open(SHARED / "eurosat" / f"eurosat-part{part}.tar.gz") as archive:
            archive.extractall(folder / "data", filter="data")


def cifar100(folder: Path) -> None:
    """One image a class to train on and one to test on, in class folders, where a download puts the official files."""
    taken: Counter[str] = Counter()
    with tarfile.open(SHARED / "cifar100" / "cifar100-test.tar.gz") as archive:
        for member in archive:
            kind = Path(member.name).parent.name
            if member.isfile() and taken[kind] < 2:
                split = ("train", "test")[taken[kind]]
                member.name = Path(member.name).name
                archive.extract(member, folder / "data" / "CIFAR100" / split / kind, filter="data")
                taken[kind] += 1


STAND_INS = (
    StandIn("make demo ", INSTALLED, leaves=("reports/quick/index.html",)),
    StandIn(
        "attnbench init photos ",
        "24 photos of two classes; the study is cut to one look at 3 seeds of an epoch",
        photos,
        {"\nattnbench study": f"\n{CUT}\nattnbench study"},
        ("mine.yaml", "reports/photos/index.html"),
    ),
    StandIn(
        "name: eurosat",
        "EuroSAT lies there instead of being downloaded; after a dry run of all of it it is cut to 12 short runs",
        eurosat,
        {
            "epochs: 6, train_fraction: 0.1": "epochs: 1, train_limit: 64, test_limit: 64",
            "seeds: 12": "seeds: 3",
            "looks: [6, 8, 12]": "looks: [3]",
        },
        ("eurosat.yaml",),
    ),
    StandIn("attnbench study eurosat.yaml --dry-run", leaves=("runs/studies/eurosat.jsonl",)),
    StandIn("import attnbench"),
    StandIn(
        "pip install -r requirements.txt",
        f"{INSTALLED}; an epoch on an image a class; mlflow ui is ended when it answers",
        cifar100,
        {"--epochs 30": "--epochs 30 --epochs 1"},
        ("saved_models/CIFAR100_se_model.pth", "mlflow.db"),
    ),
    StandIn('make demo PIP_ARGS="--extra-index-url', INSTALLED),
)
"""Every block, in order."""


def clone(folder: Path) -> None:
    """A folder as a clone of the repository after `make setup`."""
    for name in CLONED:
        shutil.copy(ROOT / name, folder / name)
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(folder / name, (0, 0))
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / ".venv").mkdir()
    for each in Path(sys.prefix).iterdir():
        if each.name != ".ready":
            (folder / ".venv" / each.name).symlink_to(each)
    (folder / ".venv" / ".ready").touch()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pasted(script: str, folder: Path, port: int) -> None:
    """Run lines in bash, which stops at the first that fails; a server at the end is ended once it answers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ATTNBENCH", "MLFLOW"))}
    environment |= {"PYTHONPATH": str(folder / "src"), "MLFLOW_PORT": str(port)}
    environment |= {"PIP_DRY_RUN": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # 0 is how pip spells yes
    with (folder / "said.txt").open("w+", encoding="utf-8") as said:
        command = ["bash", "-e", "-c", script]
        shell = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True)
        serves = script.rstrip().endswith("mlflow ui")
        wait_for(lambda: shell.poll() is not None or (serves and answers(port)))
        if serves and shell.poll() is None:
            os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(HANG)
            return
        assert not serves, f"mlflow ui ended by itself:\n{(folder / 'said.txt').read_text()}"
        assert shell.returncode == 0, f"{script}\n{(folder / 'said.txt').read_text()}"


def answers(port: int) -> bool:
    """Whether a server listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_every_block_of_code_is_listed():
    """One that is not would be run in no way that somebody thought of."""
    first = [text.splitlines()[0] for _, text in BLOCKS]
    assert all(line.startswith(each.begins) for line, each in zip(first, STAND_INS, strict=True)), first
    for (_, text), each in zip(BLOCKS, STAND_INS, strict=True):
        assert not [old for old in each.changed if old not in text]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images of ../shared/data are not on this machine")
@pytest.mark.slow
def test_every_block_of_code_does_what_it_says(tmp_path):
    clone(tmp_path)
    shell, port = "", free_port()
    for (language, text), each in zip(BLOCKS, STAND_INS, strict=True):
        each.before(tmp_path)
        if language == "yaml":
            (tmp_path / "eurosat.yaml").write_text(text, encoding="utf-8")
            pasted(f"{shell}attnbench study eurosat.yaml --dry-run", tmp_path, port)
        for old, new in each.changed.items():
            text = text.replace(old, new)
        if language == "sh":
            pasted(shell + text, tmp_path, port)
        else:
            file = {"yaml": "eurosat.yaml", "python": "pasted.py"}[language]
            (tmp_path / file).write_text(text, encoding="utf-8")
        if language == "python":
            pasted(f"{shell}python pasted.py", tmp_path, port)
        if "source .venv/bin/activate" in text:
            shell = "source .venv/bin/activate\n"
        missing = [name for name in each.leaves if not (tmp_path / name).exists()]
        assert not missing, f"after {each.begins!r} {', '.join(missing)} is not there"
