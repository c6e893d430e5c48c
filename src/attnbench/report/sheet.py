"""A sheet: one question's answer as sentences, a table and a figure, on the console and as files."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from attnbench.console import inert
from attnbench.errors import writing
from attnbench.report.markup import markdown_table

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}th,td{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:right}"
    "th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}figure{margin:1rem 0}"
)


@dataclass(frozen=True)
class Sheet:
    """A question's answer."""

    title: str
    sentences: Sequence[str]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    """The table as it is read."""
    caption: str
    """What the numbers of table and figure are."""
    data: Sequence[dict[str, Any]]
    """The table as numbers, for CSV."""
    chart: dict[str, Any]
    """A Vega-Lite specification."""

    def markdown(self) -> str:
        """Sentences, table and caption."""
        said = [f"* {each}" for each in self.sentences]
        cells = ([cell.replace("|", r"\|") for cell in row] for row in self.rows)
        return "\n".join([f"# {self.title}", "", *said, "", *markdown_table(self.heads, cells), "", self.caption])

    def html(self, svg: str) -> str:
        """One page that needs nothing else; `svg` is its figure."""
        said = "".join(f"<li>{escape(each)}</li>" for each in self.sentences)
        head = "".join(f"<th>{escape(each)}</th>" for each in self.heads)
        body = "".join(f"<tr>{''.join(f'<td>{escape(each)}</td>' for each in row)}</tr>" for row in self.rows)
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
            f"<style>{STYLE}</style></head><body><h1>{escape(self.title)}</h1><ul>{said}</ul><figure>{svg}</figure>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>{escape(self.caption)}</p></body></html>\n"
        )

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write `name` as HTML, Markdown, CSV, and its figure as SVG and PDF; returns their paths.

        Raises:
            StoreProblem: the folder cannot be written.
        """
        from attnbench.report.charts import static

        svg, pdf = static(self.chart)
        texts = {"html": self.html(svg), "md": f"{self.markdown()}\n", "csv": self._csv(), "svg": svg}
        files = {folder / f"{name}.{ending}": text.encode() for ending, text in texts.items()}
        files[folder / f"{name}.pdf"] = pdf
        with writing(f"{folder}/"):
            folder.mkdir(parents=True, exist_ok=True)
            for file, content in files.items():
                file.write_bytes(content)
        return [*files]

    def _csv(self) -> str:
        out = io.StringIO()
        writer = csv.DictWriter(out, dict.fromkeys(key for row in self.data for key in row), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: inert(value) for name, value in row.items()} for row in self.data)
        return out.getvalue()
