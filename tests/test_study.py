"""Study files: what they ask for, and every mistake in them at once, each with its line."""

import contextlib
import itertools
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, repository_study
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnbench import Study, demo
from attnbench.errors import BadStudy
from attnbench.spec.recipes import RECIPES

FILE = Path("study.yaml")
HEAD = "name: s\nbase: {dataset: digits}\n"
"""Two lines that are a whole study; what follows them stands in line 3."""


def load(text: str | bytes) -> Study:
    FILE.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Study.load(FILE)


def mistakes(text: str | bytes) -> list[str]:
    with pytest.raises(BadStudy) as caught:
        load(text)
    return str(caught.value).splitlines()


# What a study asks for


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_study_of_the_repository_loads(file):
    assert repository_study(file).runs()


def test_the_demo_is_four_arms_by_five_seeds():
    study = Study.load(demo.STUDY)
    found = {(spec.attention, spec.seed) for spec in study.runs()}
    assert found == set(itertools.product(["none", "se", "cbam", "constant(value=0)"], range(5)))


def test_the_smallest_study_is_one_run_of_the_classic_recipe():
    (spec,) = load(HEAD).runs()
    assert (spec.dataset, spec.attention, spec.seed, spec.optimizer) == ("digits", "none", 0, "adamw")


def test_seeds_vary_slowest():
    runs = load(HEAD + "grid: {attention: [none, se], lr: [0.1, 0.2]}\nseeds: [7, 3]\n").runs()
    cells = [("none", 0.1), ("none", 0.2), ("se", 0.1), ("se", 0.2)]
    assert [(s.seed, s.attention, s.lr) for s in runs] == [(seed, *cell) for seed in (7, 3) for cell in cells]


def test_a_rule_may_need_what_the_base_says():
    rule = "where: [{if: {attention: se}, set: {vary: augment}}]\n"
    head = HEAD.replace("dataset: digits", "dataset: digits, augment: flip")
    assert [spec.vary for spec in load(f"{head}grid: {{attention: [none, se]}}\n{rule}").runs()] == ["all", "augment"]


def test_cells_that_are_one_run_are_run_once():
    grid = "{attention: [none, se, SE, se(), se(reduction=16)], image_size: [8, null]}"
    runs = load(f"{HEAD}grid: {grid}\nseeds: 3\n").runs()
    assert len(runs) == len({spec.id for spec in runs}) == 2 * 3


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "0.001", "1.0e-3", "+1e-3", ".1e-2"])
def test_a_number_needs_no_point(number):
    assert load(f"name: s\nbase: {{dataset: digits, lr: {number}}}\n").runs()[0].lr == 0.001


@pytest.mark.parametrize(
    ("keys", "seeds", "looks"),
    [
        ("", 1, None),
        ("looks: [5, 8]", 8, [5, 8]),
        ("seeds: 9\nlooks: [5, 8]", 9, [5, 8]),
        ("seeds: [4, 3, 9]\nlooks: [2, 3]", 3, [2, 3]),
        ("seeds: 4\nlooks: any", 4, "any"),
    ],
)
def test_without_seeds_there_are_as_many_as_the_last_look(keys, seeds, looks):
    study = load(f"{HEAD}{keys}\n")
    assert (len(study.seed_list), study.looks) == (seeds, looks)


@pytest.mark.parametrize("seeds", ["7", "[0, 1, 2]", "1"])
def test_a_look_beyond_the_seeds_is_a_mistake_of_the_looks(seeds):
    for looks in ("[5, 8]", *(["any"] if seeds == "1" else [])):
        assert [said.split(": ")[:2] for said in mistakes(f"{HEAD}seeds: {seeds}\nlooks: {looks}\n")] == [
            [f"{FILE}:4", "looks"]
        ]


def test_stages_are_a_list_in_a_file():
    runs = load(HEAD + "grid: {attention: [se], stages: [[1, 2], null]}\nbaseline: se\n").runs()
    assert [spec.stages for spec in runs] == [(1, 2), None]


def test_the_recipe_yields_to_the_data_sets_card_and_both_to_the_user():
    file = "name: s\nrecipe: fast\nbase: {dataset: digits%s}\n"
    (card,) = load(file % "").runs()
    (user,) = load(file % ", augment: flip, image_size: 16, epochs: 3").runs()
    assert RECIPES["fast"]["augment"] == "crop+flip"
    assert (card.augment, card.image_size, card.epochs) == ("none", 8, RECIPES["fast"]["epochs"])
    assert (user.augment, user.image_size, user.epochs) == ("flip", 16, 3)


def test_each_data_set_of_a_grid_has_its_own_cards_values():
    runs = load("name: s\nrecipe: fast\ngrid: {dataset: [digits, EuroSAT]}\n").runs()
    assert [(s.image_size, s.augment) for s in runs] == [(8, "none"), (64, "crop+flip")]


# Overrides


@pytest.mark.parametrize(
    "condition",
    [
        "attention: se",
        "attention: SE(reduction=16)",
        "attention: se, lr: 1",
        "attention: se, backbone: ResNet20",
        "attention: se, dataset: DIGITS",
        "attention: se, optimizer: sgd",  # from the recipe: it is the merged cell that matches
    ],
)
def test_an_override_is_for_the_cells_that_match(condition):
    cells = "base: {dataset: digits, lr: 1.0, backbone: resnet20}\ngrid: {attention: [none, se]}\n"
    rule = f"where:\n  - if: {{{condition}}}\n    set: {{epochs: 77}}\n"
    runs = load(f"name: s\nrecipe: fast\n{cells}{rule}").runs()
    assert [spec.epochs for spec in runs] == [RECIPES["fast"]["epochs"], 77]


def test_the_last_of_two_overrides_wins():
    rules = "where:\n  - {if: {dataset: digits}, set: {lr: 0.2, epochs: 2}}\n  - {set: {lr: 0.3}}\n"
    (spec,) = load(HEAD + rules).runs()
    assert (spec.lr, spec.epochs) == (0.3, 2)


# Mistakes


WRONG_LINES = """\
seeds: true
seeds: -1
seeds: 2.0
seeds: [1, 1]
seeds: [-1]
seeds: []
margin: 0
margin: .nan
margin: .inf
margin: wide
pairing: pared
failures: best
looks: []
looks: 5
looks: all
looks: [1, 5]
looks: [5, 5]
looks: [8, 5]
looks: [5, 8.0]
looks: [5, true]
looks: any # how many seeds at most is left open
recipe: fastt
baseline: se
baseline: no ne
grid: {attention: []}
grid: {attention: se}
grid: {attention: [none, 5]}
grid: {attention: [none, ~]}
grid: {attention: [none, {se: 1}]}
grid: {epochs: [true]}
grid: {lr: [.nan]}
grid: {seed: [1]}
grid: {augment: [crop+rotate]}
grid: {normalise: [half]}
grid: {stages: [1]}
where: {if: {}}
where: [{if: {lr: 0.1}, sett: {}}]
where: [{if: {dataset: digitz}, set: {epochs: 1}}] # would match nothing, in silence
where: [{if: {epochs: '3'}, set: {epochs: 1}}]
where: [{set: {epochs: true}}]
where: [{if: {attention: se(reduction=7)}, set: {epochs: 1}}] # the grid has none
tuned: [5]
tuned: [[lr]]
jobs: 2
1: 2
base: {dataset: EuroSAT} # a second time
started: 2026-13-45 # looks like a date to YAML, and is none
margin: 0b_ # looks like a number, and is none
""".splitlines()

MANY = """\
name: s
recipee: fast
base:
  dataset: digitz
  epoch: 3
  lr: "1"
  seed: 4
grid:
  atention: [none, se]
  attention:
    - none
    - sse
  epochs: [true, -1, 4]
  backbone: resnet20
where:
  - if: {batchsize: 32}
    set:
      optimizer: adam
margin: -1
pairing: both
seeds: 0
"""


def test_every_mistake_of_a_file_is_named_at_once_with_its_line_and_the_nearest_name():
    expected = [
        (2, "'recipee'", "'recipe'"),
        (4, "'digitz'", "'digits'"),
        (5, "'epoch'", "'epochs'"),
        (6, "base.lr", "number"),
        (7, "seed", "'seeds'"),
        (9, "'atention'", "'attention'"),
        (12, "'sse'", "'se'"),
        (13, "epochs[0]: True", "integer"),
        (13, "epochs[1]: -1", "1"),
        (14, "grid.backbone", "list"),
        (16, "'batchsize'", "'batch_size'"),
        (18, "'adam'", "'adamw'"),
        (19, "margin: -1", "0"),
        (20, "'both'", "'independent'"),
        (21, "seeds: 0", "1"),
    ]
    found = mistakes(MANY)
    for line, named, instead in expected:
        said = [each for each in found if each.startswith(f"{FILE}:{line}: ")]
        assert any(named in each and instead in each for each in said), f"line {line}: {said}"
    assert len(found) == len(expected)


@pytest.mark.parametrize("line", WRONG_LINES)
def test_a_mistake_is_refused_with_its_line(line):
    found = mistakes(HEAD + line)
    assert all(said.startswith(f"{FILE}:3: ") for said in found)
    assert found


@pytest.mark.parametrize(
    ("first", "second"),
    [("epochs: -1", "augment: crob"), ("epochs: -1", "normalise: x"), ("lr: 0", "site: blok")],
)
def test_mistakes_of_different_kinds_in_one_cell_are_all_named(first, second):
    found = mistakes(f"{HEAD}grid:\n  {first.replace(': ', ': [')}]\n  {second.replace(': ', ': [')}]\n")
    assert [said.split(":")[1] for said in found] == ["4", "5"]


@pytest.mark.parametrize("other", ["margin: -1", "seeds: 0", "jobs: 2", "base: {dataset: digits}"])
def test_a_wrong_baseline_is_named_beside_other_mistakes(other):
    found = mistakes(f"{HEAD}baseline: se\n{other}\n")
    assert [said.split(": ")[0] for said in found] == [f"{FILE}:3", f"{FILE}:4"]


def test_an_unquoted_name_with_options_gets_a_hint_about_quotes():
    found = mistakes(HEAD + 'grid:\n  attention: [none, se(reduction=8, variant="classic")]\n')
    assert found[0].startswith(f"{FILE}:4: grid.attention[1]: 'se(reduction=8' cannot be read")
    assert "quotes" in found[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "name: required"),
        ("# nothing but a comment\n", "name: required"),
        ("- name: s\n", "a study is a mapping with the keys name, recipe, base"),
        ("just words\n", "a study is a mapping"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff", "no text file"),
        (b"\x00\x01\x02", "special characters are not allowed"),
        ("name: [s\n", "study.yaml:2"),
        ("name: s\n---\nname: t\n", "another document"),
        ("name: !!python/name:os.getcwd s\n", "python/name"),
        ("name: &a [*a]\n", "nested too deeply"),
        ("name: " + "[" * 5000, "nested too deeply"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_file_that_is_no_study_is_refused(content, said):
    found = mistakes(content)
    assert said in found[0]
    assert all(line.startswith(str(FILE)) for line in found)


AMBIGUOUS = {
    "010": "write 10 or",
    "-010": "write -10 or",
    "007": "write 7 or",
    "08": "write 8 or",
    "1_000": "write 1000 or",
    "0o17": 'write "0o17" in quotes',
    "0b11": 'write "0b11" in quotes',
    "1:30": 'write "1:30" in quotes',
    "yes": "write true or",
    "No": "write false or",
    "ON": "write true or",
    "off": "write false or",
    "2026-01-02": "in quotes",
}
"""Plain words that YAML 1.1 and YAML 1.2 read differently, and what is advised."""


@pytest.mark.parametrize(("word", "advice"), AMBIGUOUS.items(), ids=AMBIGUOUS)
@pytest.mark.parametrize(
    ("text", "place"),
    [("base: {dataset: digits, epochs: %s}", "base.epochs"), ("grid: {epochs: [1, %s]}", "grid.epochs[1]")],
)
def test_a_word_that_yaml_versions_read_differently_is_refused_with_its_line_and_what_to_write(
    word, advice, text, place
):
    (said,) = [said for said in mistakes("name: s\n\n" + text % word) if place in said]
    assert said.startswith(f"{FILE}:3: {place}: {word} is read differently by YAML 1.1 and YAML 1.2; ")
    assert advice in said


def test_all_such_words_are_named_beside_other_mistakes():
    found = mistakes("name: 010\nbase: {dataset: digits, epochs: 0}\nyes: 1\nmargin: 1_0\n")
    assert [said.split(": ")[:2] for said in found] == [
        [f"{FILE}:1", "name"], [f"{FILE}:2", "base.epochs"], [f"{FILE}:3", "yes"], [f"{FILE}:4", "margin"],
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["010", "yes", "1:30", "2026-01-02", "null", "1"])
def test_a_word_in_quotes_is_a_text(word):
    assert load(f"name: '{word}'\nbase: {{dataset: digits}}\n").name == word


@pytest.mark.parametrize(
    ("number", "value"), [("10", 10), ("+10", 10), ("0", 0), ("0x1F", 31), ("-0", 0)], ids=lambda value: str(value)
)
def test_integers_are_those_of_yaml_1_2(number, value):
    assert load(f"name: s\nbase: {{dataset: digits}}\nseeds: [{number}]\n").seed_list == [value]


def test_a_file_in_another_encoding_is_refused_with_the_line_of_its_first_odd_byte_and_what_to_do():
    (latin,) = mistakes(HEAD.encode() + "# größer\n".encode("latin-1"))
    assert latin == f"{FILE}:3: byte 0xf6 in this line is not UTF-8 (Latin-1?); save the file as UTF-8"
    (wide,) = mistakes(HEAD.encode("utf-16"))
    assert wide == f"{FILE}:1: this file is UTF-16; save it as UTF-8"
    assert load(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode()).name == "s"


def test_aliases_that_unfold_without_end_are_refused_at_once():
    layers = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 12))
    (said,) = mistakes(f"x0: &x0 [1]\n{layers}")
    assert "more than 100,000 values" in said


def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    for path, said in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "directory")):
        with pytest.raises(BadStudy, match=said):
            Study.load(path)


def test_a_study_made_in_python_is_as_strict():
    with pytest.raises(BadStudy) as caught:
        Study(name="s", base={"dataset": "digits", "epochs": True}, seeds=0)
    assert "base.epochs" in str(caught.value)
    assert "seeds" in str(caught.value)


def test_the_command_says_every_mistake_in_a_line_of_its_own_and_exits_with_2(attnbench):
    FILE.write_text(MANY)
    told = attnbench("study", FILE, "--dry-run")
    assert told.returncode == 2
    assert told.stderr.splitlines() == [f"attnbench: {line}" for line in mistakes(MANY)]


scalars = st.sampled_from(["none", "se", "1e-3", "0x_", "1_", ".inf", "~", "2026-02-30", "1:99", "'", "="])
texts = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(lambda of: f"[{', '.join(of)}]"))
keys = st.sampled_from(["name", "recipe", "base", "grid", "where", "seeds", "<<", "? x", "&a b", "*a"])
lines = st.tuples(keys, texts).map(": ".join) | st.text(max_size=12)
FUZZ = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.lists(lines, max_size=6))
@FUZZ
def test_any_text_is_a_study_or_refused_never_a_crash(text):
    with contextlib.suppress(BadStudy):
        load("\n".join(text))


leaves = st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.sampled_from(["digits", "x("])
names = st.sampled_from(["if", "set", "lr", "dataset", "attention", "stages", "site"])
nested = st.recursive(leaves, lambda of: st.lists(of, max_size=2) | st.dictionaries(names, of, max_size=3))


@given(st.dictionaries(st.sampled_from(["base", "grid", "where"]), nested))
@FUZZ
def test_any_values_are_a_study_or_refused_never_a_crash(found):
    with contextlib.suppress(BadStudy):
        load(yaml.safe_dump({"name": "s", "base": {"dataset": "digits"}, **found}))
