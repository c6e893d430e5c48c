"""What docs/deployment.md shows of results/deployment/: what runs where, and how long it takes there."""

from typing import Any

from attnbench.catalogue.registry import ATTENTION
from attnbench.files import whole_lines
from attnbench.report import runtimes
from attnbench.report.markup import markdown_table
from studies import ROOT

FOLDER = ROOT / "results" / "deployment"
EXACT = 1e-5
HEADS = {"pt2": "torch.export", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
INT8 = ("onnxruntime", "openvino")
NOTHING = "Not measured yet.\n"


def parity() -> str:
    """Every mechanism in every runtime: the largest difference of its logits, and its accuracy in INT8."""
    rows = {row["attention"]: row for row in whole_lines(FOLDER / "parity.jsonl")}
    if not rows:
        return NOTHING
    everything = [entry.name for entry in ATTENTION if entry.builtin]
    found = [rows[name] for name in everything if name in rows]
    heads = ["attention", *HEADS.values(), "accuracy", *(f"INT8 in {HEADS[name]}" for name in INT8)]
    table = markdown_table(heads, map(_row, found))
    refused = [
        f"* {row['attention']}: {each['who']} refuses {each['operator'] or 'it'}: {each['reason']}"
        for row in found
        for each in row["refused"]
    ]
    return "\n".join([*_said(found, len(everything)), "", *table, *(["", *refused] if refused else [])]) + "\n"


def latencies(name: str) -> str:
    """The ratios to none of one network, and what none takes: results/deployment/NAME/runtimes.jsonl."""
    rows = runtimes.newest(FOLDER / name / runtimes.FILE)
    if not rows:
        return NOTHING
    plain = [row for row in rows if row["attention"] == "none"]
    return "\n".join([runtimes.ratios(rows), runtimes.quantiles(plain), runtimes.caption(rows), ""])


def _said(rows: list[dict[str, Any]], all_of_them: int) -> list[str]:
    """How many run where, and on what that was found."""
    trained, first = rows[0]["trained"], rows[0]
    said = [
        f"{HEADS[name]}: {len(these)} of {len(rows)}, largest difference {max(these):.1e}"
        for name in HEADS
        if (these := [row["differences"][name] for row in rows if row["differences"].get(name, 1) <= EXACT])
    ]
    share = 100 * trained["train_fraction"]
    missing = all_of_them - len(rows)
    versions = ", ".join(f"{name} {number}" for name, number in first["measured_with"].items() if name != "cpu")
    return [
        f"Within {EXACT:g} of the network itself: {'; '.join(said)}."
        + (f" {missing} of {all_of_them} mechanisms are not measured yet." if missing else ""),
        "",
        f"Each trained for {trained['epochs']} epochs on {share:.0f} % of {trained['dataset']} "
        f"in {trained['backbone']} at {trained['image_size']} px, then run on {first['images']} test images, of which "
        f"each is {100 / first['images']:.2f} points; {versions}.",
    ]


def _row(row: dict[str, Any]) -> list[str]:
    apart = [f"{row['differences'][name]:.1e}" if name in row["differences"] else "refused" for name in HEADS]
    drops = [f"{row['int8'][name] - row['accuracy']:+.2f}" if name in row["int8"] else "refused" for name in INT8]
    return [row["attention"], *apart, f"{row['accuracy']:.2f} %", *drops]
