"""How MLflow shows a run: it lies in the run's folder, which somebody else may have made."""

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from attnbench.errors import StoreProblem
from attnbench.spec.run import RunSpec
from attnbench.spec.validation import violations

METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds")
CLASSIC = Path("saved_models")
"""Where in the working folder the classic command saves weights."""


@dataclass(frozen=True)
class View:
    """How MLflow shows a run, so that `sync` can show it so again."""

    FILE: ClassVar[str] = "tracking.json"
    experiment: str
    params: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=lambda: list(METRICS))

    @classmethod
    def of(cls, spec: RunSpec, study: str = "") -> "View":
        """Every field of the spec as a param, and the study as a tag."""
        params = {name: str(value) for name, value in spec.fields.items()}
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "attnbench")
        return cls(experiment, params, {"study": study} if study else {})

    @classmethod
    def read(cls, folder: Path) -> "View":
        """The view of the run in a folder.

        Raises:
            OSError: there is none.
            StoreProblem: it is none.
        """
        file = folder / cls.FILE
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as problem:
            raise StoreProblem(f"{file} cannot be read ({problem})") from None
        wrong = violations(cls, values) if isinstance(values, dict) else [((), "holds no mapping")]
        for place, what in wrong:
            raise StoreProblem(f"{file}: {'.'.join(map(str, place))} {what}")
        return cls(**values)

    def to_json(self) -> str:
        """The view as it lies in `tracking.json`."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    def files(self, folder: Path) -> Iterator[Path]:
        """The files that go along: what lies in the run's folder, and weights that the classic command saved.

        A view that somebody else wrote may name any file of this machine; no other is ever sent.
        """
        for name in [*self.artifacts, str(folder / "weights.safetensors")]:
            file = Path(name)
            real = file.resolve()
            classic = real.parent == CLASSIC.resolve() and real.suffix == ".pth"
            if real.is_file() and (classic or folder.resolve() in real.parents):
                yield file
