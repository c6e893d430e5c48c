"""The page on adding a mechanism: its example, as written there, through its commands, as written there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "adding.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
SAID = {
    "check": "keeps 20 of 20 promises",
    "same": "differ in the mechanism only",
    "profile": "written: profiles/resnet20/profile.csv",
    "run": "test accuracy",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[1])
def test_a_command_of_the_page_does_what_the_page_says(command, tmp_path: Path):
    (tmp_path / "squares.py").write_text(EXAMPLE)
    words = [sys.executable, "-m", "attnbench", *shlex.split(command)[1:]]
    words += ["--tracker", "none"] if words[3] == "run" else []
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SAID[words[3]] in done.stdout


def test_the_page_has_every_command_that_it_speaks_of():
    assert [command.split()[1] for command in COMMANDS] == ["check", "same", "profile", "run"]
