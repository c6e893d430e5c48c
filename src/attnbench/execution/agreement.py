"""What a machine that trains a run must have in common with the one that started it, checked before it trains."""

import json
import platform
from collections.abc import Mapping
from typing import Any

from attnbench.data.splits import Splits, load_splits
from attnbench.errors import AttnbenchError
from attnbench.spec.run import RunSpec
from attnbench.store.environment import deciding


def kind(fields: Mapping[str, object]) -> str:
    """One text for all runs that differ in the seed only, which see one set of images."""
    return json.dumps({**fields, "seed": 0}, sort_keys=True)


def expectation(spec: RunSpec, fields: Mapping[str, object], images: Mapping[str, str]) -> dict[str, Any]:
    """What a run counts on wherever it is trained, ready for JSON.

    Args:
        fields: those of the run as another process is given them.
        images: the data's fingerprint for each kind of run.
    """
    return {"run": spec.id, "images": images[kind(fields)], "decides": deciding()}


def insist(expected: Mapping[str, Any], spec: RunSpec, data_dir: str) -> Splits:
    """The data of a run; refuses to train one here that would be another, or give other numbers, than there.

    Raises:
        AttnbenchError: in one line, what differs and what to do.
    """
    here, there = deciding(), expected["decides"]
    wrong = [f"{name} {here.get(name)} (there {there.get(name)})" for name in there if here.get(name) != there[name]]
    if wrong:
        advice = "install the same attnbench and packages on every machine"
        raise AttnbenchError(
            f"{platform.node()} differs from where the study was started: {', '.join(wrong)}; {advice}"
        )
    if spec.id != expected["run"]:
        raise AttnbenchError(
            f"{platform.node()} calls run {expected['run']} {spec.id}: it has another version of your own code"
        )
    splits = load_splits(spec, data_dir)
    if (found := splits.data_fingerprint) != expected["images"]:
        raise AttnbenchError(
            f"{platform.node()} has other images of {spec.dataset} in {data_dir}/ (fingerprint {found}, there "
            f"{expected['images']}) than where the study was started; copy that data folder, or share it (--data-dir)"
        )
    return splits
