"""`python -m attnbench` is `attnbench`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the working folder: a random.py there would take the place of Python's

from attnbench.cli import main

main()
