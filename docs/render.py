"""Fill verdicts and tables of README.md and docs/ from the records under results/; `--check` only compares.

They stand between `<!-- report NAME -->` and `<!-- end -->`: the study studies/NAME.yaml, its records in results/NAME.
"""

import re
import sys
from pathlib import Path

from attnbench.comparison import Comparison, compare
from attnbench.report import html
from attnbench.report.tables import body
from attnbench.store import Store
from attnbench.study import Study

ROOT = Path(__file__).parent.parent
PAGES = ("controls",)
"""Studies whose whole page lies under docs/reports/."""
BLOCK = re.compile(r"(<!-- report (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(text: str) -> str:
    """The text with everything between the marks made anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{_report(block[2])}{block[3]}", text)


def _report(name: str) -> str:
    return body(_comparison(name))


def _comparison(name: str) -> Comparison:
    return compare(Study.load(ROOT / "studies" / f"{name}.yaml"), Store(ROOT / "results" / name))


def main() -> None:
    """Render, or check."""
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        before = page.read_text()
        after = rendered(before)
        if before != after:
            stale.append(str(page.relative_to(ROOT)))
            if "--check" not in sys.argv:
                page.write_text(after)
    if "--check" not in sys.argv:
        for name in PAGES:
            (ROOT / "docs" / "reports" / f"{name}.html").write_text(html(_comparison(name)))
    print("\n".join(stale) or "every table is what its records say")
    sys.exit(1 if stale and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
