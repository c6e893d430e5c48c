"""The comparison as a LaTeX table (booktabs), and the mechanisms' papers as BibTeX."""

import re
from typing import Any

from attnbench.analysis.cells import Arm
from attnbench.analysis.comparison import Comparison
from attnbench.catalogue.refs import parse
from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import BadReference
from attnbench.report.across import Section, sections
from attnbench.report.tables import caption, verdicts
from attnbench.report.text import arm_row, columns

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{character: f"\\{character}" for character in "$&#_%"},
}


def table(comparison: Comparison) -> str:
    """A `table*` with a block of rows for each cell, and the verdicts in sentences below it; needs booktabs."""
    heads = [tex(head) for head in columns(comparison)]
    lines = [
        r"% \usepackage[T1]{fontenc}\usepackage{booktabs,textcomp}",
        r"\begin{table*}",
        r"\centering\small",
        rf"\caption{{{tex(comparison.name)}. {tex(caption(comparison))}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 2)}l}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
    ]
    for cell in comparison.cells:
        lines += [r"\midrule", rf"\multicolumn{{{len(heads)}}}{{l}}{{{tex(f'{cell.name}: {cell.about}')}}} \\"]
        lines += [_line(_row(arm)) for arm in cell.arms]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""]
    lines += _items(verdicts(comparison))
    for section in sections(comparison):
        lines += _across(section, comparison.name)
    return "\n".join(lines)


def _across(section: Section, name: str) -> list[str]:
    """What several cells say together: a `table*`, and below it the sentences and what they cannot say."""
    rows = [
        [tex(text).replace("-", "$-$") if place else tex(text) for place, text in enumerate(row)]
        for row in section.rows
    ]
    return [
        r"\begin{table*}",
        r"\centering\small",
        rf"\caption{{{tex(name)}. {tex(section.title)}. {tex(section.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(section.heads) - 1)}}}",
        *[r"\toprule", " & ".join(map(tex, section.heads)) + r" \\", r"\midrule"],
        *map(_line, rows),
        *[r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""],
        *_items([*section.sentences, *(f"{limit}." for limit in section.limits)]),
    ]


def _line(row: list[str]) -> str:
    """A row of a table; one that began with a bracket or a star would be an option of the line break above it."""
    return f"{'{}' * row[0].startswith(('[', '*'))}{' & '.join(row)} \\\\"


def _items(texts: list[str]) -> list[str]:
    return [r"\begin{itemize}", *(rf"\item{{}} {tex(text)}" for text in texts), r"\end{itemize}", ""] if texts else []


def bibliography(comparison: Comparison) -> str:
    """The papers of the mechanisms in a comparison, controls left out, each once; of a composition its parts'."""
    cards: dict[str, dict[str, Any]] = {}
    for arm in (arm for cell in comparison.cells for arm in cell.arms if arm.records):
        cards |= _cards(arm)
    return "\n".join(bibtex(name, card) for name, card in sorted(cards.items()) if not card.get("control"))


def bibtex(name: str, card: dict[str, Any]) -> str:
    """A card's paper as a BibTeX entry called `name`; whatever a card says is text."""
    names = ("title", "authors", "venue", "year", "url")
    title, authors, venue, year, url = (str(card.get(each) or "") for each in names)
    kind, where = ("inproceedings", "booktitle") if venue else ("misc", "howpublished")
    fields = {
        "title": f"{{{tex(title)}}}",
        "author": tex(authors),
        where: tex(venue),
        "year": tex(year),
        "url": re.sub(r"[{}\\\s]", "", url),
    }
    inside = "".join(f"  {key} = {{{value}}},\n" for key, value in fields.items() if value and value != "{}")
    return f"@{kind}{{{re.sub(r'[^A-Za-z0-9_]+', '-', name)},\n{inside}}}\n"


def tex(text: str) -> str:
    """Text that LaTeX sets as it is: nothing in it is a command."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def _row(arm: Arm) -> list[str]:
    first, *numbers = [tex(text) for text in arm_row(arm)]
    return [first, *(number.replace("-", "$-$") for number in numbers)]


def _cards(arm: Arm) -> dict[str, dict[str, Any]]:
    """Name -> card of each mechanism of an arm, as it is now: a record's copy may be older than its authors' names."""
    record = arm.records[0]
    kept: dict[str, Any] = record.cards["attention"]
    found: dict[str, dict[str, Any]] = {}
    waiting = [parse(str(record.canonical["attention"]))]
    while waiting:
        asked = waiting.pop()
        waiting += asked.parts
        own = {} if asked.name != kept.get("name", asked.name) else kept
        if not asked.parts and (card := _card(asked.name, own)):
            found[asked.name] = card
    return found


def _card(name: str, kept: dict[str, Any]) -> dict[str, Any]:
    if ":" in name:
        return kept
    try:
        return {**kept, **vars(ATTENTION.find(name).card)}
    except BadReference:
        return kept
