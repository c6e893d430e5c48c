"""Fill the tables of README.md and docs/ from the records under results/; `--check` only says whether they are true.

A table stands between `<!-- report FOLDER -->` and `<!-- end -->`, where FOLDER holds the records.
"""

import re
import sys
from pathlib import Path

from attnbench.comparison import compare
from attnbench.report.tables import tables
from attnbench.store import Store

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- report (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(text: str) -> str:
    """The text with every table made anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{tables(compare(Store(ROOT / block[2]).records()))}{block[3]}", text)


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
