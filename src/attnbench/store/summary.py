"""The report of a study as a run of its own in MLflow: the page, the verdicts and the study's file."""

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.console import first_line, say
from attnbench.store import mlflow as mirror
from attnbench.store.locks import sending_lock
from attnbench.store.naming import found_at
from attnbench.store.runs import Store
from attnbench.store.view import View

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = 5000
"""Letters of a description that MLflow takes everywhere."""


def summarised(store: Store, runs: Iterable[str], study: str, text: str, files: Sequence[Path]) -> None:
    """Send a report to MLflow, where that has runs of the study; doing it again replaces the files.

    Nothing that happens to MLflow reaches the caller: what did not arrive is said in a line.

    Args:
        runs: ids of the study's runs.
        text: what stands in the summary's description, as Markdown.
        files: what becomes its artifacts.
    """
    if not _tracking():
        return
    said: list[str] = []
    thread = threading.Thread(target=_try, args=(store, list(runs), study, text, files, said), daemon=True)
    thread.start()
    thread.join(mirror.CLOSE_SECONDS)
    for line in said or ["MLflow has not got this report (no answer in time); the same command sends it again"]:
        if line:
            say(line)


def _tracking() -> bool:
    """Whether anything was tracked from here: asking MLflow itself would make its database."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or Path("mlflow.db").is_file()


def _try(store: Store, runs: list[str], study: str, text: str, files: Sequence[Path], said: list[str]) -> None:
    try:
        said.append(_sent(store, runs, study, text, files))
    except Exception as problem:  # whatever MLflow does, the report is written
        said.append(f"MLflow has not got this report: {first_line(problem)}")


def _sent(store: Store, runs: list[str], study: str, text: str, files: Sequence[Path]) -> str:
    """Where the summary is; empty where MLflow has no run of this study."""
    views = [store.folder(run) / View.FILE for run in runs]
    seen = next((file.parent for file in views if file.is_file()), None)
    if seen is None:
        return ""
    client = mirror.connected()
    experiment = client.get_experiment_by_name(View.read(seen).experiment)
    key = f"summary:{study}"
    if experiment is None or not _found(client, experiment.experiment_id, "study", study):
        return ""
    with sending_lock(store.path.resolve(), "summary"):
        known = _found(client, experiment.experiment_id, "run_key", key)
        run = known or client.create_run(experiment.experiment_id, tags=_tags(study, key)).info.run_id
        client.set_tag(run, "mlflow.note.content", text[:NOTE])
        for file in files:
            client.log_artifact(run, str(file))
        client.set_terminated(run, "FINISHED")
    return found_at(client.tracking_uri, experiment.experiment_id)


def _tags(study: str, key: str) -> dict[str, str]:
    source = {"mlflow.source.name": "attnbench report", "mlflow.source.type": "LOCAL"}
    return {**source, "study": study, "run_key": key, "mlflow.runName": f"{study}: verdicts"}


def _found(client: "MlflowClient", experiment: str, tag: str, value: str) -> str:
    """The first run with a tag's value; empty where there is none."""
    quote = '"' if "'" in value else "'"
    runs = client.search_runs([experiment], f"tags.{tag} = {quote}{value}{quote}", max_results=1)
    return str(runs[0].info.run_id) if runs else ""
