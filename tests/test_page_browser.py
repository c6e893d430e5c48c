"""The page of a report in a real browser, opened as the file that it is."""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import made
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import HANG
from playwright.sync_api import Page

pytestmark = pytest.mark.slow

NAMES = (
    "<img src=x onerror=hacked=1>",
    "<script>hacked=1</script>",
    "<b>bold</b>",
    "a & b",
    "![x](x.png)",
    "d",
    "e",
    "f",
)
PATIENCE = 1000 * HANG  # ms
FOCUSABLE = "a[href], button, summary, input, select, textarea, [tabindex]:not([tabindex='-1'])"
OPEN = "for (const one of document.querySelectorAll('details.cell')) one.open = true"
KINDS = {"better", "worse", "equivalent"}


@dataclass
class Opened:
    """A page that has drawn its figures, and what it said and asked for meanwhile."""

    page: Page
    url: str
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A page with everything, and one of a single seed."""
    folder, found = tmp_path_factory.mktemp("pages"), {}
    for name, seeds in (("full", 6), ("one seed", 1)):
        study = made.study(name, seeds=seeds)
        for record in made.fill(folder / name, study, names=NAMES):
            if record.spec["attention"] == "se":
                made.gate(folder / name, record, "mean", -1.0 - record.spec["seed"])
        found[name] = folder / f"{name}.html"
        found[name].write_text(made.rendered(study, folder / name))
    return found


@pytest.fixture(scope="module")
def opened(browser, files) -> Callable[..., Opened]:
    def show(name: str, **how: object) -> Opened:
        page = browser.new_page(**how)
        page.set_default_timeout(PATIENCE)
        found = Opened(page, files[name].as_uri())
        page.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda problem: found.said.append(f"error: {problem}"))
        page.on("request", lambda request: found.asked.append(request.url))
        page.goto(found.url)
        page.evaluate(OPEN)
        for _ in range(PATIENCE // 200):
            if found.said or page.locator("html[data-drawn=all]").count():
                break
            page.wait_for_timeout(200)
        return found

    return show


@pytest.fixture(scope="module")
def full(opened) -> Opened:
    return opened("full", viewport={"width": 1400, "height": 1000})


@pytest.fixture
def page(full) -> Iterator[Page]:
    """The page with everything, on a light screen."""
    full.page.emulate_media(media="screen", color_scheme="light")
    yield full.page
    full.page.mouse.move(0, 0)


@pytest.mark.parametrize("name", ["full", "one seed"])
def test_the_page_draws_every_figure_in_silence_and_asks_for_nothing(opened, full, name):
    found = full if name == "full" else opened(name)
    assert found.said == []
    assert found.asked == [found.url]
    assert found.page.locator("html").get_attribute("data-drawn") == "all"
    marks = found.page.eval_on_selector_all(
        ".chart", "all => all.map(one => one.querySelectorAll('svg [role=graphics-symbol]').length)"
    )
    assert marks
    assert min(marks) > 0


def test_a_figure_has_a_mark_for_each_row(page):
    rows, drawn = page.evaluate("""async () => {
        const held = JSON.parse(await unpacked("specs"))["01-seeds"].datasets;
        return [held.rows.length, document.getElementById("01-seeds").querySelectorAll("svg .mark-symbol path").length];
    }""")
    assert rows == 18
    assert drawn == rows


def column(page: Page, head: int) -> tuple[list[str], str | None]:
    """The texts of a column of the main table, and how its heading says that it is sorted."""
    texts = page.locator(f"#table tbody tr > :nth-child({head})").all_inner_texts()
    return texts, page.locator(f"#table thead th:nth-child({head})").get_attribute("aria-sort")


def press(page: Page, head: int) -> None:
    page.locator(f"#table thead th:nth-child({head}) button").click()


@pytest.mark.parametrize("head", [4, 5, 6, 7, 8, 9, 10, 11, 12])
def test_a_heading_sorts_by_numbers_both_ways_with_what_is_empty_last(page, head):
    for way in ("ascending", "descending"):
        press(page, head)
        texts, said = column(page, head)
        filled = [text for text in texts if text]
        numbers = [float(re.findall(r"[-+]?[\d.]+", text)[0]) for text in filled]
        assert said == way
        assert numbers == sorted(numbers, reverse=way == "descending")
        assert texts == filled + [""] * (len(texts) - len(filled))
    assert page.locator("#table th[aria-sort]").count() == 1


@pytest.mark.parametrize("head", [1, 2, 3])
def test_a_heading_sorts_by_words(page, head):
    press(page, head)
    texts = [text for text in column(page, head)[0] if text]
    assert [text.lower() for text in texts] == sorted(text.lower() for text in texts)


def test_rows_stay_whole_when_they_are_sorted(page):
    before = set(page.locator("#table tbody tr").all_inner_texts())
    press(page, 4)
    assert set(page.locator("#table tbody tr").all_inner_texts()) == before


def test_the_keyboard_reaches_a_heading_shows_where_it_is_and_sorts(page):
    page.locator("#table .wide").focus()
    for _ in range(4):
        page.keyboard.press("Tab")
    here = "document.activeElement"
    assert page.evaluate(f"{here}.textContent") == "to none"
    assert page.evaluate(f"getComputedStyle({here}).outlineStyle") == "solid"
    was = column(page, 4)[1]
    page.keyboard.press("Enter")
    first = column(page, 4)[1]
    page.keyboard.press("Space")
    assert {first, column(page, 4)[1]} == {"ascending", "descending"} != {was}


def test_everything_that_takes_the_focus_has_a_name(page):
    names = page.eval_on_selector_all(
        FOCUSABLE, "all => all.map(one => [one.tagName, (one.getAttribute('aria-label') || one.textContent).trim()])"
    )
    assert [tag for tag, name in names if not name] == []
    assert {tag for tag, _ in names} >= {"A", "BUTTON", "SUMMARY", "DIV"}


def test_a_drawn_figure_is_still_named_by_its_title_and_words(page):
    found = page.eval_on_selector_all(
        "figure",
        """all => all.map(one => [
            one.querySelector(".chart").getAttribute("aria-label"),
            `${one.querySelector("h3").textContent}: ${one.querySelector("details p").textContent}`,
        ])""",
    )
    assert [name for name, said in found if name != said] == []


def test_colour_stands_only_where_the_verdict_is_one(page):
    rows = page.eval_on_selector_all(
        "#table tbody tr",
        """all => all.map(row => [
            row.cells[2].innerText.split(",")[0], [...row.querySelectorAll("[class]")].map(one => one.className),
        ])""",
    )
    for kind, classes in rows:
        assert KINDS & set(classes) == KINDS & {kind}
    assert {kind for kind, _ in rows} == {*KINDS, "undecided", ""}
    badges = page.eval_on_selector_all("li .badge", "all => all.map(one => [one.className, one.textContent])")
    assert all(classes == f"badge {kind}" for classes, kind in badges)
    decided = [kind for kind, _ in rows if kind in KINDS]
    assert sorted(kind for _, kind in badges if kind in KINDS) == sorted(decided)
    everywhere = 4 * len(decided)  # a sentence, a word of the matrix, and a verdict and a difference of the table
    assert page.locator(", ".join(f".{kind}" for kind in KINDS)).count() == everywhere


def test_a_class_name_that_is_html_creates_nothing(page):
    chart = page.locator("[id='01-classes'] .chart")
    labels = chart.locator("svg text").all_text_contents()
    assert {name for name in NAMES[:-1] if not any(label.startswith(name[:12]) for label in labels)} == set()
    chart.locator("svg .mark-symbol path").first.hover()
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert NAMES[0] in tooltip.inner_text()
    made_of = page.evaluate("[...new Set([...document.body.querySelectorAll('*')].map(one => one.localName))]")
    assert {"img", "b", "iframe", "object"}.isdisjoint(made_of)
    assert page.evaluate("typeof hacked") == "undefined"


def test_a_phone_scrolls_the_page_only_down(opened):
    found = opened(
        "full", viewport={"width": 360, "height": 740}, device_scale_factor=2, is_mobile=True, has_touch=True
    )
    found.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert found.said == []
    assert found.page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
    wide = found.page.eval_on_selector_all(".chart svg", "all => all.map(one => one.getBoundingClientRect().right)")
    assert max(wide) <= 360


def test_the_evidence_of_a_closed_cell_is_drawn_when_somebody_comes_to_it(browser, files):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(files["full"].as_uri())
    page.locator("html[data-drawn=open]").wait_for()
    assert page.locator("#cell-2 .chart svg").count() == 0
    page.locator(".matrix thead a").nth(1).click()
    page.locator("html[data-drawn=all]").wait_for()
    assert page.locator("#cell-2 .chart svg").count() == page.locator("#cell-2 .chart").count() > 5
    page.close()


def test_a_table_and_a_figure_are_saved_as_they_stand_there(page):
    with page.expect_download() as found:
        page.locator("#table .save").click()
    rows = list(csv.reader(Path(found.value.path()).read_text().splitlines()))
    assert found.value.suggested_filename.endswith(".csv")
    assert [row[0] for row in rows[1:]] == column(page, 1)[0]
    assert [row[3].lstrip("'") for row in rows[1:]] == column(page, 4)[0]
    with page.expect_download() as found:
        page.locator("[id='01-seeds'] .save").click()
    drawn = ElementTree.parse(found.value.path()).getroot()
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert "se" in {element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    found = Axe().run(page).response
    told = [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found["violations"]]
    serious = [each["id"] for each in found["violations"] if each["impact"] in ("serious", "critical")]
    assert serious == [], told
    assert len(found["passes"]) > 10


@pytest.mark.parametrize("width", [1440, 800, 380])
def test_the_first_screen_holds_the_conclusion_and_cuts_no_name(opened, width):
    page = opened("full", viewport={"width": width, "height": 900}).page
    assert page.locator(".headline").bounding_box()["y"] < 900
    first = page.locator(".matrix tbody tr").first.locator("td, th")
    boxes = [first.nth(place).bounding_box() for place in range(2)]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] < 900 for box in boxes)
    names = page.eval_on_selector_all(
        "th[scope=row]", "all => all.map(one => [one.textContent, one.scrollWidth - one.clientWidth])"
    )
    assert [name for name, beyond in names if beyond > 0] == []


def luminance(colour: str) -> float:
    """0 for black to 1 for white."""
    return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 765


def colours(page: Page) -> tuple[float, set[float]]:
    """How light the ground is, and the texts on it: the page's own and those of the figures."""
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    texts = page.eval_on_selector_all(".chart svg text", "all => all.map(one => getComputedStyle(one).fill)")
    ink = page.evaluate("getComputedStyle(document.body).color")
    return luminance(ground), {luminance(text) for text in [*texts, ink]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_figures_stand_out_from_the_ground_by_day_and_night(page, scheme):
    page.emulate_media(color_scheme=scheme)
    ground, texts = colours(page)
    assert (ground < 0.15) == (scheme == "dark")
    assert all(abs(text - ground) > 0.6 for text in texts)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_there_is_black_on_white_and_no_navigation(page, scheme):
    page.emulate_media(media="print", color_scheme=scheme)
    ground, texts = colours(page)
    assert (ground, max(texts)) == (1.0, 0.0)
    assert [page.locator(hidden).is_visible() for hidden in ("nav", ".skip")] == [False, False]
    assert page.locator("#table table").is_visible()
