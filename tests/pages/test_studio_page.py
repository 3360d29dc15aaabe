"""The studio in a real browser: what a person does, with mouse and with keys alone."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from fetalflex.anatomy.layout import Layout
from tests.fetalflex.studio.rooms import head, running
from tests.pages.conftest import served

Shots = Callable[[Page, str], None]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running() as app, served(app) as found:
        yield found


@pytest.fixture
def studio(page: Page, address: str, tmp_path: Path) -> Page:
    """A window with a head of 22 weeks before the user."""
    page.goto(address)
    page.wait_for_selector("html[data-ready=true]")
    (tmp_path / "layout.json").write_text(head().to_json())
    page.set_input_files("#layout-file", tmp_path / "layout.json")
    page.wait_for_selector("#stage .object[data-index='2']")
    return page


def width(page: Page) -> float:
    """Return the atrial width as the page states it."""
    return float(page.inner_text("tr[data-name='atrial-width'] td.value").split("mm")[0].strip("▲▼ "))


def make(page: Page, kind: str) -> None:
    page.click(f"#{kind}")
    expect(page.locator("#status")).to_have_text("The image is there.")


def violations(page: Page) -> list[str]:
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in Axe().run(page).response["violations"]]


def drag(page: Page, selector: str, dx: float, dy: float) -> None:
    box = page.locator(selector).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for k in range(1, 6):
        page.mouse.move(x + dx * k / 5, y + dy * k / 5)
    page.mouse.up()


def exported(page: Page, link: str) -> bytes:
    with page.expect_download() as waiting:
        page.click(link)
    return Path(waiting.value.path()).read_bytes()


def test_generate_drag_counterfactual_export_and_open_again(studio: Page, tmp_path: Path, shots: Shots) -> None:
    make(studio, "generate")
    shots(studio, "studio-generated")
    before = width(studio)
    studio.click("#structures li:nth-child(3) button")
    with studio.expect_response("**/api/edit"):
        drag(studio, "#stage .handle[data-u='0'][data-v='1']", -14, 34)
    expect(studio.locator("tr[data-name='atrial-width']")).to_have_class("high")
    assert width(studio) > max(10, before)
    shots(studio, "studio-dragged")
    make(studio, "counterfactual")
    expect(studio.locator("#compare-before")).to_be_visible()
    studio.locator("#swipe").fill("30")
    shots(studio, "studio-before-after")
    studio.click("#show-change")
    expect(studio.locator("#compare-after")).to_have_attribute("alt", "Difference, grey is no change")
    layout = Layout.from_json(exported(studio, "#x-layout").decode())
    assert layout.find("lateral-ventricle").edited  # type: ignore[union-attr]
    assert exported(studio, "#x-png").startswith(b"\x89PNG")
    assert exported(studio, "#x-dicom").startswith(b"PK")
    assert "--to layout.json" in studio.inner_text("#command")
    wide = width(studio)
    (tmp_path / "again.json").write_text(layout.to_json())
    studio.set_input_files("#layout-file", tmp_path / "again.json")
    expect(studio.locator("#history li")).to_have_count(2)
    expect(studio.locator("#counterfactual")).to_be_disabled()
    assert width(studio) == wide


def test_ventriculomegaly_of_a_given_image_takes_six_clicks(studio: Page, shots: Shots) -> None:
    make(studio, "generate")  # the given image
    clicks = 0
    studio.select_option("#anomaly", "ventriculomegaly")
    clicks += 2  # the list, and the entry
    field = studio.locator("#anomalies input[type=number]")
    field.click()
    clicks += 1
    field.fill("14")
    expect(studio.locator("tr[data-name='atrial-width'] td small").first).to_have_text("moderate ventriculomegaly")
    expect(studio.locator("tr[data-name='atrial-width'] td.value")).to_contain_text("14.")
    make(studio, "counterfactual")
    clicks += 1
    expect(studio.locator("#compare-before")).to_be_visible()
    shots(studio, "studio-ventriculomegaly")
    assert clicks + 2 <= 6  # with 'Open image…' and the file


def test_everything_can_be_done_by_keys_alone(studio: Page) -> None:
    ventricle = "#stage .object[data-index='2']"
    for _ in range(60):
        studio.keyboard.press("Tab")
        if studio.evaluate("document.activeElement.dataset.index") == "2":
            break
    expect(studio.locator(ventricle)).to_be_focused()
    start = studio.locator(ventricle).get_attribute("aria-label")

    def press(key: str) -> str:
        with studio.expect_response("**/api/*"):
            studio.keyboard.press(key)
        expect(studio.locator(ventricle)).not_to_have_attribute("aria-label", "")
        return studio.evaluate("document.querySelector(\"#stage .object[data-index='2']\").getAttribute('aria-label')")  # type: ignore[no-any-return]

    before = width(studio)
    for key in ("ArrowRight", "Shift+ArrowUp", "]"):
        press(key)
        expect(studio.locator(ventricle)).to_be_focused()
    expect(studio.locator(ventricle)).not_to_have_attribute("aria-label", start or "")
    for _ in range(3):
        press("Shift+ArrowUp")
    assert width(studio) > before
    for _ in range(6):
        studio.keyboard.press("Control+z")  # faster than the answers come: no step is lost, none overtakes a change
    expect(studio.locator(ventricle)).to_have_attribute("aria-label", start or "")
    studio.keyboard.press("g")
    expect(studio.locator("#status")).to_have_text("The image is there.")
    studio.locator(ventricle).focus()
    studio.keyboard.press("Delete")
    expect(studio.locator("#stage .object")).to_have_count(2)
    studio.keyboard.press("c")
    expect(studio.locator("#compare-before")).to_be_visible()


def test_a_mask_is_painted_by_mouse_and_by_keys(studio: Page) -> None:
    studio.click("#structures li:nth-child(2) button")
    studio.keyboard.press("p")
    with studio.expect_response("**/api/edit"):
        drag(studio, "#stage .object[data-index='1'] path", 60, 0)
    expect(studio.locator("#structures li:nth-child(2)")).to_contain_text("(edited)")
    long = studio.locator("#stage .object[data-index='1']").get_attribute("aria-label")
    studio.locator("#stage").focus()
    for _ in range(3):
        studio.keyboard.press("ArrowDown")
    with studio.expect_response("**/api/edit"):
        studio.keyboard.press("Space")
    expect(studio.locator("#stage .object[data-index='1']")).not_to_have_attribute("aria-label", long or "")


def test_an_image_on_its_way_can_be_cancelled_and_an_error_is_a_sentence(studio: Page, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(json.dumps({"plane": "transventricular"}))
    studio.set_input_files("#layout-file", tmp_path / "bad.json")
    expect(studio.locator("#alert")).to_contain_text("layout JSON cannot be read")
    studio.click("#generate")
    studio.evaluate("document.getElementById('cancel').click()")
    expect(studio.locator("#generate")).to_be_enabled()


def test_axe_finds_nothing_on_any_view(studio: Page) -> None:
    assert violations(studio) == []
    make(studio, "generate")
    studio.select_option("#anomaly", "ventriculomegaly")
    studio.wait_for_selector("#anomalies input")
    make(studio, "counterfactual")
    for view in ("#show-swipe", "#show-change", "#show-result", "#show-edit"):
        studio.click(view)
        assert violations(studio) == []
    studio.click("#help-open")
    assert violations(studio) == []


def test_ending_a_sitting_says_that_nothing_is_kept(studio: Page) -> None:
    studio.click("#end")
    expect(studio.locator("body")).to_contain_text("Nothing of it was kept")
    assert violations(studio) == []
    studio.click("a")
    studio.wait_for_selector("html[data-ready=true]")
    expect(studio.locator("#history li")).to_have_count(0)
