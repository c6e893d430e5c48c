"""Images that changed since a run: it is done again, and says so; images that did not change are not read again."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import TINY
from PIL import Image
from test_data import FOLDER, pictures

from attnbench import RunSpec, Runtime, run
from attnbench.data import cache
from attnbench.execution.sweep import Sweep
from attnbench.store.mlflow import sync
from attnbench.store.runs import RunRecord, Store

RUNTIME = Runtime(data_dir=".", store="runs", tracker="none")
FIELDS = {**TINY, "dataset": FOLDER, "train_limit": None, "test_limit": None, "epochs": 1, "image_size": 8}
SPEC = RunSpec(**FIELDS)


@pytest.fixture
def record() -> RunRecord:
    """A run on a folder of pictures."""
    pictures(Path("mine"))
    return run(SPEC, RUNTIME)


def swap() -> None:
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        Path("mine", old).rename(Path("mine", new))


CHANGES = {
    "labels swapped": swap,
    "an image changed": lambda: shutil.copy("mine/dog/00.png", "mine/cat/00.png"),
    "an image removed": lambda: Path("mine/cat/00.png").unlink(),
    "a class added": lambda: pictures(Path("mine"), "bird", seed=5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_whose_images_changed_is_done_again_and_its_old_record_is_kept(change, record, capsys):
    CHANGES[change]()
    again = run(SPEC, RUNTIME)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if SPEC.id in line]
    assert "was done on other images than are there now and is done again" in line
    assert again.data_fingerprint != record.data_fingerprint
    aside = Path("runs", SPEC.id, "record-1.json")
    assert str(aside) in line
    assert RunRecord.from_json(aside.read_text()) == record
    assert [found.data_fingerprint for found in Store("runs").records()] == [again.data_fingerprint]


def test_a_run_is_done_again_as_often_as_its_images_change_and_no_record_is_lost(record):
    for _ in range(3):
        swap()
        run(SPEC, RUNTIME)
    kept = [json.loads(Path("runs", SPEC.id, f"record-{n}.json").read_text())["data_fingerprint"] for n in (1, 2, 3)]
    assert kept[0] == kept[2] == record.data_fingerprint != kept[1]


def test_mlflow_shows_a_run_on_other_images_as_a_run_of_its_own(record, monkeypatch):
    from mlflow import MlflowClient

    uri = f"sqlite:///{Path.cwd()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    sync(Store("runs"))
    swap()
    again = run(SPEC, Runtime(data_dir=".", store="runs", tracker="mlflow"))
    client = MlflowClient(tracking_uri=uri)
    shown = client.search_runs([each.experiment_id for each in client.search_experiments()])
    losses = {run.data.tags["run_key"]: run.data.metrics["train_loss"] for run in shown}
    assert losses == {SPEC.id: record.curves[-1]["train_loss"], f"{SPEC.id}-2": again.curves[-1]["train_loss"]}


def test_a_run_whose_images_did_not_change_is_done_without_decoding_them(record, monkeypatch):
    monkeypatch.setattr(cache, "_build", lambda *given: pytest.fail("decoded again"))
    assert run(SPEC, RUNTIME) == record


@pytest.mark.parametrize("event", ["touched", "renamed", "in another format", "gone", "broken"])
def test_a_run_stays_done_where_its_images_are_the_same_or_cannot_be_seen(event, record, capsys):
    files = sorted(Path("mine").rglob("*.png"))
    if event == "touched":
        os.utime(files[3], (1, 1))
    elif event == "renamed":
        files[3].rename(files[3].with_name("zz.png"))
    elif event == "in another format":
        for file in files:
            Image.open(file).save(file.with_suffix(".webp"), lossless=True, exact=True)
            file.unlink()
    elif event == "gone":
        shutil.rmtree("mine")
    else:
        files[3].write_text("no image")
    assert run(SPEC, RUNTIME) == record
    said = capsys.readouterr().err
    assert ("cannot be told" in said and "is no readable image" in said) == (event == "broken")


def test_a_study_does_the_runs_whose_images_changed_again(record):
    other = RunSpec(**FIELDS, attention="se")
    sweep = Sweep([SPEC, other], RUNTIME)
    assert sweep.pending() == [other]
    swap()
    assert sweep.pending() == [SPEC, other]


def test_a_study_looks_at_the_images_once_for_all_its_runs(record, monkeypatch):
    specs = [RunSpec(**FIELDS, seed=seed) for seed in range(3)]
    for spec in specs:
        run(spec, RUNTIME)
    opened, inner = [], cache._open
    monkeypatch.setattr(cache, "_open", lambda folder: opened.append(folder) or inner(folder))
    assert Sweep(specs, RUNTIME).pending() == []
    assert len(opened) == 1


def test_a_run_that_was_interrupted_does_not_go_on_with_other_images(record, capsys):
    shutil.copytree("mine", "kept")
    swap()

    def stop(_spec: RunSpec, point: dict[str, float]) -> None:
        raise KeyboardInterrupt

    longer = RunSpec(**{**FIELDS, "epochs": 2, "seed": 1})
    with pytest.raises(KeyboardInterrupt):
        run(longer, RUNTIME, log=stop)
    shutil.rmtree("mine")
    Path("kept").rename("mine")
    found = run(longer, RUNTIME)
    assert "was begun on other images than are there now: it starts anew" in capsys.readouterr().err
    anew = run(longer, Runtime(data_dir=".", store="fresh", tracker="none"))
    assert (found.weights_sha256, found.resumed) == (anew.weights_sha256, 0)


@pytest.mark.slow
def test_the_command_says_that_the_images_changed(record, attnbench):
    command = ["run", "--dataset", FOLDER, "--image-size", "8", "--epochs", "1", "--backbone", TINY["backbone"]]
    command += ["--data-dir", ".", "--tracker", "none"]
    assert "is done already" in attnbench(*command).stdout
    swap()
    done = attnbench(*command)
    assert (done.returncode, "is done already" in done.stdout) == (0, False), done.stderr
    assert "was done on other images" in done.stderr
