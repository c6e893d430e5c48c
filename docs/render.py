"""Fill verdicts and tables of README.md and docs/ from records, cards and tests; `--check` only compares.

They stand between a mark and `<!-- end -->`: `<!-- report NAME -->` is the study studies/NAME.yaml with its records in
results/NAME, `<!-- table NAME -->` the same without its verdicts, `<!-- choice NAME -->` what a choice
answers; the other marks are functions of catalogue.py, fields.py, performance.py, reliability.py and deploying.py.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import catalogue
import claims
import deploying
import elsewhere
import fields
import findings
import performance
import reference
import reliability
import rooms
import simulations

import studies
from attnbench.report import html
from attnbench.report.choosing import figures, markdown, page
from studies import ROOT, comparison

PAGES = ("controls",)
"""Studies whose whole page lies under docs/reports/."""
PROFILES = ("resnet20",)
"""Profiles whose figure lies beside them."""
DIFFERENCES = ("asked-eurosat",)
"""Studies whose verdicts lie there as a picture."""
CURVES = ("fast-cifar10", "fast-eurosat", "fast-flowers102", "recipes")
"""Studies whose learning curves lie there."""
PARTS = {
    "report": studies,
    "table": studies,
    "choice": studies,
    **dict.fromkeys(("reference", "regimes", "spent"), reference),
    **dict.fromkeys(("cards", "notes", "promises", "totals", "witnesses", "profile"), catalogue),
    **dict.fromkeys(("speed", "where", "gpu", "growth", "listing", "search", "target", "verdict"), performance),
    **dict.fromkeys(("recipes", "fields", "runtime", "keys"), fields),
    "tree": rooms,
    **dict.fromkeys(("faults", "fuzz"), reliability),
    "claims": claims,
    **dict.fromkeys(("parity", "latencies"), deploying),
    "elsewhere": elsewhere,
}
"""What stands between marks -> the module whose function of that name makes it."""
BLOCK = re.compile(rf"(<!-- ({'|'.join(PARTS)})(?: (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(text: str) -> str:
    """The text with everything between the marks made anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{_made(block[2], block[3])}{block[4]}", text)


def _made(what: str, name: str | None) -> str:
    found: str = getattr(PARTS[what], what)(*([name] if name else []))
    return found


def drawn() -> Iterator[tuple[Path, str]]:
    """Whole pages and pictures, which `--check` does not compare."""
    folder = ROOT / "docs" / "reports"
    for name in PAGES:
        yield folder / f"{name}.html", html(comparison(name))
    for name in studies.CHOICES:
        choice = studies.chosen(name)
        yield ROOT / "results" / name / "index.html", page(choice, figures(choice))
        yield ROOT / "results" / name / "choice.md", markdown(choice)
    for name in DIFFERENCES:
        yield folder / f"differences-{name}.svg", studies.differences(name)
    for name in PROFILES:
        yield folder / f"profile-{name}.svg", catalogue.profile_figure(name)
    for pictures in (*map(performance.curves, CURVES), simulations.pictures()):
        yield from ((folder / file, svg) for file, svg in pictures.items())


def main() -> None:
    """Render, or check."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    made = {findings.TARGET: findings.text(), **{page: rendered(page.read_text()) for page in pages}}
    stale = []
    for target, after in made.items():
        if not target.exists() or target.read_text() != after:
            stale.append(str(target.relative_to(ROOT)))
            if "--check" not in sys.argv:
                target.write_text(after)
    if "--check" not in sys.argv:
        for target, after in drawn():
            target.write_text(after)
    print("\n".join(stale) or "every table is what its records say")
    sys.exit(1 if stale and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
