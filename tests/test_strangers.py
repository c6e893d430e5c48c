"""Records, checkpoints and bundles that somebody else made are opened by every verb, and nothing that they name runs.

One process opens them all, with a hook that Python tells of every import, program and unpickling.
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
from bundles import SMALL
from conftest import ROOT

from attnbench import Store
from attnbench.cli import main
from attnbench.cli.reading import predict
from attnbench.errors import StoreProblem
from attnbench.spec.run import name_of
from attnbench.store.studies import StudyJournal
from attnbench.store.view import View

Outcome = subprocess.CompletedProcess[str]
NAMES = {"attention": "evil.module:Gate", "backbone": "evil.module:net", "dataset": "evil.module:images"}
"""What hostile records name in place of `se`, `resnet20` and `digits`."""
LURE = "from pathlib import Path\nPath({home!r}, 'sprung').write_text(__name__)\n"
TEXTS = ["<script>alert(1)</script>", "=HYPERLINK(1)", "\x1b[2Jclear", "../../up", "a|b`c"]
"""Names of classes that strangers chose."""
CHILD = """
import contextlib, io, json, sys, traceback
from pathlib import Path
import torch  # which looks for libraries of the system when it is first imported
from watching import watched
from attnbench.cli import main
told = {}
for name, words in json.loads(Path("verbs.json").read_text()).items():
    out, err, code = io.StringIO(), io.StringIO(), None
    before = set(sys.modules)
    with watched(Path.cwd(), Path("/tmp")) as seen, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
            code = 0
        except SystemExit as stopped:
            code = stopped.code or 0
        except BaseException:
            code = traceback.format_exc()
    evil = [name for name in set(sys.modules) - before if name.startswith("evil")]
    told[name] = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "seen": seen, "evil": evil}
Path("told.json").write_text(json.dumps(told))
"""
READING = ("report", "list", "merge", "prune", "submit", "verify", "leaderboard", "compare", "report-study")
REBUILDING = ("evaluate", "fold", "predict", "reproduce", "same", "retrain")


def hostile(store: Path, field: str, keep_ids: bool) -> list[str]:
    """Let the runs of SE in a store name code of their maker's, and class names of theirs; returns their ids."""
    swapped = []
    for record in Store(store).records():
        if record.spec["attention"] != "se":
            continue
        spec, form = ({**values, field: NAMES[field]} for values in (record.spec, record.canonical))
        found = dataclasses.replace(
            record,
            id=record.id if keep_ids else name_of(json.loads(json.dumps(form))),
            spec=spec,
            canonical=form,
            input={**record.input, "names": [*TEXTS, *"56789"]},
            numerics={**record.numerics, "compile": False},
        )
        folder = store / record.id
        (folder / "record.json").write_text(found.to_json())
        (folder / "weights.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
        (folder / "checkpoint-00001-0000000.pt").write_bytes(b"cos\nsystem\n(S'touch sprung'\ntR.")
        folder.rename(store / found.id)
        swapped.append(found.id)
    return swapped


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What every verb did with every hostile store, by `verb field`."""
    home = tmp_path_factory.mktemp("strangers")
    before = Path.cwd()
    os.chdir(home)
    try:
        for module in ("evil/__init__.py", "evil/module.py"):
            Path(module).parent.mkdir(exist_ok=True)
            Path(module).write_text(LURE.format(home=str(home)))
        Path("verbs.json").write_text(json.dumps(verbs(home)))
        path = os.pathsep.join([str(home), str(ROOT / "benchmarks"), str(ROOT / "src")])
        done = subprocess.run(
            [sys.executable, "-c", CHILD], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, dict[str, Any]] = json.loads(Path("told.json").read_text())
        found["all"] = {"sprung": Path("sprung").exists()}
    finally:
        os.chdir(before)
    return found


def verbs(home: Path) -> dict[str, list[str]]:
    """The words of each verb, for each kind of thing that hostile records name."""
    from PIL import Image

    Image.new("RGB", (8, 8)).save("image.png")
    asked: dict[str, list[str]] = {}
    for field in NAMES:
        plan, store, swapped = made.study(f"study-{field}", **SMALL), Path(f"runs-{field}"), Path(f"swapped-{field}")
        made.fill(store, plan, images=60)
        made.fill(swapped, plan, images=60)
        study = str(plan.save(Path(f"{plan.slug}.yaml")))
        hostile(swapped, field, keep_ids=True)
        StudyJournal(Store(store), plan.slug).keep_plan(plan)
        (run, *_) = hostile(store, field, keep_ids=False)
        Path("bundles").mkdir(exist_ok=True)
        out, own = str(home / f"report-{field}"), str(store)
        asked |= {
            f"report {field}": ["report", own, "--out", out],
            f"list {field}": ["store", "list", "--store", own],
            f"merge {field}": ["store", "merge", own, "--store", f"merged-{field}"],
            f"prune {field}": ["store", "prune", "--dry-run", "--store", own],
            f"submit {field}": ["submit", own, "--out", f"bundles/{field}.zip"],
            f"verify {field}": ["verify", f"bundles/{field}.zip"],
            f"leaderboard {field}": ["leaderboard", "bundles", "--out", out],
            f"compare {field}": ["compare", "se", "none", "--study", study, "--store", str(swapped)],
            f"report-study {field}": ["report", study, "--store", str(swapped), "--out", out],
            f"evaluate {field}": ["evaluate", run, "--gate", "mean", "--store", own],
            f"fold {field}": ["fold", run, "--output", f"folded-{field}.safetensors", "--store", own],
            f"predict {field}": ["predict", run, "image.png", "--store", own],
            f"reproduce {field}": ["reproduce", run, "--store", own],
            f"same {field}": ["same", run, "se", "--store", own],
            f"retrain {field}": ["verify", f"bundles/{field}.zip", "--retrain", run],
        }
    return asked


EVERY = pytest.mark.parametrize("field", NAMES)


def test_nothing_that_a_record_names_is_imported(told):
    assert told["all"] == {"sprung": False}
    assert {name: each["evil"] for name, each in told.items() if each.get("evil")} == {}


@EVERY
@pytest.mark.parametrize("verb", READING)
def test_verbs_that_read_do_nothing_else(told, verb, field):
    """They may refuse, in one line for each reason; nothing is written elsewhere, unpickled or begun."""
    found = told[f"{verb} {field}"]
    assert found["code"] in (0, 1, 2), found["code"]
    assert found["seen"] == []
    assert "Traceback" not in found["err"]
    assert "\x1b" not in found["out"] + found["err"]


@EVERY
@pytest.mark.parametrize("verb", REBUILDING)
def test_verbs_that_need_the_code_refuse_it_and_say_how_to_allow_it(told, verb, field):
    found = told[f"{verb} {field}"]
    assert found["code"] == 2, found
    assert f"--code {NAMES[field]}" in found["err"]
    assert found["seen"] == []


@EVERY
def test_class_names_of_strangers_are_text_on_the_page_and_in_the_tables(told, field, tmp_path_factory):
    (home,) = {path for path in tmp_path_factory.getbasetemp().glob("strangers*") if not path.is_symlink()}
    page = (home / f"report-{field}" / "index.html").read_text()
    assert "<script>alert" not in page
    for file in (home / f"report-{field}").glob("*.csv"):
        assert not [cell for line in file.read_text().splitlines() for cell in line.split(",") if cell[:1] == "="], file


@pytest.mark.parametrize("field", ["dataset", "backbone", "attention"])
def test_what_strangers_wrote_of_a_run_is_only_text_in_a_list(field, capsys):
    study = made.study(**SMALL)
    record = made.run(Path("runs"), study.runs()[0], 80.0, images=20, error="\x1b[2Jclear")
    changed = dataclasses.replace(record, spec={**record.spec, field: "\x1b]0;title\x07"})
    (Path("runs") / record.id / "record.json").write_text(changed.to_json())
    for words in (["store", "list", "--store", "runs"], ["predict", record.id, "image.png", "--store", "runs"]):
        with pytest.raises(SystemExit):
            main(words)
    out, err = capsys.readouterr()
    assert "?[2Jclear" in out
    assert "?[2Jclear" in err
    assert not {"\x1b", "\x07"} & {*out, *err}


def test_class_names_of_strangers_are_only_text_where_an_image_is_classified(monkeypatch, capsys):
    import torch

    from attnbench.training import predictor

    monkeypatch.setattr(predictor, "predict_files", lambda *_: (("\x1b[2J", "b"), torch.zeros(1, 2)))
    assert predict("run", (Path("image.png"),)) == 0
    assert "?[2J 50.00 %" in capsys.readouterr().out


# What the user says on the command line

GATE = """
from pathlib import Path
from torch import nn

Path("imported").touch()

class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
    def forward(self, x):
        return x
"""


@pytest.mark.slow
def test_own_code_of_a_run_is_imported_where_the_command_line_names_it(attnbench: Callable[..., Outcome], data_dir):
    from PIL import Image
    from test_tracking import flags

    Path("mine.py").write_text(GATE)
    Image.new("L", (8, 8)).save("image.png")
    done = attnbench("run", *flags(attention="mine:Gate", epochs=1), "--data-dir", data_dir, "--tracker", "none")
    assert done.returncode == 0, done.stderr
    (record,) = Store("runs").records()
    Path("imported").unlink()
    refused = attnbench("predict", record.id, "image.png")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "if you know that code, add --code mine:Gate" in refused.stderr
    other = attnbench("predict", record.id, "image.png", "--code", "mine:Other")
    assert other.returncode == 2
    assert not Path("imported").exists()
    for words in (["predict", record.id, "image.png"], ["reproduce", record.id, "--data-dir", data_dir]):
        allowed = attnbench(*words, "--code", "mine:Gate")
        assert allowed.returncode == 0, allowed.stderr


# What sync sends


@pytest.mark.slow
def test_sync_of_a_strangers_store_sends_its_runs_and_nothing_else(attnbench: Callable[..., Outcome], monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    Path("evil").mkdir()
    for module in ("evil/__init__.py", "evil/module.py"):
        Path(module).write_text(LURE.format(home=str(Path.cwd())))
    Path("secret.txt").write_text("secret")
    made.fill(Path("runs"), made.study(**SMALL), images=20)
    for run in hostile(Path("runs"), "attention", keep_ids=False):
        store = Store("runs")
        store.log(run, "epoch", epoch=1, train_loss=0.5)
        store.log(run, "done")
        store.write(run, View.FILE, View("theirs", {"a": "=1+1"}, artifacts=["secret.txt", "/etc/passwd"]).to_json())
    done = attnbench("sync")
    assert (done.returncode, done.stdout) == (0, "3 runs are in MLflow\n"), done.stderr
    sent = {file.name for file in Path("mlruns").rglob("*") if file.is_file()}
    assert sent == {"weights.safetensors"}
    assert not Path("sprung").exists()


def test_sync_sends_no_file_that_a_strangers_view_names():
    """A view in a store may name any file of this machine."""
    store, run = Store("runs"), "run"
    folder = store.folder(run)
    folder.mkdir(parents=True)
    Path("secret.txt").write_text("secret")
    Path("saved_models").mkdir()
    Path("saved_models/mine_model.pth").write_text("weights")
    (folder / "weights.safetensors").write_text("weights")
    (folder / "link.txt").symlink_to(Path("secret.txt").resolve())
    names = ["secret.txt", "/etc/passwd", "~/.ssh/id_rsa", str(folder / "link.txt"), f"{folder}/../../secret.txt"]
    view = View("experiment", {}, artifacts=[*names, "saved_models/mine_model.pth"])
    (folder / View.FILE).write_text(view.to_json())
    found = [file.name for file in View.read(folder).files(folder)]
    assert found == ["mine_model.pth", "weights.safetensors"]


def test_a_link_out_of_a_store_is_not_merged():
    from attnbench.store.upkeep import merge

    made.fill(Path("theirs"), made.study(**SMALL), images=20)
    (run, *_) = Store("theirs").records()
    Path("secret.txt").write_text("secret")
    (Path("theirs") / run.id / "notes.txt").symlink_to(Path("secret.txt").resolve())
    with pytest.raises(StoreProblem, match="is a link that leads out of theirs/"):
        merge(Store("mine"), [Store("theirs")])
    assert not list(Path("mine").rglob("notes.txt"))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("classes", 10**12),
        ("classes", -1),
        ("classes", "ten"),
        ("image_size", 10**9),
        ("channels", 0),
        ("normalise", 5),
        ("normalise", [[0.5, 0.5, 0.5]]),
        ("normalise", [[0.5], [0.5]]),
        ("names", ["a"]),
    ],
)
def test_a_network_that_nobody_can_build_is_refused_before_it_is(part, value):
    from attnbench import load

    made.fill(Path("runs"), made.study(**SMALL), images=20)
    record = Store("runs").records()[0]
    (Path("runs") / record.id / "weights.safetensors").write_bytes(b"")
    with pytest.raises(StoreProblem, match=f"input.{part}"):
        load(dataclasses.replace(record, input={**record.input, part: value}))


@pytest.mark.parametrize("part", ["device", "threads", "compile"])
def test_a_run_that_does_not_say_its_numerics_is_neither_loaded_nor_trained_again(part):
    from attnbench import Runtime, load
    from attnbench.examine.reproduce import reproduce

    record = made.run(Path("runs"), made.study(**SMALL).runs()[0], 80.0, images=20)
    numerics = {"device": "cpu", "threads": 1, "compile": False}
    del numerics[part]
    Store("runs").save(dataclasses.replace(record, numerics=numerics))
    said = f"run {record.id} has a record that is none: numerics.{part}: required"
    with pytest.raises(StoreProblem, match=said):
        load(record.id, "runs")
    with pytest.raises(StoreProblem, match=said):
        reproduce(record.id, Runtime(store="runs"))


# Numbers that do not fit together


@pytest.mark.parametrize("part", ["parameters", "macs"])
def test_a_run_that_cost_nothing_is_no_record(part):
    record = made.run(Path("runs"), made.study(**SMALL).runs()[0], 80.0, images=20)
    Store("runs").save(dataclasses.replace(record, cost={**record.cost, part: 0}))
    with pytest.raises(StoreProblem, match=f"record.json cannot be read .cost.{part}: 0 "):
        Store("runs").records()


@pytest.mark.parametrize("written", [{"gate": "mean"}, {"gate": "mean", "accuracy": "high"}, {"accuracy": 1.0}, []])
def test_what_other_gates_gave_is_read_or_refused(written):
    record = made.run(Path("runs"), made.study(**SMALL).runs()[0], 80.0, images=20)
    (Path("runs") / record.id / "gate-mean.json").write_text(json.dumps(written))
    (found,) = Store("runs").records()
    with pytest.raises(StoreProblem, match=r"gate-mean\.json cannot be read .* delete it to evaluate again"):
        _ = found.gates


Arrays = dict[str, np.ndarray]
MISFITS: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "fewer images": (lambda of: {name: values[1:] for name, values in of.items()}, "is of other images than runs/"),
    "other labels": (lambda of: {**of, "labels": of["labels"][::-1]}, "is of other images than runs/"),
    "fewer labels": (lambda of: {**of, "labels": of["labels"][1:]}, "20 predictions of 19 images"),
    "no such class": (lambda of: {**of, "predicted": of["predicted"] + 10}, "not all among the 10 of the logits"),
    "one class more": (lambda of: {**of, "logits": np.c_[of["logits"], of["logits"][:, :1]]}, "has 11 classes"),
    "no number": (lambda of: {**of, "logits": of["logits"] * np.float16("nan")}, "logits are not finite"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_predictions_that_do_not_fit_together_are_refused_with_their_file(misfit):
    plan, (change, said) = made.study(**SMALL), MISFITS[misfit]
    file = Path("runs") / made.fill(Path("runs"), plan, images=20)[3].id / "predictions.npz"
    np.savez(file, **change(dict(np.load(file))))
    with pytest.raises(StoreProblem, match=said) as told:
        made.rendered(plan, Path("runs"))
    assert str(file) in str(told.value)


# Files that are code for others


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@a", "\t=1", "\r=1"])
def test_a_text_is_no_formula_in_any_table_of_ours(text):
    from attnbench.report.sheet import Sheet

    sheet = Sheet("title", [], [], [], "", [{"arm": text, "accuracy": -1.5}], {})
    assert sheet._csv().splitlines()[1].startswith(("'", "\"'"))
    assert sheet._csv().endswith(",-1.5\n")


def test_a_hostile_pickle_in_place_of_a_checkpoint_or_of_weights_is_inert(capfd):
    store = Store("runs")
    folder = store.folder("run")
    folder.mkdir(parents=True)
    (folder / "checkpoint-00001-0000000.pt").write_bytes(b"cos\nsystem\n(S'touch sprung'\ntR.")
    assert store.latest("run") is None
    assert "cannot be read" in capfd.readouterr().err
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.system ['touch sprung']", "!!python/name:os.system", "!!python/module:antigravity"],
)
def test_a_hostile_tag_in_a_study_is_inert(tag):
    from attnbench import Study
    from attnbench.errors import BadStudy

    Path("hostile.yaml").write_text(f"name: {tag}\nbase: {{dataset: digits}}\n")
    with pytest.raises(BadStudy):
        Study.load("hostile.yaml")
    assert not Path("sprung").exists()
    assert "antigravity" not in sys.modules


def test_a_folder_of_official_files_with_a_hostile_pickle_is_refused_unread(data_dir):
    """CIFAR's official files are pickles: only those with the official md5 are ever unpickled."""
    from attnbench import RunSpec
    from attnbench.data.splits import load_splits
    from attnbench.errors import DataProblem

    folder = Path("data/cifar-10-batches-py")
    folder.mkdir(parents=True)
    for name in ("batches.meta", "test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        (folder / name).write_bytes(b"cos\nsystem\n(S'touch sprung'\ntR.")
    with pytest.raises(DataProblem, match="CIFAR10 in data cannot be read"):
        load_splits(RunSpec(dataset="CIFAR10"), "data")
    assert not Path("sprung").exists()
