"""The files of a report: what lies beside the page, what is not there, and that texts stay texts."""

import csv
import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import made
import numpy as np
import pytest
from byhand import (
    recalls,
)
from made import Shown, text

from attnbench import Store, Study, compare, verdict
from attnbench.catalogue.registry import ATTENTION
from attnbench.report import write
from attnbench.report.latex import bibtex, table
from attnbench.report.pictures import OURS

pytestmark = pytest.mark.filterwarnings("ignore:Precision loss")  # of regroupings whose values are all equal


# The files beside the page, and what is not there

EVIL = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "it's \"q\" & 'r'",
    r"\input{/etc/passwd}",
    "$x$ %y #z _u ^v ~w",
    "=cmd|'/c calc'!A1",
    "[here](javascript:alert(1))",
    "{{7*7}} {% raw %}",
    "a { b",
    "-- @me `id` $(id)",
]
MINE = """
from torch import nn
from attnbench import attention
from attnbench.mechanisms import Paper

TITLE = Paper(title={title!r}, authors={title!r}, venue={title!r}, year=2020, url={title!r})

@attention("mine", TITLE)
class Mine(nn.Module):
    def __init__(self, channels: int, note: str = "") -> None: ...
"""


REPORT = """
import sys
class Gone:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "torchvision", "mlflow"): raise ImportError(name)
sys.meta_path.insert(0, Gone())
from attnbench.cli import main
main(["report", "study.yaml", "--store", "runs", "--out", "out"])
"""


def written(folder: Path, evil: list[str]) -> Path:
    """The report of a small study, whose every free text is one of these, by a process that cannot import torch."""
    (folder / "mine.py").write_text(MINE.format(title=" ".join(evil)))
    options = [f"mine:Mine(note={' '.join(some)!r})" for some in (evil[::2], evil[1::2])]
    fields = {"base": {"dataset": "digits", "epochs": 3}, "grid": {"attention": [*made.ARMS[:6], *options]}, "seeds": 3}
    (folder / "study.yaml").write_text(json.dumps({"name": " ".join(evil), **fields}))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        study = Study.load(folder / "study.yaml")
        runs = study.runs()
        for record in made.fill(folder / "runs", study, names=(*evil, "no image")):
            if record.spec["attention"] == "se":
                made.gate(folder / "runs", record, "shuffled", -1 - record.spec["seed"])
        made.run(folder / "runs", runs[-1], 80.0, error=" ".join(evil))
    done = subprocess.run([sys.executable, "-c", REPORT], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("plain"), [f"word {place}" for place in range(len(EVIL))])


@pytest.fixture(scope="module")
def evil(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("evil"), EVIL)


def test_every_figure_has_a_caption_a_text_and_two_files(plain):
    root = made.tree((plain / "index.html").read_text())
    specs = made.specs_of(root)
    shown = list(root.iter("figure"))
    assert (
        sorted(specs)
        == sorted(figure.get("id") for figure in shown)
        == sorted({f.stem for f in (plain / "figures").iterdir()})
    )
    for figure in shown:
        caption, words, chart = text(figure.find("figcaption")), text(figure.find("details/p")), figure.find("div")
        assert re.search(r"varied.*; n = (2 to )?3 seeds an arm", caption)
        assert re.search(r"this test set|both estimands|on the (test|training) images", caption)
        assert words in chart.get("aria-label")
        assert re.search(r"\d", words)
        assert ElementTree.parse(plain / "figures" / f"{figure.get('id')}.svg").getroot().tag.endswith("}svg")
        assert (plain / "figures" / f"{figure.get('id')}.pdf").read_bytes()[:5] == b"%PDF-"
        assert OURS.fullmatch(f"{figure.get('id')}.svg"), "a later report would leave it"


def test_the_page_asks_nothing_of_any_other_machine(plain):
    root = made.tree((plain / "index.html").read_text())
    policy = {meta.get("http-equiv"): meta.get("content") for meta in root.iter("meta")}["Content-Security-Policy"]
    assert set(policy.split("; ")) == {
        "default-src 'none'", "style-src 'unsafe-inline'", "script-src 'unsafe-inline'", "img-src data:",
    }  # fmt: skip
    loading = {"src", "href", "srcset", "data", "action", "poster", "background", "ping", "xlink:href"}
    leading = [element for element in root.iter() if loading & set(element.attrib)]
    assert {element.tag for element in leading} == {"a"}, "only what a reader presses may lead away"
    links = {element.get("href") for element in leading}
    papers = {ATTENTION.find(name).card.url for name in ("se", "cbam")}
    assert papers == {link for link in links if link[0] != "#"}
    assert {link[1:] for link in links - papers} <= {element.get("id") for element in root.iter()}
    styles = " ".join(element.text for element in root.iter("style"))
    assert not re.search(r"url\(|@import|image-set", styles)
    assert {element.tag for element in root.iter()}.isdisjoint({"link", "iframe", "object", "embed", "base", "form"})


def test_a_study_of_4_data_sets_3_mechanisms_and_6_seeds_is_below_2_megabytes(tmp_path):
    """With a hundred classes only those furthest out are drawn; without controls there is nothing about them."""
    grid = {"dataset": ["digits", "fashionmnist", "cifar10", "cifar100"], "attention": ["none", "se", "cbam"]}
    study = made.study(grid=grid, where=[])
    made.fill(tmp_path / "runs", study, images=2_000, names=tuple(f"class {place}" for place in range(100)))
    html = made.rendered(study, tmp_path / "runs")
    assert len(html.encode()) < 2_000_000
    assert "What the controls say" not in html
    shown = Shown.of(html, "independent", 1.0, made.read(tmp_path / "runs"))
    cell = shown.cells[0]
    own = {name: np.mean([recalls(arm.labels, one) for one in arm.predicted], axis=0) for name, arm in cell.items()}
    furthest = np.argsort(-np.max([abs(own[name] - own["none"]) for name in ("se", "cbam")], axis=0))[:48]
    drawn = [int(row["class"][6:]) for row in shown.specs["01-classes"]["datasets"]["rows"] if row["arm"] == "se"]
    assert drawn == sorted(furthest)
    assert "Of 99 classes the 48 furthest out" in text(shown.root.find(".//figure[@id='01-classes']/figcaption"))


def test_figures_of_an_earlier_larger_report_vanish_and_other_files_stay(tmp_path):
    fields = {"base": {"dataset": "digits", "epochs": 3, "backbone": "resnet20"}, "where": []}
    studies = [
        made.study(**fields, grid={"attention": names}, seeds=2)
        for names in (["none", "se", "static", "constant"], ["none"])
    ]
    for study in studies:
        made.fill(tmp_path / "runs", study)
        paths = write(compare(study, Store(tmp_path / "runs")), tmp_path / "out")
        for name in ("notes.svg", "01-overview.pdf"):
            (tmp_path / "out" / "figures" / name).touch()
    there = {file.name for file in (tmp_path / "out" / "figures").iterdir()}
    assert {"notes.svg", "01-overview.pdf"} <= there
    there -= {"notes.svg", "01-overview.pdf"}
    assert there == {path.name for path in paths if path.parent.name == "figures"}
    assert there.isdisjoint({"01-differences.svg", "01-controls-1.pdf"})


def test_the_matrix_says_what_the_table_of_cells_says(plain):
    with (plain / "cells.csv").open(newline="") as lines:
        cells = {row["attention"]: row for row in csv.DictReader(lines) if row["verdict"]}
    matrix = made.tree((plain / "index.html").read_text()).find(".//table[@class='matrix']")
    rows = [[text(one) for one in row] for row in matrix.iter("tr") if row.find("td") is not None][1:]
    assert {name for name, *_ in rows} == set(cells)
    for name, kind, difference, ends, *_ in rows:
        row = cells[name]
        assert kind == row["verdict"]
        shown = [row["difference"], row["difference_low"], row["difference_high"]]
        assert re.findall(r"[-+][\d.]+", difference + ends) == [f"{float(number):+.2f}" for number in shown if number]
    controls = [name in made.ARMS[3:] for name, *_ in rows]
    assert controls == sorted(controls), "controls stand apart, below the mechanisms"


def test_runs_without_predictions_have_a_dash_for_new_images_and_no_rows_of_quality(store, tmp_path):
    study = made.study(grid={"dataset": ["digits"], "attention": ["none", "se"]})
    for record in made.fill(tmp_path / "runs", study):
        if record.spec["attention"] == "se":
            (tmp_path / "runs" / record.id / "predictions.npz").unlink()
    root = made.tree(made.rendered(study, tmp_path / "runs"))
    shown = Shown(root, {}, "", 0, [])
    none, se = [[text(one) for one in row] for row in root.find(".//section[@id='table']").find(".//tbody")]
    assert (none[10] != "-", se[10], se[4]) == (True, "-", "-")
    assert [row[0] for row in shown.table(1, "Calibration and classes")] == ["none"]
    assert shown.table(1, "Two arms")[0][5] == "-"
    assert root.find(".//section[@id='across']") is None


def test_one_seed_has_a_page_whose_figures_a_browser_can_read(tmp_path):
    study = made.study(seeds=1)
    made.fill(tmp_path / "runs", study)
    shown = Shown.of(made.rendered(study, tmp_path / "runs"), "independent", 1.0, [])
    assert {name[3:] for name in shown.specs} >= {"seeds", "time", "curves-loss", "calibration"}
    assert {cell for row in shown.table(1, "What the controls say") for cell in row[4:]} == {"-", "1"}


def test_a_study_with_a_look_after_every_run_has_figures_that_a_browser_can_read(tmp_path):
    """After so few pairs no interval for this test set has an end."""
    study = made.study(grid={"dataset": ["digits"], "attention": ["none", "se"]}, seeds=4, looks="any")
    made.fill(tmp_path / "runs", study)
    shown = Shown.of(made.rendered(study, tmp_path / "runs"), "independent", 1.0, [])
    assert {row["estimand"] for row in shown.specs["01-differences"]["datasets"]["rows"]} == {"new images"}
    assert "Left out: intervals" in text(shown.root.find(".//figure[@id='01-differences']/figcaption"))
    assert "[-inf, +inf]" in text(shown.root.find(".//section[@id='table']"))
    said = text(shown.root)
    assert "one-sided bets" in said
    assert "one-sided t tests" not in said


def test_several_data_sets_with_a_look_after_every_run_have_a_page_too(tmp_path):
    grid = {"dataset": ["digits", "CIFAR10"], "attention": ["none", "se"]}
    study = made.study(grid=grid, where=[], seeds=4, looks="any")
    made.fill(tmp_path / "runs", study)
    files = write(compare(study, Store(tmp_path / "runs")), tmp_path / "out")
    assert files[0].exists()


def test_a_loss_that_is_no_number_is_left_out_of_the_figures(tmp_path):
    study = made.study(grid={"dataset": ["digits"], "attention": ["none", "se"]}, seeds=2)
    for record in made.fill(tmp_path / "runs", study):
        record.curves[0]["train_loss"] = math.nan
        (tmp_path / "runs" / record.id / "record.json").write_text(record.to_json())
    specs = Shown.of(made.rendered(study, tmp_path / "runs"), "independent", 1.0, []).specs
    assert {row["epoch"] for row in specs["01-curves-loss"]["datasets"]["rows"]} == {2, 3}


def test_the_page_promises_of_its_verdicts_what_the_documentation_does(plain):
    """docs/statistics.md: of either kind of false claim, at least one in at most 5 % of studies."""
    said = text(made.tree((plain / "index.html").read_text()).find(".//section[@id='reading']"))
    assert said.count("at most 5 %") == 2
    assert "Undecided claims nothing" in said


# Hostile texts


def test_a_hostile_text_changes_no_element_of_the_page(plain, evil):
    shapes = []
    for folder in (plain, evil):
        root = made.tree((folder / "index.html").read_text())
        shapes.append([(element.tag, sorted(element.keys())) for element in root.iter()])
    assert shapes[0] == shapes[1]
    said = text(root)
    assert all(" ".join(name.split()) in said for name in EVIL)
    specs = made.specs_of(root)
    assert {row["class"] for row in specs["01-classes"]["datasets"]["rows"]} == set(EVIL)


def test_a_hostile_text_is_only_text_in_a_drawing(evil):
    harmless = {"svg", "g", "path", "rect", "line", "text", "defs", "clipPath", "title", "linearGradient", "stop"}
    for file in (evil / "figures").glob("*.svg"):
        for element in ElementTree.parse(file).iter():
            assert element.tag.partition("}")[2] in harmless, file
            assert not [name for name in element.attrib if name.startswith("on") or "href" in name], file
    said = "".join(ElementTree.parse(evil / "figures" / "01-classes.svg").getroot().itertext())
    assert all(name[:12] in said for name in EVIL)


PACKAGES = {"toprule": "booktabs", "midrule": "booktabs", "bottomrule": "booktabs", "textquotedbl": "[T1]{fontenc}"}
COMMANDS = {"begin", "end", "centering", "small", "caption", "multicolumn", "item", *PACKAGES}
COMMANDS |= {f"text{name}" for name in ("backslash", "asciitilde", "asciicircum", "less", "greater", "bar", "quotedbl")}
COMMANDS |= {"textbraceleft", "textbraceright", "textquotesingle", "textasciigrave"}


def inert(tex: str) -> str:
    """What is left of LaTeX without commands and escaped characters; no command but those that a table needs."""
    assert set(re.findall(r"\\([A-Za-z]+)", tex.replace(r"\\", ""))) <= COMMANDS
    left = re.sub(r"\\([A-Za-z]+|.)", "", tex.replace("$-$", "").replace("$n$", "").replace("$p$", ""))
    assert not set(left) & set('$#_%^~<>|"\\')
    depths = list(itertools.accumulate({"{": 1, "}": -1}.get(character, 0) for character in left))
    assert min(depths) >= 0 == depths[-1]
    return left


@pytest.mark.parametrize("names", ["plain", "evil"])
def test_the_latex_table_is_whole(request, names):
    body = (request.getfixturevalue(names) / "table.tex").read_text().partition("\n")[2]
    inert(body)
    opened = " ".join(re.findall(r"\\((?:begin|end)\{\w+\*?)\}", body)).replace("{", " ")
    assert opened == "begin table* begin tabular end tabular end table* begin itemize end itemize"
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    cells = {len(re.findall(r"(?<!\\)&", row.replace(r"\\", ""))) + 1 for row in rows if "multicolumn" not in row}
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", body)
    assert cells == {len(columns)}
    assert len(rows) == 1 + 1 + 8
    assert not [line for line in body.splitlines() if line.startswith("[")], "read as an argument of the line before"
    bracket = verdict({"arm": ["none", "[x]"] * 2, "seed": [0, 0, 1, 1], "score": [1, 2, 3, 4]}, margin=1)
    assert "\n{}[x] & " in table(bracket)


def test_the_latex_table_names_the_packages_of_its_commands(plain):
    first, body = (plain / "table.tex").read_text().split("\n", 1)
    used = {package for command, package in PACKAGES.items() if f"\\{command}" in body}
    assert {package for package in used if package not in first} == set()


def test_the_papers_of_mechanisms_are_there_with_authors_and_no_control(plain):
    entries = dict(re.findall(r"@\w+\{([\w-]+),\n((?:  .*\n)+)\}\n", (plain / "mechanisms.bib").read_text()))
    assert set(entries) == {"cbam", "se", "mine-Mine"}
    for name, author in (("se", "Jie Hu and Li Shen and Gang Sun"), ("cbam", "Sanghyun Woo and Jongchan Park and ")):
        assert f"  author = {{{author}" in entries[name]
        assert "  year = {2018},\n" in entries[name]


def test_a_hostile_title_is_only_text_in_the_bibliography(evil):
    """BibTeX counts every brace, also behind a backslash."""
    found = (evil / "mechanisms.bib").read_text()
    assert len(re.findall("^@", found, re.MULTILINE)) == 3
    inert(re.sub(r"^(@.*|  url = .*)$", "", found, flags=re.MULTILINE).replace("\n}\n", "\n"))
    depths = list(itertools.accumulate({"{": 1, "}": -1}.get(character, 0) for character in found))
    assert min(depths) >= 0 == depths[-1]


def test_a_card_of_whatever_types_is_an_entry_of_text():
    """Somebody's record may say anything."""
    found = bibtex("mine", {"title": 7, "authors": ["a"], "year": "2018}, note = {x", "url": 7})
    assert "  url = {7},\n" in found
    depths = list(itertools.accumulate({"{": 1, "}": -1}.get(character, 0) for character in found))
    assert (min(depths[5:-3]), depths[-1]) == (1, 0), "something ended the entry before its end"
    assert bibtex("mine", {}) == "@misc{mine,\n}\n"


def test_a_hostile_text_is_no_formula_in_a_spreadsheet(evil):
    for name in ("cells.csv", "runs.csv"):
        with (evil / name).open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert {row["attention"] for row in rows} >= {"none", "se"}
        texts = [value for row in rows for value in row.values() if not re.fullmatch(r"[-+]?[\d.]+(e-?\d+)?|", value)]
        assert not [value for value in texts if value[0] in "=+-@\t\r"]
    assert any("=cmd|'/c calc'!A1" in row["attention"] for row in rows)


def test_a_hostile_text_is_only_text_in_the_markdown(plain, evil):
    tables = [(folder / "table.md").read_text() for folder in (plain, evil)]
    assert len({len(table.splitlines()) for table in tables}) == 1
    said = tables[1].replace("| < 0.001 |", "").replace("p < 0.001", "")
    assert "<" not in said
    assert not re.search(r"(?<!\\)[\[\]]", re.sub(r"\[[-+\d., ]+\]", "", said))
    assert "{{7*7}}" in said
