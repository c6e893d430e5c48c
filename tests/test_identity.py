"""A run's name: one for every spelling of a spec, another for every change that can move a number."""

import dataclasses
import keyword
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench import RunSpec, Study
from attnbench.catalogue.refs import Ref, parse
from attnbench.catalogue.registry import ATTENTION, BACKBONES, DATASETS
from attnbench.errors import BadReference, BadSpec
from attnbench.spec.recipes import RECIPES
from attnbench.spec.run import canonical

FIELDS = [field.name for field in dataclasses.fields(RunSpec)]

BASE: dict[str, object] = {
    "dataset": "digits",
    "attention": "se",
    "optimizer": "sgd",
    "val_fraction": 0.1,
    "every": 2,
    "init": "identity",
}
BASE |= {"averaging": 0.2, "progressive": 0.4, "tta": "flip", "seed": 2, "vary": "init"}
BASE |= {"weights": "run:0123456789ab", "freeze": "backbone", "freeze_epochs": 2, "frozen_norm": True}
BASE |= {"backbone_lr": 0.1, "mechanism_lr": 2.0, "head_lr": 3.0, "layer_decay": 0.75}
"""A run in which every field has an effect: tested, so that the limit of test images has one."""

LATER: dict[str, object] = {"every": None, "init": "own", "averaging": 0.0, "progressive": 0.0, "tta": "none"}
LATER |= {"evaluate": "test", "vary": "all", "weights": "none", "freeze": "none", "freeze_epochs": 0}
LATER |= {"frozen_norm": False, **dict.fromkeys(("backbone_lr", "mechanism_lr", "head_lr", "layer_decay"), 1.0)}
"""Fields that came after runs had been stored, as those runs have them."""

CHANGED: dict[str, object] = {"dataset": "FashionMNIST", "attention": "cbam", "backbone": "resnet20"}
CHANGED |= {"site": "stage", "stages": (1,), "epochs": 26, "batch_size": 33, "optimizer": "adamw", "lr": 2e-3}
CHANGED |= {"weight_decay": 0.0, "momentum": 0.8, "schedule": "constant", "warmup": 1.0, "augment": "flip"}
CHANGED |= {"label_smoothing": 0.1, "image_size": 16, "normalise": "0.5 / 0.25", "val_fraction": 0.2}
CHANGED |= {"selection": "best-val", "train_fraction": 0.5, "train_limit": 100, "test_limit": 100}
CHANGED |= {"precision": "fp32", "deterministic": False, "seed": 1, "every": 3, "init": "own"}
CHANGED |= {"averaging": 0.0, "progressive": 0.5, "tta": "none", "evaluate": "val", "vary": "order"}
CHANGED |= {"weights": "run:ba9876543210", "freeze": "all-but-head", "freeze_epochs": 3, "frozen_norm": False}
CHANGED |= {"backbone_lr": 0.2, "mechanism_lr": 1.0, "head_lr": 1.0, "layer_decay": 0.5}

NO_REFERENCES = """
se(variant=official)
se(16)
se(*[1])
se(**{})
se(reduction=1, reduction=2)
se(reduction=8
se(reduction=8))
se)
16
se sse
se(reduction=1+1)
se(reduction=open('x'))
se(reduction=[n for n in ()])
__import__('os').system('true')
se()()
se(reduction=1)(reduction=2)
se(a={"a set", "has no order, so its spelling would change from process to process"})
""".splitlines()  # its first line is empty, which is no reference either
NO_REFERENCES += ["se(reduction=" + "(" * 500 + ")" * 501, "se(reduction=" + "-" * 20_000 + "1)"]

WRONG: dict[str, list[object]] = {
    "epochs": [True, -1, 0, 2.0],
    "lr": ["1", True, 0, math.nan, math.inf],
    "weight_decay": [-1e-4],
    "momentum": [1.0],
    "batch_size": [None],
    "deterministic": [1],
    "seed": [-1],
    "stages": ["1", (0,)],  # they are counted from 1
    "train_fraction": [0, 1.5],
    "optimizer": ["adam"],
    "precision": ["fp8"],
    "augment": ["crop+rotate"],
    "normalise": ["0.5", "0.5 / 0", "nan / 1"],
    "site": ["blok"],
    "warmup": [26.0],
    "selection": ["best-val"],  # without validation images
    "attention": [5, "se(reduction=True)", 'se(reduction="8")', "no_such_module:Gate"],
    "dataset": [None],
}

MINE = """
raise RuntimeError("naming a run must not import this")

class Gate:
    def __init__(self, channels, ratio=4, kind="soft"):
        self.ratio = ratio
"""


def name(**fields: object) -> str:
    return RunSpec(**{"dataset": "digits", **fields}).id


def wrong(**fields: object) -> dict[str, str]:
    with pytest.raises(BadSpec) as caught:
        RunSpec(**{"dataset": "digits", **fields})
    return caught.value.mistakes


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's, `my_gates.blocks`, that cannot be imported."""
    package = tmp_path / "my_gates"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "blocks.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_gates", raising=False)  # another test's
    return package / "blocks.py"


# References

words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
values = numbers | st.none() | st.text() | st.tuples(numbers, st.text())
options = st.dictionaries(words.filter(lambda word: not keyword.iskeyword(word)), values, max_size=4)


@settings(deadline=None)
@given(words, words | st.none(), options)
def test_a_reference_is_read_back_as_it_was_written(module, attribute, given):
    ref = Ref(f"{module}:{attribute}" if attribute else module, tuple(sorted(given.items())))
    assert parse(str(ref)) == ref


@pytest.mark.parametrize("text", NO_REFERENCES, ids=lambda text: text[:30])
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(BadReference):
        parse(text)


def test_an_unquoted_word_is_answered_with_the_quoted_one():
    with pytest.raises(BadReference, match='write variant="official", with quotes'):
        parse("se(variant=official)")


TEXTS = {
    "references": st.text(alphabet="se(a=1,\"'):.[]{}\\\n", max_size=30),
    "compositions": st.text(alphabet="chain(eca, =1\"'):[]\\", max_size=24).map(lambda text: f"chain({text}"),
}


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
@settings(deadline=None)
@given(data=st.data())
def test_any_text_is_a_reference_or_refused_never_a_crash(texts, data):
    try:
        ref = parse(data.draw(texts))
    except BadReference:
        return
    assert parse(str(ref)) == ref


# One run, one name


@pytest.mark.parametrize(
    "spelling",
    [
        {"attention": "SE"},
        {"attention": "se()"},
        {"attention": " se ( reduction = 16 ) "},
        {"attention": "se(reduction=16.0)"},
        {"attention": 'se(variant="paper", reduction=16)'},
        {"attention": 'se(variant="official")'},
        {"dataset": "DIGITS"},
        {"backbone": "ResNet18(stem='cifar')"},
        {"lr": 1},
        {"weight_decay": 0},
        {"momentum": 0.5},
        {"site": "block"},
        {"site": "paper"},
        {"every": 1},
        {"init": "own"},
        {"stages": (2, 1)},
        {"augment": "flip+crop"},
        {"image_size": 8},
        {"normalise": "0.50/.25"},
    ],
    ids=str,
)
def test_every_spelling_of_a_run_has_one_name(spelling):
    fields = {"attention": "se", "lr": 1.0, "weight_decay": 0.0, "augment": "crop+flip", "stages": (1, 2)}
    fields["normalise"] = "0.5 / 0.25"
    assert name(**{**fields, **spelling}) == name(**fields)


@pytest.mark.parametrize(
    "given", [{"site": "stage"}, {"stages": (1,)}, {"every": 2}, {"init": "identity"}, {"momentum": 0.1}], ids=str
)
def test_a_field_without_effect_is_no_part_of_the_name(given):
    assert name(attention="none", optimizer="adamw", **given) == name()


def test_the_record_of_a_name_holds_every_field():
    assert set(canonical(RunSpec(**BASE))) == {*FIELDS, "versions"} - {"evaluate"}  # left out of a run that is tested
    assert "evaluate" in canonical(RunSpec(**BASE, evaluate="val"))


@pytest.mark.parametrize("field", FIELDS)
def test_a_change_of_any_field_is_another_run(field):
    assert RunSpec(**{**BASE, field: CHANGED[field]}).id != RunSpec(**BASE).id


def test_no_two_of_these_changes_are_one_run():
    assert len({RunSpec(**{**BASE, field: value}).id for field, value in CHANGED.items()}) == len(CHANGED)


def test_an_option_that_is_not_the_default_is_another_run():
    assert len({name(attention=arm) for arm in ("se", "se(reduction=8)", 'se(variant="classic")')}) == 3


@pytest.mark.parametrize(
    ("registry", "which"),
    [(ATTENTION, "se"), (BACKBONES, "resnet18"), (DATASETS, "digits")],
)
def test_a_raised_card_version_is_another_run(monkeypatch, registry, which):
    before, entry = name(attention="se"), registry.find(which)
    raised = dataclasses.replace(entry, card=dataclasses.replace(entry.card, version=entry.card.version + 1))
    monkeypatch.setitem(registry._entries, which, raised)
    assert name(attention="se") != before


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_name_is_the_same_in_another_process_whatever_its_hash_seed(hash_seed):
    spec = "RunSpec(dataset='digits', attention='cbam(kernel=3, reduction=8)')"
    code = f"import attnbench; print(attnbench.{spec}.id)"
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert told.stdout.strip() == name(attention="cbam(reduction=8, kernel=3)")


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"dataset": "digits"}, "c7180f935457"),
        ({"dataset": "CIFAR100", "attention": 'se(variant="classic")', "epochs": 30}, "c2ef3db0d209"),
        ({**BASE, **LATER, "dataset": "EuroSAT", "epochs": 6, "augment": "crop+flip", "seed": 4}, "9c85f259610a"),
    ],
)
def test_names_stay_what_they_were_when_runs_were_stored(fields, known):
    """Other names mean that every run stored so far is trained again."""
    assert RunSpec(**fields).id == known


# Somebody's own module


def test_a_users_module_is_named_without_being_imported(mine):
    assert name(attention="my_gates.blocks:Gate(ratio=8)") != name(attention="my_gates.blocks:Gate")
    assert "my_gates.blocks" not in sys.modules


@pytest.mark.parametrize("spelling", ["Gate()", "Gate(ratio=4)", 'Gate(kind="soft", ratio=4)'])
def test_a_users_defaults_are_read_from_the_source(mine, spelling):
    assert name(attention=f"my_gates.blocks:{spelling}") == name(attention="my_gates.blocks:Gate")


def test_a_change_in_a_users_source_is_another_run(mine):
    before = name(attention="my_gates.blocks:Gate(ratio=8)")
    mine.write_text(MINE.replace("self.ratio = ratio", "self.ratio = 2 * ratio"))
    assert name(attention="my_gates.blocks:Gate(ratio=8)") != before
    mine.write_text(MINE)
    assert name(attention="my_gates.blocks:Gate(ratio=8)") == before


def test_an_option_that_a_users_module_lacks_is_named(mine):
    assert "no option 'ration'" in wrong(attention="my_gates.blocks:Gate(ration=8)")["attention"]


# Recipes


def test_an_edited_preset_is_other_runs_and_leaves_other_recipes_alone(monkeypatch: pytest.MonkeyPatch):
    def names(recipe: str) -> set[str]:
        study = Study(name="s", recipe=recipe, base={"dataset": "digits"}, seeds=3)
        return {spec.id for spec in study.runs()}

    fast, standard = names("fast"), names("standard")
    monkeypatch.setitem(RECIPES, "fast", {**RECIPES["fast"], "weight_decay": 0.123})
    assert len(fast) == 3
    assert not fast & names("fast")
    assert standard == names("standard")


# Strict


@pytest.mark.parametrize(("field", "value"), [(field, v) for field, listed in WRONG.items() for v in listed])
def test_a_value_that_cannot_be_is_refused_by_name(field, value):
    assert set(wrong(**{field: value})) == {field}


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("attention", "sse", "'se'"),
        ("dataset", "cifar1o", "'CIFAR10'"),
        ("backbone", "resnet2O", "'resnet20'"),
        ("augment", "crob", "'crop'"),
        ("site", "blok", "'block'"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_one(field, value, meant):
    assert f"did you mean {meant}?" in wrong(**{field: value})[field]


def test_all_mistakes_of_a_run_are_named_at_once():
    fields = {"epochs": -1, "lr": "1", "optimizer": "adam", "attention": "sse", "backbone": "resnet2O"}
    fields |= {"augment": "crob", "normalise": "x"}
    assert set(wrong(**fields)) == set(fields)
