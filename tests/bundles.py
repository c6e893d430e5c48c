"""Bundles made of runs made by hand, and taken apart again to be forged."""

import contextlib
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import made
import numpy as np

from attnbench import Store, Study
from attnbench.cli.sharing import submit
from attnbench.store.bundle import MANIFEST
from attnbench.store.studies import StudyJournal

SMALL: dict[str, Any] = {"grid": {"dataset": ["digits"], "attention": ["none", "se"]}, "where": [], "seeds": 3}
Members = dict[str, bytes]


def made_bundle(plan: Study, store: Path = Path("runs"), out: Path = Path("made.zip")) -> Path:
    """The bundle of a study whose plan was written, whose runs were then trained, and which was submitted."""
    StudyJournal(Store(store), plan.slug).keep_plan(plan)
    for record in made.fill(store, plan, images=120):
        Store(store).log(record.id, "start")
        Store(store).log(record.id, "done")
    return submitted(plan, store, out)


def submitted(plan: Study, store: Path, out: Path) -> Path:
    """The bundle of what is in a store."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert submit(plan.save(Path(f"{plan.slug}.yaml")), str(store), out) == 0
    return out


def members(file: Path) -> Members:
    with zipfile.ZipFile(file) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def packed(content: Mapping[str, bytes], file: Path = Path("forged.zip"), **how: Any) -> Path:
    """Written without any care; `how` is of each member's `ZipInfo`."""
    with zipfile.ZipFile(file, "w", how.pop("compress", zipfile.ZIP_STORED)) as bundle:
        for name, text in content.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = bundle.compression
            for key, value in how.items():
                setattr(member, key, value)
            bundle.writestr(member, text)
    return file


def signed(content: Members) -> Members:
    """With the hashes of what is there now, as a forger would do it."""
    stated = json.loads(content[MANIFEST])
    stated["files"] = {name: hashlib.sha256(text).hexdigest() for name, text in content.items() if name != MANIFEST}
    return {**content, MANIFEST: json.dumps(stated).encode()}


def forged(content: Members, name: str, change: Callable[[Any], object]) -> Path:
    """A bundle in which the JSON of a member is changed in place, and signed again."""
    values = json.loads(content[name])
    change(values)
    new = {**content, name: json.dumps(values).encode()}
    return packed(new if name == MANIFEST else signed(new))


def rewritten(content: Members, name: str, change: Callable[[dict[str, np.ndarray]], object]) -> Path:
    """A bundle in which the arrays of a run are changed, and signed again."""
    arrays = dict(np.load(io.BytesIO(content[name])))
    change(arrays)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return packed(signed({**content, name: out.getvalue()}))


def first(content: Members, what: str) -> str:
    """The first member whose name ends so."""
    return next(name for name in sorted(content) if re.search(f"{what}$", name))
