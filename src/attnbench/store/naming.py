"""What MLflow calls a run of ours and its data, and the address of the page that shows the runs."""

import json
from typing import TYPE_CHECKING

from attnbench.store.record import RunRecord
from attnbench.store.view import View

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

LOCAL = "http://127.0.0.1:5000"
"""Where `mlflow ui` and `attnbench ui` answer."""
DIGEST = 36
"""Letters of a digest that MLflow takes."""


def run_name(view: View, edition: str) -> str:
    """A run in a line, what tells it apart first, for a narrow column shows no more; of the classic run two words."""
    params = view.params
    if "attention_type" in params:
        return f"{params.get('dataset', '')}-{params['attention_type']}"
    parts = [params.get("attention", ""), params.get("backbone", "")]
    parts += [f"seed {params['seed']}"] if "seed" in params else []
    study = view.tags.get("study", "")
    parts += [params.get("dataset", ""), f"({study})" if study else ""]
    return " ".join(filter(None, parts)) or edition


def tags_of(view: View, edition: str) -> dict[str, str]:
    """The tags of a run: its name, its key, where it came from, and its view's own."""
    source = {"mlflow.source.name": "attnbench", "mlflow.source.type": "LOCAL"}
    return {**source, **view.tags, "run_key": edition, "mlflow.runName": run_name(view, edition)}


def dataset_input(record: RunRecord) -> "DatasetInput":
    """The images of a run as MLflow's data set: its reference, their fingerprint, and where they are from."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    url = record.cards.get("dataset", {}).get("url", "")
    kind, source = ("http", {"url": url}) if url else ("local", {"uri": record.spec["dataset"]})
    data = Dataset(
        name=str(record.spec["dataset"])[:500],
        digest=record.data_fingerprint[:DIGEST],
        source_type=kind,
        source=json.dumps(source),
        profile=json.dumps({"classes": record.input.get("classes"), "image_size": record.input.get("image_size")}),
    )
    return DatasetInput(dataset=data, tags=[InputTag("mlflow.data.context", "training")])


def runs_page(server: str, experiment: str) -> str:
    """The page of an experiment's runs; without its last part MLflow opens what it has for language models."""
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?workflowType=machine_learning"


def found_at(uri: str, experiment: str) -> str:
    """Where the runs are, in a line: at the server, or at the one that has to be started first."""
    if uri.startswith(("http:", "https:")):
        return f"MLflow shows the runs at {runs_page(uri, experiment)}"
    return f"MLflow shows the runs: attnbench ui, or mlflow ui and {runs_page(LOCAL, experiment)}"
