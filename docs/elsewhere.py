"""What the docs show of results/elsewhere: verdicts on scores that the scripts of examples/ wrote."""

import json

import attnbench
from attnbench.report import markdown
from studies import ROOT

FOLDER = ROOT / "results" / "elsewhere"


def elsewhere(name: str) -> str:
    """What `attnbench verdict results/elsewhere/NAME.csv --pairing paired` prints, without its title, and the table."""
    table = FOLDER / f"{name}.csv"
    found = markdown(attnbench.verdict(table, pairing="paired"))
    trained = json.loads((FOLDER / "trained.json").read_text())
    packages = ", ".join(f"{package} {version}" for package, version in trained["packages"].items())
    lines = [f"Trained on {trained['date']}: {trained['cpu']}, one thread, {packages}.", "", "```"]
    return "\n".join([*lines, *table.read_text().splitlines(), "```", "", *found.splitlines()[2:], ""])
