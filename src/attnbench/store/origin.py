"""Which number of which runs is the score, where these are kept by MLflow or in folders of training results."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What to take from runs that were trained elsewhere."""

    mlflow: str | None = None
    """Name of an MLflow experiment to take the runs from."""
    tracking_uri: str | None = None
    """Where MLflow is (default: MLFLOW_TRACKING_URI, or ./mlflow.db)."""
    metric: str | None = None
    """Metric that is the score (in folders of ultralytics: metrics/mAP50-95(B))."""
    arm_param: str | None = None
    """Parameter that tells arms apart (in folders of ultralytics: model)."""
    seed_param: str = "seed"
    """Parameter that holds the seed."""
    cell_param: str | None = None
    """Parameter that tells data sets apart (in folders of ultralytics: data)."""
    row: Literal["last", "best"] = "last"
    """Of a results.csv: the last epoch, or the epoch with the best score, which chooses by the score itself."""
