"""A whole reader study in real browsers: two readers, one of whom closes the browser in the middle."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from fetalflex.reader_study.api import create_app
from fetalflex.reader_study.results import Study, render
from fetalflex.reader_study.store import Store
from fetalflex.web.guard import Rules
from tests.fetalflex.reader_study.studies import make
from tests.pages.conftest import served, watched

Shots = Callable[[Page, str], None]
pytestmark = pytest.mark.slow


@pytest.fixture
def study(tmp_path: Path) -> tuple[Store, dict[str, str]]:
    return make(tmp_path / "study")


@pytest.fixture
def address(study: tuple[Store, dict[str, str]]) -> Iterator[str]:
    with served(create_app(study[0], Rules())) as found:
        yield found


def violations(page: Page) -> list[str]:
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in Axe().run(page).response["violations"]]


def begin(page: Page, link: str) -> None:
    page.goto(link)
    expect(page.locator("#consent-text p").first).to_contain_text("fetal ultrasound")
    assert violations(page) == []
    page.check("#agree")
    page.click("#consent-form button")


def at(page: Page, position: int) -> None:
    page.wait_for_selector(f"#reading[data-shown='{position}']")


def answer_by_keys(page: Page, position: int, keys: str) -> None:
    at(page, position)
    for key in keys:
        page.keyboard.press(key)
    page.keyboard.press("Enter")


def test_two_readers_one_of_whom_closes_the_browser_in_the_middle(
    browser: Browser, page: Page, study: tuple[Store, dict[str, str]], address: str, shots: Shots
) -> None:
    store, tokens = study
    links = {name: f"{address}/r/{token}" for name, token in tokens.items()}
    begin(page, links["R01"])
    at(page, 1)
    assert violations(page) == []
    page.locator("#view").focus()
    page.keyboard.press("+")
    page.keyboard.press("w")
    page.keyboard.press("ArrowRight")
    assert float(page.locator("#zoom").input_value()) > 1
    assert page.locator("#window").input_value() == "240"
    page.keyboard.press("0")
    shots(page, "reader-study")
    for position in range(1, 9):
        answer_by_keys(page, position, "r4y")
    at(page, 9)
    page.keyboard.press("s")  # chosen, not sent
    page.context.close()

    second = browser.new_context()
    other = watched(second.new_page())
    other.set_default_timeout(60_000)
    begin(other, links["R02"])
    for position in range(1, 21):  # by the mouse
        at(other, position)
        other.check("input[name=verdict][value=synthetic]")
        other.check("input[name=realism][value='2']")
        other.check("input[name=plane_correct][value=unsure]")
        other.locator("#structure-list input").first.check()
        other.fill("#comment", f"no. {position}: r 5 n")  # keys in a text are text
        other.click("#send")
    expect(other.locator("#done")).to_be_visible()
    assert violations(other) == []
    other.reload()
    expect(other.locator("#done")).to_be_visible()

    again = watched(second.new_page())
    again.set_default_timeout(60_000)
    again.goto(links["R01"])  # the same link, another browser: where it was, with nothing chosen
    at(again, 9)
    expect(again.locator("#where")).to_contain_text("image 9 of 20")
    expect(again.locator("input[name=verdict]:checked")).to_have_count(0)
    for position in range(9, 21):
        answer_by_keys(again, position, "s2n")
    expect(again.locator("#done")).to_be_visible()
    second.close()

    rows = store.rows()
    assert len(rows) == 40
    mine = [r for r in rows if r["reader"] == "R01"]
    assert [(r["verdict"], r["realism"], r["plane_correct"]) for r in mine] == [("real", 4, "yes")] * 8 + [
        ("synthetic", 2, "no")
    ] * 12
    assert {r["comment"] for r in rows if r["reader"] == "R02"} == {f"no. {p}: r 5 n" for p in range(1, 21)}
    assert all(r["seconds"] is not None for r in rows)
    assert "R01 20 of 20" in render(Study("x", 16, 4, 5, store.readers()), rows)


def test_an_answer_from_a_second_window_moves_the_first_one_on(
    browser: Browser, page: Page, study: tuple[Store, dict[str, str]], address: str
) -> None:
    link = f"{address}/r/{study[1]['R01']}"
    begin(page, link)
    at(page, 1)
    second = watched(page.context.new_page())
    second.goto(link)
    answer_by_keys(second, 1, "r5y")
    at(second, 2)
    answer_by_keys(page, 1, "s1n")
    expect(page.locator("#alert")).to_contain_text("answers stay as they are")
    at(page, 2)
    assert [(r["verdict"], r["realism"]) for r in study[0].rows()] == [("real", 5)]


def test_the_page_asks_for_what_is_missing(page: Page, study: tuple[Store, dict[str, str]], address: str) -> None:
    begin(page, f"{address}/r/{study[1]['R01']}")
    answer_by_keys(page, 1, "r")
    assert page.evaluate("document.querySelector('#answer :invalid') !== null")
    assert study[0].rows() == []
