"""Fill verdicts and tables of README.md and docs/ from records under results/; `--check` only says whether they are true.

They stand between `<!-- report NAME -->` and `<!-- end -->`: the study studies/NAME.yaml, its records in results/NAME.
"""

import re
import sys
from pathlib import Path

from attnbench.comparison import compare
from attnbench.report.tables import body
from attnbench.store import Store
from attnbench.study import Study

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- report (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(text: str) -> str:
    """The text with everything between the marks made anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{_report(block[2])}{block[3]}", text)


def _report(name: str) -> str:
    study = Study.load(ROOT / "studies" / f"{name}.yaml")
    return body(compare(study, Store(ROOT / "results" / name)))


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
    print("\n".join(stale) or "every table is what its records say")
    sys.exit(1 if stale and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
