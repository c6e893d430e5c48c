"""Scores of runs that were made elsewhere: a table as somebody keeps it, read and checked, a row for each run."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from attnbench.catalogue.refs import nearest
from attnbench.console import joined
from attnbench.errors import BadScores

REQUIRED = ("arm", "seed", "score")
OPTIONAL = ("cell", "unit", "higher_is_better")
FAILED = ("", "nan", "na", "n/a", "<na>", "nat", "none", "null", "inf", "-inf", "failed", "diverged")
"""What stands in the place of a score where a run failed or diverged, whatever the case of its letters."""
TRUTHS = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}
MOST_TOLD = 5
"""So many mistakes of a kind are named; of the others it is said how many they are."""


class Score(NamedTuple):
    """What one run scored."""

    arm: str
    seed: int
    value: float
    """nan where the run failed."""
    cell: str
    unit: str | None
    """None where nothing is said of it."""
    higher_is_better: bool | None
    """None where nothing is said of it."""
    place: str
    """Where it stands, as it is said in a message."""


@dataclass(frozen=True)
class Table:
    """Columns as somebody keeps them, before anything in them is checked."""

    name: str
    columns: Mapping[str, Sequence[object]]
    places: Sequence[str]
    """Where each row stands: `row 7`."""
    metric: str = "score"
    """What the scores are called."""
    notes: tuple[str, ...] = field(default=())
    """What must be said of how they were found."""

    @property
    def unread(self) -> list[str]:
        """Its columns of which nothing is taken."""
        return [str(name) for name in self.columns if _key(name) not in (*REQUIRED, *OPTIONAL)]

    def scores(self) -> list[Score]:
        """Every row as a score.

        Raises:
            BadScores: columns are missing, or rows cannot be: every mistake at once, one line for each.
        """
        columns, mistakes = self._named(), _Mistakes(self.name)
        rows = []
        texts = [[_text(value) for value in columns[name]] if name in columns else None for name in OPTIONAL]
        cells, units, directions = texts
        found = zip(columns["arm"], columns["seed"], columns["score"], self.places, strict=True)
        for number, (arm, seed, score, place) in enumerate(found):
            rows.append(
                Score(
                    mistakes.of_arm(_text(arm), place),
                    mistakes.of_seed(seed, place),
                    mistakes.of_value(score, place),
                    cells[number] if cells else "",
                    units[number] or None if units else None,
                    mistakes.of_direction(directions[number], place) if directions else None,
                    place,
                )
            )
        if not rows:
            raise BadScores([f"{self.name} holds no scores, only the names of its columns"])
        mistakes.tell()
        mistakes.of_repeats(rows, self.unread)
        mistakes.tell()
        return rows

    def _named(self) -> dict[str, Sequence[object]]:
        """The columns that are read, by their names here: blanks around a name and its capitals do not count."""
        if not self.columns:
            raise BadScores([f"{self.name} is empty; it needs the columns {', '.join(REQUIRED)}"])
        found = {_key(name): values for name, values in self.columns.items()}
        there, mistakes = ", ".join(map(str, self.columns)), []
        for name in (*REQUIRED, *OPTIONAL):
            spelt = [repr(str(column)) for column in self.columns if _key(column) == name]
            if len(spelt) > 1:
                mistakes.append(f"{self.name}: {joined(spelt)} are each read as {name}; keep one of them")
        for name in REQUIRED:
            if name not in found:
                others = [str(column) for column in self.columns if _key(column) not in REQUIRED]
                mistakes.append(f"{self.name}: no column {name!r}{nearest(name, others)} (columns: {there})")
        absent = [name for name in OPTIONAL if name not in found]
        for name in set(found) - {*REQUIRED, *OPTIONAL}:
            if get_close_matches(name, absent, cutoff=0.75):
                mistakes.append(f"{self.name}: no column is called {name!r}{nearest(name, absent)}")
        if mistakes:
            raise BadScores(mistakes)
        return found


def read(source: Any) -> Table:
    """The table of a CSV file, a frame (pandas, polars), a mapping of columns or a sequence of mappings.

    Raises:
        BadScores: it cannot be read.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, (str, Path)):
        return _csv(Path(source))
    if not isinstance(source, Mapping) and not hasattr(source, "columns"):
        return _listed(source)
    names = list(source if isinstance(source, Mapping) else source.columns)
    columns = {str(name): list(source[name]) for name in names}
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise BadScores([f"scores: the columns have different lengths: {sizes}"])
    labels = list(getattr(source, "index", [])) or range(max(sizes.values(), default=0))
    return Table("scores", columns, [f"row {label}" for label in labels])


def _listed(source: Any) -> Table:
    """Mappings, one for each run."""
    rows = list(source)
    if not all(isinstance(row, Mapping) for row in rows):
        raise BadScores(["scores: give the path of a CSV file, a frame, or a list of dicts with arm, seed and score"])
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {str(name): [row.get(name) for row in rows] for name in names}
    return Table("scores", columns, [f"row {number}" for number in range(len(rows))])


def _csv(file: Path) -> Table:
    """A file with a line of names, and commas, semicolons or tabs between its columns; blank lines are passed over."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            separator = max(",;\t", key=next(filter(str.strip, lines), "").count)
            lines.seek(0)
            numbered = enumerate(csv.reader(lines, delimiter=separator), start=1)  # as a spreadsheet counts rows
            (_, names), *rows = [(n, row) for n, row in numbered if any(map(str.strip, row))] or [(1, [])]
    except FileNotFoundError:
        raise BadScores([f"{file}: no such file"]) from None
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        why = getattr(problem, "strerror", None) or problem
        raise BadScores([f"{file} cannot be read as a CSV file in UTF-8: {why}"]) from None
    names = [name.strip() for name in names]
    if len(set(names)) < len(names):
        raise BadScores([f"{file.name}: two columns have one name ({', '.join(names)})"])
    uneven = [
        f"{file.name}, row {n}: {len(row)} values for {len(names)} columns" for n, row in rows if len(row) != len(names)
    ]
    if uneven:
        raise BadScores(_first(uneven))
    values = {name: [row[place] for _, row in rows] for place, name in enumerate(names)}
    return Table(file.name, values, [f"row {number}" for number, _ in rows])


def _key(column: object) -> str:
    """The name of a column without what does not count in it."""
    return str(column).strip().lower()


def _text(value: object) -> str:
    if value is None or str(value) == "<NA>":  # of which pandas does not say whether it is itself
        return ""
    return "" if value != value else str(value).strip()


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST_TOLD
    return [*lines[:MOST_TOLD], *([f"... and {more} more like that"] if more > 0 else [])]


class _Mistakes:
    """What is wrong with rows, kept by kind until all is read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kinds: dict[str, list[str]] = {}

    def note(self, kind: str, place: str, what: str) -> None:
        self.kinds.setdefault(kind, []).append(f"{self.name}, {place}: {what}")

    def tell(self) -> None:
        if self.kinds:
            raise BadScores([line for lines in self.kinds.values() for line in _first(lines)])

    def of_arm(self, arm: str, place: str) -> str:
        if not arm:
            self.note("arm", place, "no arm")
        return arm

    def of_seed(self, seed: object, place: str) -> int:
        text = _text(seed)
        if re.fullmatch(r"[+-]?\d{1,15}(\.0*)?", text):
            return int(float(text)) if "." in text else int(text)
        many = " of at most 15 digits" if re.fullmatch(r"[+-]?\d{16,}(\.0*)?", text) else ""
        self.note("seed", place, f"seed {text[:30]!r} is not a whole number{many}" if text else "no seed")
        return 0

    def of_value(self, score: object, place: str) -> float:
        text = _text(score)
        try:
            value = float(text)
        except ValueError:
            if text.lower() not in FAILED:
                self.note("score", place, f"score {text!r} is not a number{_hint(text)}")
            return math.nan
        return value if math.isfinite(value) else math.nan

    def of_direction(self, text: str, place: str) -> bool | None:
        if text and text.lower() not in TRUTHS:
            self.note("direction", place, f"higher_is_better {text!r} is neither true nor false")
        return TRUTHS.get(text.lower())

    def of_repeats(self, rows: Sequence[Score], unread: Sequence[str]) -> None:
        hint = f" (a column cell tells data sets apart; not read: {', '.join(unread)})" if unread else ""
        first: dict[tuple[str, str, int], Score] = {}
        for row in rows:
            before = first.setdefault((row.cell, row.arm, row.seed), row)
            if before is not row:
                where = f" of {row.cell}" if row.cell else ""
                self.note("repeat", row.place, f"{row.arm} seed {row.seed}{where} is in {before.place} already{hint}")


def _hint(text: str) -> str:
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        return f"; write {text.replace(',', '.')}"
    if text.endswith("%"):
        return f"; write {text[:-1].strip()}, and % in a column unit"
    return ""
