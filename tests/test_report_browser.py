"""The report in a real browser, opened from disk with the network off, by someone who has never seen it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.reported import OUTSIDE, QUOTED, WRITTEN

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="needs Chromium: apt-get install chromium"
)
WIDE, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=800)
CONTRAST = """() => {
  const numbers = (text) => text.match(/[0-9.]+/g).slice(0, 3).map((value) => Number(value) / 255);
  const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = (text) => numbers(text).map(linear).reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const back = light(getComputedStyle(document.body).backgroundColor);
  return ['body', '.muted', '#statuses th', '.warning'].map((found) => {
    const text = light(getComputedStyle(document.querySelector(found)).color);
    return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05); }); }"""
WIDEST = """() => [...document.querySelectorAll('body *')].filter((found) => !found.closest('.scroll, nav'))
  .map((found) => found.getBoundingClientRect().right).reduce((one, other) => Math.max(one, other), 0)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, reported: Path) -> Iterator[Page]:
    """The report at 1280 px. Whatever it says to the console, or asks of the network, fails the test."""
    context = browser.new_context(viewport=WIDE, offline=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else said.append(request.url))
    page.goto((reported / "report.html").as_uri())
    yield page
    assert said == []
    assert page.title() != "taken"
    context.close()


def test_a_stranger_finds_how_many_failed_and_why(page: Page) -> None:
    row = page.locator("#causes tbody tr", has_text="far 0")
    assert row.locator("td").first.inner_text() == "no coverage"
    assert row.locator("td").nth(1).inner_text() == str(OUTSIDE)
    assert "no brick of dr10" in row.locator("td").nth(2).inner_text()
    failed = int(page.locator("#statuses tr", has_text="no coverage").locator("td").nth(1).inner_text())
    page.select_option("[aria-label=status]", "no_coverage")
    assert page.locator("#rows tbody tr").count() == failed >= OUTSIDE
    assert page.locator("#rows-count").inner_text().startswith(f"{failed} of ")


def test_a_stranger_finds_the_least_certain_and_what_each_network_looked_at(page: Page) -> None:
    page.get_by_role("link", name="Galleries").click()
    thumbs = page.locator("[id^=least-sure-]").first.locator(".thumb")
    sure = [float(text) for text in thumbs.locator(".caption span:last-child").all_inner_texts()]
    assert sure == sorted(sure) and len(sure) >= 3
    thumbs.first.click()
    assert page.locator("#viewer").is_visible()
    captions = page.locator(".panels .row").first.locator("figcaption span:first-child").all_inner_texts()
    assert captions == ["what they saw", "dmagnet", "agcnn"]
    painted = page.evaluate(
        """() => [...document.querySelectorAll('.panels canvas')].slice(0, 2).map((canvas) => {
            const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            return new Set(data).size; })"""
    )
    assert min(painted) > 10
    assert page.locator(".facts h3").first.inner_text().startswith("dmagnet: ")


def test_keys_step_through_the_galaxies_and_change_what_is_seen(page: Page) -> None:
    page.locator(".thumb").first.click()
    first = page.locator("#viewer-title").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#viewer-title").inner_text() != first
    page.keyboard.press("ArrowLeft")
    assert page.locator("#viewer-title").inner_text() == first
    page.keyboard.press("ArrowUp")
    assert float(page.input_value("#strength")) == pytest.approx(0.7)
    page.keyboard.press("c")
    assert page.input_value("#colours") == "magma"
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()


def test_one_cross_hair_points_at_the_same_sky_on_every_map(page: Page) -> None:
    page.locator(".thumb").first.click()
    box = page.locator(".stack").nth(1).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    lines = page.locator(".stack .v")
    assert all(lines.nth(number).is_visible() for number in range(3))
    places = {
        round(lines.nth(n).evaluate("(line) => line.offsetLeft / line.parentElement.offsetWidth"), 2) for n in range(3)
    }
    assert places == {0.75}
    where = page.locator(".panels figcaption span:last-child").first.inner_text()
    assert where.endswith("N") and "W," in where


def test_hostile_names_are_shown_as_they_are_written(page: Page) -> None:
    for name in (WRITTEN, QUOTED):
        page.fill("[aria-label='part of the identifier']", name)
        assert page.locator("#rows tbody tr td").first.inner_text() == name
        page.locator("#rows tbody tr td button").first.click()
        assert page.locator("#viewer-title").inner_text() == name
        page.keyboard.press("Escape")


def test_both_themes_keep_text_apart_from_its_background(page: Page) -> None:
    themes: set[str] = set()
    for _ in range(2):
        themes.add(page.evaluate("document.documentElement.dataset.theme"))
        assert min(page.evaluate(CONTRAST)) >= 4.5  # WCAG 2.2, 1.4.3
        page.click("#theme")
    assert themes == {"dark", "light"}


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_nothing_is_cut_off_at_the_side(page: Page, viewport: ViewportSize) -> None:
    page.set_viewport_size(viewport)
    assert page.evaluate(WIDEST) <= viewport["width"]
    page.locator(".thumb").first.click()
    assert page.evaluate("() => document.querySelector('.viewer').scrollWidth") <= viewport["width"]
    assert page.locator("#close").is_visible()
