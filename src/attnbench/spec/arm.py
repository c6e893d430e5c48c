"""An arm of a comparison: a mechanism at a place, told apart by a key and shown by a label."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import BadReference
from attnbench.spec.run import FINE_TUNING, LATER

FIELDS = ("attention", "site", "stages", "every", "init", "mechanism_lr")
"""Fields of a run that belong to its arm; all others are shared by the arms of a cell."""
TUNABLE = frozenset(
    {"batch_size", "optimizer", "lr", "weight_decay", "momentum", "schedule", "warmup", "augment"}
    | {"label_smoothing", "averaging", "progressive"}
    | {"backbone_lr", "head_lr", "layer_decay", "freeze_epochs"}
)
"""Fields of a recipe, in which arms that were tuned one by one may have values of their own."""


@dataclass(frozen=True)
class ArmKey:
    """What makes two runs of a cell runs of one arm."""

    attention: str
    """The one spelling of the mechanism's reference."""
    site: str | None = None
    """None without a mechanism."""
    stages: tuple[int, ...] | None = None
    every: int = 1
    init: str = "own"
    mechanism_lr: float = 1.0
    version: int | str = 1

    @classmethod
    def of(cls, form: Mapping[str, Any]) -> "ArmKey":
        """The arm of a run, from the canonical form of its spec."""
        stages = form.get("stages")
        return cls(
            attention=str(form["attention"]),
            site=form.get("site"),
            stages=tuple(stages) if stages else None,
            every=form.get("every", 1),
            init=form.get("init", "own"),
            mechanism_lr=form.get("mechanism_lr", 1.0),
            version=form["versions"]["attention"],
        )

    @property
    def text(self) -> str:
        """All of it, for files; no two arms share it."""
        return self.label(None) + (f" version={self.version}" if self.version != 1 else "")

    def label(self, own_site: str | None) -> str:
        """The mechanism, with its place where that is not its own (`own_site`); for display only."""
        parts = [f"site={self.site}"] if self.site not in (None, own_site) else []
        parts += [f"stages={','.join(map(str, self.stages))}"] if self.stages else []
        parts += [f"every={self.every}"] if self.every != 1 else []
        parts += [f"init={self.init}"] if self.init != "own" else []
        parts += [f"mechanism_lr={self.mechanism_lr:g}"] if self.mechanism_lr != 1 else []
        return " ".join([self.attention, *parts])

    def beside(self, attention: str) -> "ArmKey":
        """Another mechanism at the same place, of whatever version."""
        return replace(self, attention=attention, version=0)


def shared(form: Mapping[str, Any], tuned: Collection[str] = ()) -> dict[str, object]:
    """What the arms of a cell have in common, of the canonical form of one of its runs.

    Args:
        tuned: fields in which each arm has values of its own.
    """
    whole = {**form, **{name: form.get(name, nothing) for name, nothing in LATER.items()}}
    kept = {name: value for name, value in whole.items() if name not in (*FIELDS, *tuned, "seed", "versions")}
    return kept | {f"{name} version": v for name, v in form["versions"].items() if name != "attention"}


def cell_key(common: Mapping[str, object]) -> str:
    """A cell as files name it: data set, backbone, and a hash of all that its arms have in common."""
    told = {name: value for name, value in common.items() if name not in FINE_TUNING or value != FINE_TUNING[name]}
    text = json.dumps(told, sort_keys=True)
    return f"{common['dataset']}, {common['backbone']}, {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def labels(own_sites: Mapping[ArmKey, str | None]) -> dict[ArmKey, str]:
    """Each arm's label; with its version where several versions of one arm are there.

    Args:
        own_sites: arm -> the place that its mechanism has by itself.
    """
    plain = {key: key.label(site) for key, site in own_sites.items()}
    count = Counter(plain.values())
    return {key: f"{name} version {key.version}" if count[name] > 1 else name for key, name in plain.items()}


Key = ArmKey | str
"""What tells an arm apart: the mechanism and its place, or the name of something else that was trained elsewhere."""
K = TypeVar("K", bound=Key)


def mechanism(key: Key) -> str | None:
    """The mechanism of an arm, in the one spelling; None for what was trained elsewhere."""
    return key.attention if isinstance(key, ArmKey) else None


def text_of(key: Key) -> str:
    """An arm as files name it."""
    return key.text if isinstance(key, ArmKey) else key


def meant(text: str, arms: Mapping[K, str]) -> K:
    """The arm that is asked for by its label, or by its mechanism in any spelling where that is the only one.

    Args:
        arms: arm -> its label.

    Raises:
        BadReference: none or several are; the message names those that there are.
    """
    found = [key for key, label in arms.items() if label == text] or _of_mechanism(text, arms)
    if len(found) == 1:
        return found[0]
    if found:
        raise BadReference(f"{text!r} is {len(found)} arms; give one of {_quoted(arms[key] for key in found)}")
    raise BadReference(f"{text!r} is not among the arms {_quoted(arms.values())}")


def _of_mechanism(text: str, arms: Mapping[K, str]) -> list[K]:
    mechanisms = [(key, mechanism(key)) for key in arms]
    if not any(known for _, known in mechanisms):
        return []
    try:
        wanted = ATTENTION.canonical(text)
    except BadReference:
        if any(label.startswith(text.split(" ")[0]) for label in arms.values()):
            return []  # a label, but of no arm that is here
        raise
    found = [key for key, known in mechanisms if known == wanted]
    return [key for key in found if arms[key] == wanted] or found


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
