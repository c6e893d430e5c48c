"""Scores of the runs of an MLflow experiment, whoever logged them."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.catalogue.refs import nearest
from attnbench.console import first_line
from attnbench.errors import BadScores
from attnbench.store.mlflow import migration, quiet
from attnbench.store.origin import Origin
from attnbench.store.scores import Table

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000
ENDED = ("FINISHED", "FAILED", "KILLED")


def tracked(origin: Origin) -> Table:
    """The runs of an experiment that ended: of each the latest value of the metric; one without it has failed.

    Raises:
        BadScores: MLflow is not there, or the experiment, the metric or the parameters are not.
    """
    if origin.metric is None or origin.arm_param is None:
        raise BadScores(["--mlflow needs --metric, the score, and --arm-param, the parameter that tells arms apart"])
    runs = _runs(origin)
    ended = [run for run in runs if run.info.status in ENDED]
    taken = [run for run in ended if origin.arm_param in run.data.params]
    name = f"experiment {origin.mlflow}"
    _expect(name, "metric", origin.metric, [run.data.metrics for run in ended])
    _expect(name, "parameter", origin.arm_param, [run.data.params for run in ended])
    _expect(name, "parameter", origin.seed_param, [run.data.params for run in taken])
    columns: dict[str, list[object]] = {
        "arm": [run.data.params[origin.arm_param] for run in taken],
        "seed": [run.data.params.get(origin.seed_param, "") for run in taken],
        "score": [run.data.metrics.get(origin.metric, math.nan) for run in taken],
    }
    if origin.cell_param is not None:
        _expect(name, "parameter", origin.cell_param, [run.data.params for run in taken])
        columns["cell"] = [run.data.params.get(origin.cell_param, "") for run in taken]
    cut = [run for run in taken if run.info.status != "FINISHED" and origin.metric in run.data.metrics]
    places = [f"run {run.info.run_name} ({run.info.run_id})" for run in taken]
    notes = [
        f"{len(runs) - len(ended)} runs of {name} have not ended and are left out" if len(runs) > len(ended) else "",
        f"{len(ended) - len(taken)} runs of {name} have no parameter {origin.arm_param!r} and are left out"
        if len(ended) > len(taken)
        else "",
        f"{len(cut)} runs of {name} were stopped or failed; the latest value that they logged counts" if cut else "",
    ]
    return Table(str(origin.mlflow), columns, places, origin.metric, tuple(note for note in notes if note))


def _runs(origin: Origin) -> list["Run"]:
    """All runs of the experiment, page by page."""
    quiet()
    import mlflow
    from mlflow import MlflowClient

    uri = origin.tracking_uri or mlflow.get_tracking_uri()
    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:") and not file.exists():
        raise BadScores([f"there is no MLflow database {file}; give --tracking-uri, or set MLFLOW_TRACKING_URI"])
    try:
        client = MlflowClient(tracking_uri=uri)  # opens the store
        experiment = client.get_experiment_by_name(str(origin.mlflow))
        if experiment is None:
            names = [each.name for each in client.search_experiments()]
            raise BadScores(
                [f"MLflow has no experiment {origin.mlflow!r}{nearest(str(origin.mlflow), names)} ({', '.join(names)})"]
            )
        return list(_pages(client, experiment.experiment_id))
    except BadScores:
        raise
    except Exception as problem:  # MLflow's own, or of the database or the network behind it
        advice = migration(problem, uri.removeprefix("file://"))
        raise BadScores([advice or f"MLflow at {uri} does not answer: {first_line(problem)}"]) from None


def _pages(client: "MlflowClient", experiment: str) -> Iterator["Run"]:
    token = None
    while True:
        found = client.search_runs([experiment], max_results=PAGE, page_token=token)
        yield from found
        token = found.token
        if not token:
            return


def _expect(where: str, what: str, name: str, known: Iterable[Iterable[str]]) -> None:
    """Refuse a name that no run has."""
    names = sorted({each for own in known for each in own})
    if name not in names:
        listed = f" ({', '.join(names)})" if names else ""
        raise BadScores([f"{where}: no run has a {what} {name!r}{nearest(name, names)}{listed}"])
