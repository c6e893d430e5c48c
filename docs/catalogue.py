"""What docs/mechanisms.md is made of: the cards, the totals in ResNets, and the witnesses that the tests call."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from attnbench import network
from attnbench.catalogue.refs import parse
from attnbench.catalogue.registry import ATTENTION, Entry
from attnbench.examine.conformance import PROMISES
from attnbench.report.charts import static
from attnbench.report.costs import chart, read, table
from attnbench.report.markup import markdown_table, markdown_words

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
KINDS = {
    "D": "Behind any convolution",
    "S": "At the end of a stage",
    "R": "In place of a 3x3 convolution",
}


def cards() -> str:
    """A table for each kind, by year: what each mechanism computes, and what it has."""
    parts = []
    for kind, title in KINDS.items():
        rows = []
        for entry in sorted((e for e in _mechanisms() if e.card.kind == kind), key=lambda e: (e.card.year, e.name)):
            card = entry.card
            paper = f"[{card.title}]({card.url}), {card.venue} {card.year}"
            rows.append([f"`{entry.name}`", paper, entry.summary, _formula(entry), _gate(entry)])
        heads = ["name", "paper", "what it computes", "parameters", "gate"]
        parts += [f"### {title} (kind {kind})\n", *markdown_words(heads, rows), ""]
    controls = [entry for entry in ATTENTION if entry.builtin and entry.card.control]
    rows = [[f"`{entry.name}`", entry.summary, _formula(entry)] for entry in controls]
    parts += ["### Controls\n", *markdown_words(["name", "what it computes", "parameters"], rows)]
    rows = []
    for entry in ATTENTION.compositions:
        offered = "; ".join(f"`{name}`: {', '.join(map(repr, some))}" for name, some in entry.choices.items())
        rows.append([f"`{entry.name}(eca, sa)`", entry.summary, offered])
    parts += ["", "### Compositions\n", *markdown_words(["name", "what it computes", "options"], rows)]
    return "\n".join([*parts, ""])


def notes() -> str:
    """For each mechanism what its card says beyond the table."""
    parts = []
    for entry in _mechanisms():
        card = entry.card
        said = {
            "Options": ", ".join(f"`{name}={value!r}`" for name, value in entry.defaults.items()),
            "Choices": "; ".join(f"`{name}`: {', '.join(map(repr, some))}" for name, some in entry.choices.items()),
            "Needs the map's size": "yes" if "size" in entry.arguments else "",
            "The paper's place": _place(entry),
            "Paper and released code": card.deviations,
            "Narrow layers and small maps": card.clamping,
            "Where places matter": card.positions,
            "Without a gradient": "; ".join(f"`{path}`: {why}" for path, why in card.inert.items()),
            "Without weight decay": ", ".join(f"`{path}`" for path in card.no_decay),
            "Determinism on CUDA": card.determinism,
        }
        lines = [f"* {head}: {text}" for head, text in said.items() if text]
        parts += [f"#### `{entry.name}`\n", *(lines or ["Nothing beyond the table."]), ""]
    return "\n".join(parts)


def totals() -> str:
    """Parameters of whole networks at 1,000 classes and 224 px, each mechanism at its own default place."""
    rows = []
    spelled = ["none", *(f"{entry.name}" for entry in _mechanisms()), 'se(variant="classic")']
    for name in spelled:
        counts = []
        for backbone in ("resnet18", "resnet50"):
            with torch.device("meta"):
                model = network(backbone, name, classes=1000)
            counts.append(f"{sum(p.numel() for p in model.parameters()):,}")
        rows.append([f"`{name}`", *counts])
    return "\n".join([*markdown_table(["attention", "ResNet-18", "ResNet-50"], rows), ""])


def witnesses() -> str:
    """What each mechanism's output is compared with, besides our own reference of the paper's equations."""
    rows = []
    published = list(_published())
    for entry in _mechanisms():
        reference = ast.parse((TESTS / "equations" / f"{entry.name}.py").read_text())
        found = [f"values of {source}" for source in _golden(entry.name)]
        for node in reference.body:
            if isinstance(node, ast.FunctionDef) and node.name == "witness":
                found.append(" ".join((ast.get_docstring(node) or "").split()))
        found += [f"total of {total}" for name, total in published if name == entry.name]
        about = (ast.get_docstring(reference) or "").split("\n\n")[0].replace("\n", " ")
        rows.append([f"`{entry.name}`", about, "; ".join(found) or "none"])
    return "\n".join([*markdown_words(["name", "our reference", "second witness"], rows), ""])


def promises() -> str:
    """What the conformance suite tries, as sentences."""
    return "\n".join([*(f"* {sentence}" for sentence in PROMISES), ""])


def profile(name: str) -> str:
    """The table of a profile that lies under results/profiles/."""
    return table(_profile(name))


def profile_figure(name: str) -> str:
    """Its training times, as SVG."""
    return static(chart(_profile(name)))[0]


def _profile(name: str) -> list[dict[str, str]]:
    return read(ROOT / "results" / "profiles" / name / "profile.csv")


@functools.cache
def _mechanisms() -> list[Entry]:
    return [entry for entry in ATTENTION if entry.builtin and not entry.card.control]


def _golden(name: str) -> list[str]:
    files = sorted((TESTS / "golden").glob(f"{name}.npz")) + sorted((TESTS / "golden").glob(f"{name}-*.npz"))
    return [f"{np.load(file)['source']} for `{np.load(file)['case']}`" for file in files]


def _published() -> Iterator[tuple[str, str]]:
    """The totals of papers and releases that the tests ask for, mechanism by mechanism."""
    lists = {"EXACT": "{:,} parameters", "ROUNDED": "{} million parameters"}
    for node in ast.parse((TESTS / "test_totals.py").read_text()).body:
        if isinstance(node, ast.Assign) and (name := ast.unparse(node.targets[0])) in lists:
            for backbone, attention, _, total in ast.literal_eval(node.value):
                yield parse(attention).name, f"{lists[name].format(total)} for {backbone} with `{attention}`"


def _formula(entry: Entry) -> str:
    where = "; ".join(f"{name} = {text}" for name, text in entry.card.where.items())
    return (f"`{entry.card.parameters}`" + (f" with `{where}`" if where else "")) if entry.card.parameters else ""


def _gate(entry: Entry) -> str:
    return f"{entry.card.gate[0]:g} to {entry.card.gate[1]:g}" if entry.card.gate else ""


def _place(entry: Entry) -> str:
    card = entry.card
    said = [f"`site={card.paper_site or card.site}`"]
    said += [f"stages {', '.join(map(str, card.paper_stages))} (from the end)"] if card.paper_stages else []
    said += [f"every {card.paper_every}th place"] if card.paper_every > 1 else []
    own = not card.paper_site and not card.paper_stages and card.paper_every == 1
    return "" if own else ", ".join(said)
