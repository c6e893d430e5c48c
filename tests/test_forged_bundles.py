"""Bundles that are not what they say: each forgery is named, and nothing that a stranger wrote is ever run."""

import contextlib
import functools
import io
import itertools
import json
import pickle
import random
import re
import shutil
import stat
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
from bundles import SMALL, Members, first, forged, made_bundle, members, packed, rewritten, signed

from attnbench.cli.sharing import submit, verify
from attnbench.errors import AttnbenchError, BadBundle
from attnbench.examine.remarks import failed
from attnbench.examine.verify import verify as examined
from attnbench.report.tables import plain
from attnbench.store.archives import archive
from attnbench.store.bundle import MANIFEST

TRAP = "from pathlib import Path\nPath('sprung').write_text('')\n"
GATE = "from torch import nn\nclass Gate(nn.Module):\n    def __init__(self, channels):\n        super().__init__()\n"


@pytest.fixture
def content() -> Members:
    return members(made_bundle(made.study(**SMALL)))


def problems(file: Path) -> list[str]:
    shutil.rmtree("unpacked", ignore_errors=True)
    return examined(file, Path("unpacked")).problems


def refusal(file: Path) -> str:
    """Why a file is no bundle; nothing of it was written anywhere."""
    with pytest.raises(BadBundle) as told:
        problems(file)
    assert not [path for path in Path("unpacked").rglob("*") if path.is_file()]
    return str(told.value)


def run_of(name: str) -> str:
    return name.split("/")[0]


# Contents


def test_bytes_that_changed_have_another_hash(content):
    name = first(content, "record.json")
    assert f"{name} has another SHA-256 than the manifest says" in problems(packed({**content, name: b"{}"}))


def test_a_hash_that_changed_is_named(content, capsys):
    name = first(content, "npz")
    file = forged(content, MANIFEST, lambda stated: stated["files"].update({name: "0" * 64}))
    assert problems(file) == [f"{name} has another SHA-256 than the manifest says"]
    assert verify(file) == 1
    assert capsys.readouterr().out.endswith("forged.zip: not what it says, 1 FAILED\n")


def test_a_missing_and_an_extra_file_are_named(content):
    name = first(content, "npz")
    fewer = {key: text for key, text in content.items() if key != name}
    assert f"{name} is missing" in problems(packed(fewer))
    assert problems(packed({**content, "notes.txt": b"hello"})) == ["notes.txt is not among the files of the manifest"]
    assert not Path("unpacked/notes.txt").exists()


def test_an_accuracy_that_changed_is_named(content):
    name = first(content, "record.json")
    stated = json.loads(content[name])["test"]["accuracy"]
    (said,) = problems(forged(content, name, lambda record: record["test"].update(accuracy=99.0)))
    assert said == f"run {run_of(name)}: its test accuracy is {stated} by its predictions, 99.0 by its record"


@pytest.mark.parametrize("change", [{"loss": 0.1}, {"images": 121}, {"loss": float("nan")}], ids=str)
def test_whatever_else_is_said_of_predictions_is_recomputed(content, change):
    name = first(content, "record.json")
    (said,) = problems(forged(content, name, lambda record: record["test"].update(change)))
    assert next(iter(change)) in said


def _right(arrays: dict[str, np.ndarray]) -> None:
    arrays["predicted"] = arrays["labels"].copy()


def _other_labels(arrays: dict[str, np.ndarray]) -> None:
    arrays["labels"] = arrays["labels"][::-1].copy()


def _other_logits(arrays: dict[str, np.ndarray]) -> None:
    arrays["logits"] = arrays["logits"] * np.float16(2)


@pytest.mark.parametrize(
    ("change", "said"),
    [(_right, "have not the largest logit"), (_other_labels, "accuracy is"), (_other_logits, "loss lies in")],
)
def test_predictions_that_changed_are_named(content, change, said):
    found = problems(rewritten(content, first(content, "npz"), change))
    assert any(said in each for each in found), found


def test_labels_of_a_run_are_those_of_the_others_on_its_split(content):
    """All consistent, but the images of one run cannot be those of the others."""
    name = sorted(name for name in content if name.endswith("npz"))[-1]

    def rolled(arrays: dict[str, np.ndarray]) -> None:
        arrays.update({key: np.roll(value, 1, 0) for key, value in arrays.items()})

    found = problems(rewritten(content, name, rolled))
    assert [each.split(": ")[1] for each in found] == ["its labels are others than those of a run on the same split"]


def test_a_spec_that_is_not_the_one_that_was_hashed_is_named(content):
    name = first(content, "record.json")
    (said,) = problems(forged(content, name, lambda record: record["spec"].update(epochs=4)))
    assert said == f"run {run_of(name)}: its spec has another canonical form (epochs)"
    said, *_ = problems(forged(content, name, lambda record: record["canonical"].update(epochs=4)))
    assert "the hash of its canonical spec is" in said


def test_a_run_under_another_name_is_named(content):
    one, two = [name for name in sorted(content) if name.endswith("record.json")][:2]
    assert any(
        "hash of its canonical spec" in each for each in problems(packed(signed({**content, one: content[two]})))
    )


def test_a_record_that_is_none_is_named(content):
    name = first(content, "record.json")
    for text in (b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"id": 1, "spec": [], "status": {}}'):
        assert any(
            each.startswith(f"run {run_of(name)}: ") for each in problems(packed(signed({**content, name: text})))
        )


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("environment", {"packages": []}),
        ("input", {"names": {"one": 1}}),
        ("input", {"names": 7}),
        ("cards", {"dataset": []}),
    ],
    ids=str,
)
def test_what_a_report_shows_of_a_run_is_of_the_types_that_it_has(content, part, value):
    name = first(content, "record.json")
    said, *_ = problems(forged(content, name, lambda record: record[part].update(value)))
    assert said.startswith(f"run {run_of(name)}: {part}.{next(iter(value))}: ")


@pytest.mark.parametrize("part", ["data", "numerics", "runs"])
def test_a_manifest_that_says_other_data_is_named(content, part):
    def change(stated: dict[str, Any]) -> None:
        stated[part] = {"0" * 12: [None, None]} if part == "runs" else []

    assert f"the manifest says other {part} than the records" in problems(forged(content, MANIFEST, change))


def test_verdicts_that_changed_are_named(content):
    def change(stated: dict[str, Any]) -> None:
        stated["verdicts"][-1][-1] = "better"

    found = problems(forged(content, MANIFEST, change))
    assert len(found) == 2
    assert found[1].startswith("verdicts: the manifest has a row digits, resnet20 | se |")
    assert found[1].endswith("| better")


# What was declared


def journal(content: Members, change: Callable[[dict[str, Any]], object]) -> Path:
    """A bundle in which the plan in the journal is changed, with its hash where that is asked for."""
    name = first(content, "jsonl")
    lines = [json.loads(line) for line in content[name].splitlines()]
    change(lines[0])
    return packed(signed({**content, name: "".join(json.dumps(line) + "\n" for line in lines).encode()}))


def test_a_plan_written_after_the_first_run_began_is_named(content):
    (said,) = problems(journal(content, lambda plan: plan.update(time=plan["time"] + 3600)))
    assert said.startswith("the plan was written at 20")
    assert "had begun at" in said
    (said,) = problems(journal(content, lambda plan: plan.update(begun=True)))
    assert said.endswith("declared before the first run: runs had begun when the plan was written")


def test_a_plan_that_is_not_what_its_hash_says_is_named(content):
    (said,) = problems(journal(content, lambda plan: plan.update(margin=2.0)))
    assert "made.jsonl:1: the hash of this plan is" in said


def test_a_study_that_declares_another_plan_is_named(content):
    text = content["study.yaml"].replace(b"margin: 1.0", b"margin: 2.0")
    assert text != content["study.yaml"]
    assert problems(packed(signed({**content, "study.yaml": text}))) == [
        "study.yaml and the plan of the manifest differ in margin"
    ]
    text = content["study.yaml"].replace(b"- se", b"- eca")
    assert problems(packed(signed({**content, "study.yaml": text}))) == [
        "study.yaml: eca site=block added; se site=block left out"
    ]


def test_a_plan_that_was_never_written_cannot_be_declared(content):
    rest = {name: text for name, text in content.items() if not name.endswith("jsonl")}
    (said,) = problems(packed(signed(rest)))
    assert said.endswith("no plan was written before the runs")


def test_a_run_that_nobody_planned_is_named(content):
    plan = made.study(**{**SMALL, "seeds": 4})
    more = members(made_bundle(plan, Path("more"), Path("more.zip")))
    extra = {name: text for name, text in more.items() if name not in content}
    (run,) = {run_of(name) for name in extra if "none" in str(more[f"{run_of(name)}/record.json"][:200])}

    def named(stated: dict[str, Any]) -> None:
        stated["runs"][run] = [None, None]

    added = {**content, **{name: text for name, text in extra.items() if name.startswith(run)}}
    stated = json.loads(content[MANIFEST])
    named(stated)
    found = problems(packed(signed({**added, MANIFEST: json.dumps(stated).encode()})))
    assert found == [f"run {run} (none, seed 3) is none that the plan asks for"]


@pytest.mark.parametrize("line", ["5", "[]", '{"event": "plan"}', '{"event": "look", "time": 0, "seen": {"a": 1}}'])
def test_a_line_of_a_journal_that_is_none_is_named(content, line):
    name = first(content, "jsonl")
    found = problems(packed(signed({**content, name: content[name] + f"{line}\n".encode()})))
    assert found[0].startswith("made.jsonl:3: ")


def test_a_study_of_more_runs_than_anybody_can_write_out_is_refused(content):
    grid = "".join(f"  {name}: [{', '.join(map(str, range(1, 99)))}]\n" for name in ("epochs", "batch_size", "every"))
    text = content["study.yaml"].replace(b"grid:\n", f"grid:\n{grid}".encode())
    assert problems(packed(signed({**content, "study.yaml": text}))) == ["study.yaml: more than 60,000 runs"]


def test_a_plan_of_more_runs_than_a_bundle_holds_is_refused_before_it_is_written_out(content):
    def grow(stated: dict[str, Any]) -> None:
        stated["plan"]["seeds"] = list(range(100_000))

    (said,) = problems(forged(content, MANIFEST, grow))
    assert said == "the plan of the manifest has more than 60,000 runs"


def test_a_study_of_more_rules_than_anybody_can_apply_is_refused(content):
    rules = "where:\n" + "- {set: {epochs: 1}}\n" * 11_000
    grid = content["study.yaml"].replace(b"grid:\n", f"grid:\n  epochs: {[*range(1, 51)]}\n".encode())
    text = re.sub(rb"where:.*\n", b"", grid) + rules.encode()
    said = ["study.yaml: cells and rules for them that give more than 1,000,000 pairs"]
    assert problems(packed(signed({**content, "study.yaml": text}))) == said


def test_half_a_character_and_a_time_that_is_no_number_are_refused(content):
    said = refusal(forged(content, MANIFEST, lambda stated: stated.update(name="\ud800")))
    assert "manifest.json cannot be read" in said
    said = refusal(forged(content, MANIFEST, lambda stated: stated.update(time=float("nan"))))
    assert "NaN is no number" in said
    name = first(content, "record.json")
    found = problems(forged(content, name, lambda record: record.update(recipe="\ud800")))
    assert f"run {run_of(name)}: its record cannot be read" in found[-1] + found[0]


# What must never run


class _Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("sprung"), "")


def _npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, allow_pickle=True, **arrays)
    return out.getvalue()


def test_a_pickle_among_predictions_is_never_unpickled(content):
    name, labels = first(content, "npz"), np.zeros(2, np.int64)
    inside = _npz(logits=np.array([_Pickled(), 0], object), labels=labels, predicted=labels)
    assert pickle.dumps(_Pickled()) in inside or b"write_text" in inside
    for text in (inside, pickle.dumps(_Pickled())):
        (said,) = problems(packed(signed({**content, name: text})))
        assert said.startswith(f"run {run_of(name)}: predictions.npz ")
    assert not Path("sprung").exists()


def _swapped(content: Members, old: str, new: str) -> Path:
    """A bundle in which a name in all texts is another one, with ids and hashes to match as far as anybody can."""
    return packed(signed({name: text.replace(old.encode(), new.encode()) for name, text in content.items()}))


@pytest.mark.parametrize("trap", ["trap:Gate", "trap.inside:Gate", "antigravity:geohash"])
def test_code_that_a_bundle_names_is_never_imported(content, trap):
    Path("trap.py").write_text(TRAP + GATE)
    before = set(sys.modules)
    for old in ("se", "none", "digits", "resnet20"):
        swapped = {name: text.replace(f'"{old}"'.encode(), f'"{trap}"'.encode()) for name, text in content.items()}
        swapped["study.yaml"] = content["study.yaml"].replace(old.encode(), trap.encode())
        problems(packed(signed(swapped)))
    assert not Path("sprung").exists()
    assert not {"trap", "antigravity"} & (set(sys.modules) - before)


def test_runs_of_somebodys_own_code_are_examined_without_it(tmp_path, monkeypatch, capsys):
    home = tmp_path / "theirs"
    home.mkdir()
    (home / "blocks.py").write_text(GATE)
    monkeypatch.syspath_prepend(str(home))
    plan = made.study(**{**SMALL, "grid": {"dataset": ["digits"], "attention": ["none", "blocks:Gate"]}})
    bundle = made_bundle(plan)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(home)
    (tmp_path / "blocks.py").write_text(TRAP)
    assert verify(bundle) == 0
    said = capsys.readouterr().out
    assert "note    code of their own, which is not looked for here: blocks:Gate" in said
    assert "note    study.yaml names code of its own (blocks:Gate): its cells are not derived" in said
    assert "ok      verdicts told again from the records: digit for digit" in said
    assert not Path("sprung").exists()
    name = next(n for n, text in members(bundle).items() if n.endswith("record.json") and b"blocks:Gate" in text)
    (wrong,) = problems(forged(members(bundle), name, lambda record: record["spec"].update(epochs=4)))
    assert wrong.endswith("another canonical form (epochs)")


# What must never be unpacked


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "c:evil", "..\\evil", "runs/.."])
def test_a_path_that_leads_out_of_the_folder_is_refused(content, name):
    assert "would lie outside of the bundle" in refusal(packed({**content, name: b"evil"}))


@pytest.mark.parametrize("name", ["../evil", "notes.txt", "studies/a/b.jsonl", "0123456789ab/weights.pt"])
def test_a_manifest_names_only_members_that_a_bundle_has(content, name):
    file = forged(content, MANIFEST, lambda stated: stated["files"].update({name: "0" * 64}))
    assert refusal(file) == f"forged.zip: manifest.json: files: {name!r} is no member of a bundle"


def test_a_link_and_a_folder_are_refused(content):
    assert "is no file" in refusal(packed(content, external_attr=(stat.S_IFLNK | 0o777) << 16))
    assert "is no file" in refusal(packed({**content, "folder/": b""}))


def test_a_compressed_member_is_refused(content):
    bomb = {**content, first(content, "record.json"): bytes(1 << 20)}
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        assert "forged.zip: " in refusal(packed(bomb, compress=kind))


def test_members_that_share_their_bytes_are_refused(content):
    """A zip bomb without compression: many names for the same bytes."""
    text = bytearray(packed(content).read_bytes())
    entry = text.rindex(b"PK\1\2")
    size = struct.Struct("<2L")
    text[entry + 20 : entry + 28] = size.pack(1 << 30, 1 << 30)
    Path("huge.zip").write_bytes(text)
    assert "bytes are unpacked" in refusal(Path("huge.zip")) or "at most" in refusal(Path("huge.zip"))


def test_predictions_that_would_unpack_to_more_than_memory_are_refused(content):
    name, out = first(content, "npz"), io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bomb:
        for array in ("logits", "labels", "predicted"):
            with bomb.open(f"{array}.npy", "w", force_zip64=True) as member:
                for _ in range(400):
                    member.write(bytes(1 << 20))
    (said,) = problems(packed(signed({**content, name: out.getvalue()})))
    assert "at most 1,073,741,824 are unpacked" in said


def test_an_array_that_claims_to_be_huge_is_refused(content):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": (1 << 40, 10)})
    out, labels = io.BytesIO(), io.BytesIO()
    np.save(labels, np.zeros(2, np.int64))
    with zipfile.ZipFile(out, "w") as arrays:
        arrays.writestr("logits.npy", header.getvalue())
        arrays.writestr("labels.npy", labels.getvalue())
        arrays.writestr("predicted.npy", labels.getvalue())
    name = first(content, "npz")
    (said,) = problems(packed(signed({**content, name: out.getvalue()})))
    assert "logits.npy has another size than its header says" in said


def test_what_is_no_bundle_is_told_in_a_line(content, attnbench):
    Path("text.zip").write_text("hello")
    Path("empty.zip").write_bytes(b"")
    for name in ("text.zip", "empty.zip", "absent.zip"):
        assert refusal(Path(name)).startswith(f"{name}: ")
    assert "has no manifest.json" in refusal(packed({"notes.txt": b""}))
    Path("tail.zip").write_bytes(packed(content).read_bytes() + b"more")
    assert "something behind its end" in refusal(Path("tail.zip"))
    done = attnbench("verify", "text.zip")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "attnbench: text.zip: is no zip file, or has something behind its end\n"


def test_a_list_of_members_that_is_too_long_is_refused_before_it_is_read():
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 1 << 30, 0, 0)
    with pytest.raises(ValueError, match="a list of members of 1,073,741,824 bytes"):
        archive(io.BytesIO(end), 10, 10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format: 2 is not one of 1"),
        ({"more": 1}, "more: unknown field 'more'"),
        ({"declared": "yes"}, "declared: 'yes' should be a valid boolean"),
        ({"runs": {"a": [1.0]}}, "runs: 'a' has no two times"),
        ({"plan": {}}, "plan.margin: required"),
    ],
    ids=str,
)
def test_a_manifest_is_read_strictly(content, change, said):
    assert said in refusal(forged(content, MANIFEST, lambda stated: stated.update(change)))


def test_a_manifest_that_is_no_mapping_is_refused(content):
    for text in (b"[]", b"{", b"\xff", b"[" * 100_000):
        assert refusal(packed({**content, MANIFEST: text})).startswith("forged.zip: manifest.json ")


def test_nothing_that_strangers_wrote_reaches_a_terminal_as_a_command():
    assert str(failed("a\x1b[2Jb\nc\u202ed")) == "FAILED  a?[2Jb?c?d"
    assert plain("a\x1b[2Jb") == "a?\\[2Jb"


def test_a_manifest_cannot_speak_to_a_terminal_either(content):
    said = refusal(forged(content, MANIFEST, lambda stated: stated["runs"].update({"\x1b[2J": 1})))
    assert "\x1b" not in said
    assert "?[2J" in said


# Whatever else


def leaves(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in JSON."""
    inside = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path, *itertools.chain.from_iterable(leaves(value, (*path, key)) for key, value in inside)]


def _put(path: tuple[Any, ...], value: object, values: Any) -> None:
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = value


HOSTILE: list[Any] = [None, -1, 10**400, 1e308, "", "x:y", [], {}, True, [[]], {"a": {}}]


@pytest.mark.parametrize("member", [MANIFEST, "record.json", "jsonl", "study.yaml"])
def test_no_value_anywhere_makes_verify_fall_over(content, member):
    """A value put anywhere gives a bundle that is refused or examined; anything else is a traceback."""
    rng, name = random.Random(member), first(content, member)
    if member == "study.yaml":
        import yaml

        values, write = yaml.safe_load(content[name]), functools.partial(yaml.safe_dump, sort_keys=False)
    else:
        text = content[name].splitlines()[0] if member == "jsonl" else content[name]
        values, write = json.loads(text), json.dumps
    places = leaves(values)[1:]
    for place in rng.sample(places, min(40, len(places))):
        changed = json.loads(json.dumps(values))
        _put(place, rng.choice(HOSTILE), changed)
        new = {**content, name: f"{write(changed)}\n".encode()}
        with contextlib.suppress(BadBundle):
            problems(packed(new if name == MANIFEST else signed(new)))


def test_no_byte_anywhere_makes_verify_fall_over(content):
    whole, rng = packed(content).read_bytes(), random.Random(0)
    for place in rng.sample(range(len(whole)), 60):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        Path("changed.zip").write_bytes(changed)
        with contextlib.suppress(BadBundle):
            assert problems(Path("changed.zip")) or members(Path("changed.zip")) == content, place


def test_a_bundle_cut_short_anywhere_is_refused(content):
    whole = packed(content).read_bytes()
    for length in range(0, len(whole), len(whole) // 20):
        Path("cut.zip").write_bytes(whole[:length])
        refusal(Path("cut.zip"))


def test_submit_refuses_what_is_no_study():
    Path("text.yaml").write_text("- 1")
    with pytest.raises(AttnbenchError):
        submit(Path("text.yaml"))
