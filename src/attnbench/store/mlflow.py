"""MLflow as a mirror of the journals: fed from a thread, never in the way of training, repaired by `sync`."""

import contextlib
import functools
import importlib.util
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.console import first_line, say
from attnbench.errors import AttnbenchError, StoreProblem
from attnbench.store.locks import sending_lock, tracking_lock
from attnbench.store.naming import dataset_input, found_at, tags_of
from attnbench.store.runs import Store
from attnbench.store.view import View

if TYPE_CHECKING:
    from mlflow import MlflowClient

POLL_SECONDS = 1.0
CLOSE_SECONDS = 90.0
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Mirror:
    """Sends what the journals hold to MLflow; sending twice changes nothing."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.refusal = ""
        self.page = ""
        """Where the runs are, in a line; empty until one was sent."""
        self._client: MlflowClient | None = None
        self._seen: dict[str, tuple[str, int, bool, int]] = {}
        self._runs: dict[str, tuple[str, set[int]]] = {}

    def open(self) -> None:
        """Connect.

        Raises:
            AttnbenchError: an old ./mlruns file store is in the way.
        """
        self._client = connected()

    def deliver(self, run: str) -> None:
        """Send what MLflow does not have yet of one run, and close the MLflow run when ours has ended."""
        state = _, size, ended, _ = self._state(run)
        if self._seen.get(run) == state or not size:
            return
        assert self._client is not None
        view = View.read(self.store.folder(run))
        with sending_lock(self.store.path.resolve(), run):
            key, sent = self._find(run, view)
            points = [
                line for line in self.store.journal(run) if line["event"] == "epoch" and line["epoch"] not in sent
            ]
            self._send(key, points, view.metrics)
            sent |= {int(point["epoch"]) for point in points}
            if ended:
                self._close(key, run, view)
        self._seen[run] = state

    def behind(self, runs: Iterable[str]) -> list[str]:
        """The runs of which something has not been sent."""
        return [run for run in runs if self._state(run)[1] and self._seen.get(run) != self._state(run)]

    def _state(self, run: str) -> tuple[str, int, bool, int]:
        """The edition of a run, how long its journal is, whether it has ended, and how many artifacts are there."""
        folder = self.store.folder(run)
        try:
            size = (folder / "journal.jsonl").stat().st_size
            artifacts = len(list(View.read(folder).files(folder)))
        except OSError:
            return "", 0, False, 0
        except StoreProblem:  # said when it is to be sent
            artifacts = 0
        return (
            self.store.edition(run),
            size,
            (folder / "record.json").exists(),
            artifacts,
        )

    def _find(self, run: str, view: View) -> tuple[str, set[int]]:
        """The MLflow run of ours, made if need be, and the epochs it has."""
        edition = self.store.edition(run)
        if edition in self._runs:
            return self._runs[edition]
        assert self._client is not None
        experiment = self._experiment(view.experiment)
        self.page = found_at(self._client.tracking_uri, experiment)
        known = self._client.search_runs([experiment], f"tags.run_key = '{edition}'", max_results=1)
        there: set[str] = set()
        if known:
            key, there = known[0].info.run_id, set(known[0].data.params)
            sent = {int(metric.step) for metric in self._client.get_metric_history(key, "train_loss")}
        else:
            began = int(1000 * self.store.journal(run)[0].get("time", 0))
            key, sent = (
                self._client.create_run(experiment, start_time=began or None, tags=tags_of(view, edition)).info.run_id,
                set(),
            )
        from mlflow.entities import Param

        params = [Param(name, value[:6000]) for name, value in view.params.items() if name not in there]
        if params:  # also where a call that made the run could not send them
            self._client.log_batch(key, params=params)
        self._runs[edition] = key, sent
        return self._runs[edition]

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        assert self._client is not None
        known = self._client.get_experiment_by_name(name)
        if known and known.lifecycle_stage == "deleted":
            raise AttnbenchError(
                f"the experiment {name!r} was deleted in MLflow; restore it with "
                f"mlflow experiments restore --experiment-id {known.experiment_id}"
            )
        if known:
            return str(known.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except MlflowException:  # somebody else made it in the meantime
            known = self._client.get_experiment_by_name(name)
            if known is None:
                raise
            return str(known.experiment_id)

    def _send(self, key: str, points: list[dict[str, Any]], names: list[str]) -> None:
        from mlflow.entities import Metric

        assert self._client is not None
        metrics = [
            Metric(name, point[name], int(1000 * point.get("time", 0)), int(point["epoch"]))
            for point in points
            for name in names
            if name in point
        ]
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(key, metrics=metrics[start : start + 1000])

    def _close(self, key: str, run: str, view: View) -> None:
        assert self._client is not None
        record = self.store.record(run)
        if record is None:
            return
        there = self._client.get_run(key)
        if record.done and record.metric not in there.data.metrics:
            times = [line["time"] for line in self.store.journal(run) if line["event"] == "done"]
            self._client.log_metric(key, record.metric, record.score, int(1000 * times[-1]) if times else None)
        if record.data_fingerprint and not there.inputs.dataset_inputs:
            self._client.log_inputs(key, [dataset_input(record)])
        uploaded = {item.path for item in self._client.list_artifacts(key)}
        for file in view.files(self.store.folder(run)):
            if file.name not in uploaded:
                self._client.log_artifact(key, str(file))
        status = "FINISHED" if record.done else "FAILED"
        if there.info.status != status:
            ended = int(1000 * self.store.journal(run)[-1].get("time", 0))
            self._client.set_terminated(key, status, ended or None)


def connected() -> "MlflowClient":
    """A client of MLflow, whose tracking database is made once, whoever else is about to.

    Raises:
        AttnbenchError: an old ./mlruns file store is in the way.
    """
    quiet()
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        uri = mlflow.get_tracking_uri()
        if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).exists():
            say(f"MLflow makes its database {uri} (once, 5-10 s)")
        with tracking_lock(uri):
            client = MlflowClient()
            client.search_experiments(max_results=1)
    except MlflowException as problem:
        if advice := migration(problem):
            raise AttnbenchError(advice) from problem
        raise
    return client


def migration(problem: Exception, folder: str = "./mlruns") -> str:
    """How to keep the runs of an old file store, where that is what MLflow refuses; else empty."""
    if "migrate-filestore" not in str(problem):
        return ""
    return (
        f"MLflow no longer reads the old {folder} file store here; to keep its runs: "
        f"mlflow migrate-filestore --source {folder} --target sqlite:///mlflow.db, then move {folder} away"
    )


@contextlib.contextmanager
def mirrored(store: Store, runs: Iterable[str], enabled: bool = True) -> Iterator[None]:
    """Mirror the runs' journals to MLflow from a thread, as long as the block lasts and a little longer.

    Nothing that happens to MLflow reaches the block: what did not arrive is counted and said once at the end.
    """
    if enabled and importlib.util.find_spec("mlflow") is None:
        say("MLflow is not installed: runs are kept in the store alone; `attnbench sync` sends them once it is")
        enabled = False
    if not enabled:
        yield
        return
    mirror, over, runs = Mirror(store), threading.Event(), list(runs)
    trouble: list[str] = []
    thread = threading.Thread(target=_follow, args=(mirror, runs, over, trouble), daemon=True, name="mlflow-mirror")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(CLOSE_SECONDS)
        late = mirror.behind(runs)
        if late:
            reason = "as said above" if trouble[-1:] == [mirror.refusal] else (trouble or ["no answer in time"])[-1]
            share = f"{len(late)} of {len(runs)} runs"
            say(f"MLflow: {share} did not fully arrive ({reason}); `attnbench sync` sends them once that is mended")
    if mirror.page and not late:
        _announce(mirror.page)


@functools.cache
def _announce(line: str) -> None:
    """Say a line once, however many stages a study has."""
    say(line)


def sync(store: Store) -> tuple[int, int]:
    """Send everything in a store to MLflow; returns how many runs are there now, and how many could not be sent.

    Raises:
        AttnbenchError: MLflow cannot be reached at all.
    """
    mirror = Mirror(store)
    try:
        mirror.open()
    except AttnbenchError:
        raise
    except Exception as problem:
        raise AttnbenchError(f"MLflow cannot be reached: {first_line(problem)}") from problem
    runs = [file.parent.name for file in sorted(store.path.glob(f"*/{View.FILE}"))]
    if bare := len({file.parent.name for file in store.path.glob("*/record.json")} - {*runs}):
        say(f"MLflow: not sent, for want of a journal: {bare} of the runs (a bundle has none)")
    failed = 0
    for run in runs:
        try:
            mirror.deliver(run)
        except Exception as problem:  # one run's trouble is not the others'
            failed += 1
            say(f"MLflow: run {run} could not be sent: {first_line(problem)}")
    return len(runs) - failed, failed


def _follow(mirror: Mirror, runs: list[str], over: threading.Event, trouble: list[str]) -> None:
    """Deliver what is new, again and again; after the end once more."""
    try:
        mirror.open()
    except Exception as problem:  # whatever MLflow does, training goes on
        mirror.refusal = first_line(problem)
        trouble.append(mirror.refusal)
        say(f"MLflow receives nothing, the runs themselves are stored as always: {mirror.refusal}")
        return
    last = False
    while not last:
        last = over.wait(POLL_SECONDS)
        for run in runs:
            try:
                mirror.deliver(run)
            except Exception as problem:  # the next round tries again, the other runs first
                trouble.append(first_line(problem))
                runs = [*(other for other in runs if other != run), run]
                if not over.is_set():
                    over.wait(5 * POLL_SECONDS)
                break


def quiet() -> None:
    """Before MLflow is imported: no telemetry, few retries, and none of its own lines about its database."""
    import logging

    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
