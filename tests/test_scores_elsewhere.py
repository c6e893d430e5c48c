"""Scores of runs that MLflow keeps, and of folders as the ultralytics package writes them."""

import contextlib
import importlib
import math
import sqlite3
from pathlib import Path

import handmade
import pytest
from tracking import server, unused_port

import attnbench
from attnbench.analysis.scored import Terms, compared
from attnbench.cli import main
from attnbench.errors import BadScores
from attnbench.report.tables import verdicts
from attnbench.store.origin import Origin
from attnbench.store.scores import MOST_TOLD
from attnbench.store.tracked import _pages, tracked
from attnbench.store.ultralytics import trained

METRICS = "metrics/precision(B),metrics/recall(B),metrics/mAP50(B),metrics/mAP50-95(B)"
HEAD = (
    f"epoch,time,train/box_loss,train/cls_loss,train/dfl_loss,{METRICS},val/box_loss,val/cls_loss,val/dfl_loss,lr/pg0"
)
ARGS = {
    "task": "detect",
    "data": "/home/me/coco8.yaml",
    "epochs": 3,
    "patience": 100,
    "imgsz": 640,
    "optimizer": "auto",
}
PLAIN, OTHER = [0.401, 0.412, 0.398, 0.405, 0.409], [0.448, 0.452, 0.455, 0.447, 0.459]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


# MLflow

KILLED_AT = 90.0


def experiment(uri: str, name: str = "mine") -> None:
    """Runs by hand: SE above none in all seeds; one failed, one was killed, one goes on, one is of something else."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    where = client.create_experiment(name)
    for arm in ("none", "se"):
        for seed, value in enumerate(handmade.ACCURACY[arm]):
            _logged(client, where, {"attention": arm, "seed": seed, "data": "x"}, {"acc": value})
    _logged(client, where, {"attention": "se", "seed": 5, "data": "x"}, {}, "FAILED")
    _logged(client, where, {"attention": "se", "seed": 6, "data": "x"}, {"acc": 5.0}, "RUNNING")
    _logged(client, where, {"attention": "se", "seed": 7, "data": "x"}, {"acc": KILLED_AT}, "KILLED")
    _logged(client, where, {"note": "a sweep"}, {})


def _logged(client, where: str, params: dict, metrics: dict, status: str = "FINISHED") -> None:
    run = client.create_run(where).info.run_id
    for name, value in params.items():
        client.log_param(run, name, value)
    for name, value in metrics.items():
        client.log_metric(run, name, value - 1, step=0)
        client.log_metric(run, name, value, step=1)
    if status != "RUNNING":
        client.set_terminated(run, status)


@pytest.mark.slow
def test_a_servers_runs_give_the_verdicts_of_a_table_and_every_refusal_is_one_line(monkeypatch, capsys):
    ask = ["verdict", "--mlflow", "mine", "--metric", "acc", "--arm-param", "attention"]
    port = unused_port()
    uri = f"http://127.0.0.1:{port}"
    with server(port):
        experiment(uri)
        assert run(*ask, "--tracking-uri", uri, "--cell-param", "data") == 0
        said = capsys.readouterr().out
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert run(*ask) == 0
        wrong = [("mine", "mime"), ("acc", "accc"), ("attention", "attenton")]
        for right, other in wrong:
            assert run(*(other if word == right else word for word in ask)) == 2
            error = capsys.readouterr().err
            assert f"did you mean {right!r}?" in error
            assert len(error.splitlines()) == 1
        assert run(*ask, "--seed-param", "sead") == 2
        assert "no run has a parameter 'sead'; did you mean 'seed'?" in capsys.readouterr().err
    rows = [
        {"arm": arm, "seed": seed, "score": value, "cell": "x"}
        for arm in ("none", "se")
        for seed, value in enumerate(handmade.ACCURACY[arm])
    ]
    rows += [{"arm": "se", "seed": seed, "score": at, "cell": "x"} for seed, at in ((5, math.nan), (7, KILLED_AT))]
    (expected,) = verdicts(attnbench.verdict(rows))
    assert f"* {expected}".replace("[", r"\[").replace("]", r"\]") in said
    assert "acc in %, higher is better" in said
    assert "x: se seed 5 failed (no finite score); a failed run counts as the worst" in said
    assert "1 runs of experiment mine have not ended and are left out" in said
    assert "1 runs of experiment mine were stopped or failed; the latest value that they logged counts" in said
    assert "1 runs of experiment mine have no parameter 'attention' and are left out" in said
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert run(*ask) == 2  # the server is gone
    error = capsys.readouterr().err
    assert "does not answer" in error
    assert len(error.splitlines()) == 1


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def test_a_database_that_is_not_there_is_not_made():
    with pytest.raises(BadScores, match=r"there is no MLflow database .*mlflow\.db"):
        tracked(Origin(mlflow="mine", metric="acc", arm_param="attention"))
    assert not Path("mlflow.db").exists()


def database(name: str, complete: bool) -> None:
    """A database of MLflow at a revision that is not this version's: an older one, or one that it does not know."""
    from mlflow.store.db.base_sql_model import Base

    importlib.import_module("mlflow.store.tracking.sqlalchemy_store")  # it declares the tables
    with contextlib.closing(sqlite3.connect(name)) as there, there:
        for table in Base.metadata.tables if complete else ():
            there.execute(f"CREATE TABLE {table} (id INTEGER)")
        there.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        there.execute("INSERT INTO alembic_version VALUES ('eeeeeeeeeeee')")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mlruns", "mlflow migrate-filestore --source mlruns --target sqlite:///mlflow.db, then move mlruns away"),
        ("ftp://there", "MLflow at ftp://there does not answer: "),
        ("sqlite:///old.db", "Detected out-of-date database schema (found version eeeeeeeeeeee"),
        ("sqlite:///newer.db", "Can't locate revision identified by 'eeeeeeeeeeee'"),
    ],
)
def test_a_store_that_mlflow_cannot_open_is_one_line(uri, said, capsys):
    Path("mlruns/0").mkdir(parents=True)
    if uri.startswith("sqlite"):
        database(uri.removeprefix("sqlite:///"), complete="old" in uri)
    words = ["--metric", "acc", "--arm-param", "attention", "--tracking-uri", uri]
    assert run("verdict", "--mlflow", "mine", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_an_experiment_of_more_runs_than_a_page_is_read_whole():
    class Client:
        """Hands out three pages of two."""

        def search_runs(self, experiments, max_results, page_token):
            first = int(page_token or 0)
            return Page(range(first, first + 2), str(first + 2) if first < 4 else None)

    class Page(list):
        def __init__(self, runs, token) -> None:
            super().__init__(runs)
            self.token = token

    assert list(_pages(Client(), "0")) == [0, 1, 2, 3, 4, 5]


# ultralytics


def yolo(folder: str, model: str, seed: int, scores: list[float | str], old: bool = False, **given: object) -> Path:
    """A run as the trainer leaves it: a row an epoch; before 8.3 names and numbers were padded with blanks."""
    import yaml

    home = Path("runs/detect") / folder
    home.mkdir(parents=True)
    names = HEAD.split(",")
    rows = [
        [str(epoch), "12.5", "1.1", "2.2", "1.3", "0.6", "0.5", "0.55", str(score), "1.2", "2.1", "1.4", "0.01"]
        for epoch, score in enumerate(scores, start=1)
    ]
    join = (lambda texts: ",".join(f"{text:>23}" for text in texts)) if old else ",".join
    (home / "results.csv").write_text("\n".join([join(names), *map(join, rows)]) + "\n")
    arguments = {**ARGS, "model": model, "seed": seed, "name": folder, "save_dir": str(home), **given}
    (home / "args.yaml").write_text(yaml.safe_dump(arguments))
    return home


def studied(old: bool = False) -> Path:
    for seed in range(5):
        yolo(f"train{2 * seed}", "yolov8n.yaml", seed, [0.1, 0.5, PLAIN[seed]], old)
        yolo(f"train{2 * seed + 1}", "/me/yolov8n-cbam.yaml", seed, [0.1, 0.3, OTHER[seed]], old)
    return Path("runs/detect")


@pytest.mark.parametrize("old", [False, True], ids=["now", "padded"])
def test_folders_of_runs_give_the_verdicts_of_a_table_and_say_which_metric_and_row_are_taken(old, capsys):
    assert run("verdict", str(studied(old)), "--baseline", "yolov8n.yaml") == 0
    said = capsys.readouterr().out
    rows = [
        {"arm": arm, "seed": seed, "score": value, "cell": "coco8.yaml"}
        for arm, values in (("yolov8n.yaml", PLAIN), ("yolov8n-cbam.yaml", OTHER))
        for seed, value in enumerate(values)
    ]
    (expected,) = verdicts(attnbench.verdict(rows, baseline="yolov8n.yaml"))
    assert "yolov8n-cbam.yaml is better than yolov8n.yaml (+0.0472, " in expected
    assert f"* {expected}".replace("[", r"\[").replace("]", r"\]") in said
    assert "each score is metrics/mAP50-95(B) of the last epoch, on the validation images of the training" in said


def test_the_best_epoch_and_another_metric_are_taken_where_asked_for():
    home = studied()
    best = trained(home, Origin(row="best"))
    assert sorted(row.value for row in best.scores())[-5:] == [0.5] * 5
    assert "of the epoch where it is best, chosen by itself" in best.notes[0]
    assert {row.value for row in trained(home, Origin(metric="val/box_loss")).scores()} == {1.2}
    assert {r.value for r in trained(home, Origin(row="best"), lower_is_better=True).scores()} == {0.1}


def test_a_run_whose_last_epoch_diverged_has_failed_and_one_that_was_cut_short_is_named():
    home = studied()
    yolo("nan", "yolov8n.yaml", 5, [0.1, 0.2, "nan"])
    yolo("short", "/me/yolov8n-cbam.yaml", 5, [0.1, 0.2])
    yolo("early", "/me/yolov8n-cbam.yaml", 6, [0.2, 0.1], patience=1)
    found = compared(trained(home, Origin()), Terms(baseline="yolov8n.yaml"))
    assert any("yolov8n.yaml seed 5 failed (no finite score)" in warning for warning in found.warnings)
    assert "short ended after 2 of 3 epochs, and its score is of there" in found.warnings
    assert not any("early ended" in warning for warning in found.warnings)
    for seed in range(7, 7 + MOST_TOLD):
        yolo(f"short{seed}", "yolov8n.yaml", seed, [0.1, 0.2])
    found = compared(trained(home, Origin()), Terms(baseline="yolov8n.yaml"))
    assert sum("ended after 2 of 3" in warning for warning in found.warnings) == MOST_TOLD
    assert "1 more runs ended early" in found.warnings


@pytest.mark.parametrize(
    ("scores", "named"),
    [
        ([0.1, 0.4, 0.3, 0.2], False),  # the second was the best, and two more did not reach it
        ([0.1, 0.2, 0.3, 0.4], True),  # it was getting better all the time
        ([0.1, 0.2, 0.4, 0.3], True),
        ([0.0, 0.0, 0.0, 0.0], True),  # nothing was the best yet
        (["nan", 0.4, 0.3, "nan"], False),
    ],
)
def test_a_run_has_stopped_by_itself_where_its_best_epoch_lies_as_far_back_as_its_patience(scores, named):
    file = yolo("cut", "/me/yolov8n-cbam.yaml", 0, scores, epochs=9, patience=2) / "results.csv"
    file.write_text(file.read_text().replace("0.55", "0"))
    notes = trained(studied(), Origin()).notes
    assert ("cut ended after 4 of 9 epochs, and its score is of there" in notes) == named


def test_paths_that_end_alike_are_told_apart_as_data_sets_and_as_arms():
    for number, (data, model) in enumerate([("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")]):
        weights = f"/me/{model}/weights/best.pt"
        yolo(f"train{number}", weights, 0, [0.1, 0.2, number / 10], data=f"/me/{data}/data.yaml")
    rows = trained(Path("runs"), Origin()).scores()
    assert [row.cell for row in rows] == ["x/data.yaml"] * 2 + ["y/data.yaml"] * 2
    assert [row.arm for row in rows] == ["a/weights/best.pt", "b/weights/best.pt"] * 2


def test_what_else_differs_between_the_runs_of_a_cell_is_told():
    home = studied()
    yolo("big", "yolov8n.yaml", 5, [0.1, 0.2, 0.3], imgsz=1280)
    assert (
        "runs of one cell differ in imgsz too: a verdict is about all of that together" in trained(home, Origin()).notes
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda home: (home / "train3" / "args.yaml").unlink(), "args.yaml is missing; it says the model and the seed"),
        (lambda home: (home / "train3" / "args.yaml").write_text("a: [\n"), "args.yaml cannot be read"),
        (lambda home: (home / "train3" / "args.yaml").write_text("7\n"), "does not hold the arguments of a training"),
        (lambda home: (home / "train3" / "results.csv").write_text(HEAD + "\n"), "results.csv holds no epoch"),
        (lambda home: (home / "train3" / "results.csv").write_text("epoch,metrics/mAP50-95(M)\n1,0.2\n"),
         "no column 'metrics/mAP50-95(B)'; did you mean 'metrics/mAP50-95(M)'? (--metric)"),
        (lambda home: yolo("again", "yolov8n.yaml", 0, [0.1]), "yolov8n.yaml seed 0 of coco8.yaml is in"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_told_in_one_line(spoil, said, capsys):
    spoil(studied())
    assert run("verdict", "runs/detect", "--baseline", "yolov8n.yaml") == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_runs_of_one_model_are_told_which_arguments_could_be_the_arm():
    for seed, optimizer in enumerate(["SGD", "AdamW"] * 2):
        yolo(f"train{seed}", "yolov8n.yaml", seed // 2, [0.1, 0.2, 0.3 + seed / 10], optimizer=optimizer)
    with pytest.raises(BadScores, match=r"all 4 runs have one model; .* could be --arm-param: optimizer$"):
        trained(Path("runs"), Origin())
    assert {row.arm for row in trained(Path("runs"), Origin(arm_param="optimizer")).scores()} == {"SGD", "AdamW"}


def test_a_folder_without_runs_is_refused():
    Path("empty").mkdir()
    with pytest.raises(BadScores, match=r"empty/ holds no results\.csv, which ultralytics writes"):
        trained(Path("empty"), Origin())
