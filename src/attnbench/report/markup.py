"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(heads: Iterable[str], rows: Iterable[Iterable[object]], align: str = "") -> list[str]:
    """A table, a line each.

    Args:
        heads: What stands over the columns.
        rows: The cells of each row, already safe to stand in Markdown.
        align: `l` or `r` for each column: words left, numbers right. Default: the first left, the others right.
    """
    heads = list(heads)
    rulers = {"l": ":--", "r": "--:"}
    ruler = "|".join(rulers[side] for side in align or "l" + "r" * (len(heads) - 1))
    return [_row(heads), f"|{ruler}|", *map(_row, rows)]


def _row(cells: Iterable[object]) -> str:
    return "|" + "|".join(f" {cell} " if cell != "" else " " for cell in cells) + "|"


def markdown_words(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table of words, all of them left; a bar in a cell stays a bar."""
    return markdown_table(heads, ([cell.replace("|", r"\|") for cell in cells] for cells in rows), "l" * len(heads))
