"""What the site has besides the pages of docs/: README as its front page, and copies of files that pages link to.

A hook of MkDocs (`mkdocs.yml`). A page may link to any file of the repository; the site has it below `repository/`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
FRONT = "index.md"
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Pages that lie beside README."""
MARK = re.compile(r"^<!-- .*? -->$", re.MULTILINE)
"""Where docs/render.py writes; a table and a mark need an empty line between them."""
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Any, config: Any) -> Any:
    """Add the front page, and what pages link to outside docs/."""
    from mkdocs.structure.files import File

    outside = {ROOT / name for name in PAGES}
    for page in [ROOT / "README.md", *(DOCS / file.src_uri for file in files.documentation_pages())]:
        outside |= {target for target in _targets(page) if DOCS not in target.parents and target.is_file()}
    files.append(File.generated(config, FRONT, abs_src_path=str(ROOT / "README.md")))
    for target in sorted(outside - {ROOT / "README.md"}):
        files.append(File.generated(config, _place(target), abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page as the site has it: links lead to where their files lie there."""
    source = Path(page.file.abs_src_path)
    here = Path(page.file.src_uri).parent

    def moved(link: re.Match[str]) -> str:
        return Path(os.path.relpath(_place((source.parent / link[0]).resolve()), here)).as_posix()

    return LINK.sub(moved, MARK.sub("\n\n", markdown))


def _targets(page: Path) -> Iterator[Path]:
    return ((page.parent / link).resolve() for link in LINK.findall(page.read_text(encoding="utf-8")))


def _place(file: Path) -> str:
    """Where the site has a file of the repository."""
    if file == ROOT / "README.md":
        return FRONT
    if DOCS in file.parents:
        return file.relative_to(DOCS).as_posix()
    return f"repository/{file.relative_to(ROOT).as_posix()}"
