"""The report in a real browser, opened from disk with the network off, by someone who has never seen it."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
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


def test_the_maps_are_compared_in_numbers_with_the_one_that_is_chosen(page: Page) -> None:
    page.locator(".thumb").first.click()
    rows = page.locator(".compared tbody tr")
    assert rows.count() == page.locator(".panels canvas").count()
    assert rows.first.locator("td").last.inner_text() == "1.00"
    assert rows.nth(1).locator("td").nth(1).inner_text() != ""
    like = float(rows.nth(1).locator("td").last.inner_text())
    rows.nth(1).locator("button").click()
    assert float(rows.nth(0).locator("td").last.inner_text()) == like < 1
    assert rows.nth(1).locator("td").last.inner_text() == "1.00"
    assert (
        page.locator(".panels h3").last.inner_text().startswith("The maps in numbers; SIM is the similarity to agcnn")
    )


def test_what_a_stranger_sees_on_the_way_is_there_to_be_seen(page: Page, tmp_path: Path) -> None:
    """The path from the causes to a merger's maps, as pictures: how light each part is, and whether it is painted."""
    light = {}
    stops = {"causes": "#causes", "thumb": ".thumb img"}
    for name, place in stops.items():
        light[name] = _seen(page, place, tmp_path / f"{name}.png")
    page.locator(".thumb").first.click()
    page.wait_for_function("() => [...document.querySelectorAll('.stack img')].every((image) => image.complete)")
    light["galaxy"] = _seen(page, ".stack >> nth=0", tmp_path / "galaxy.png")
    light["map"] = _seen(page, ".stack >> nth=1", tmp_path / "map.png")
    page.locator("#strength").fill("1")
    light["map alone"] = _seen(page, ".stack >> nth=1", tmp_path / "alone.png")
    page.select_option("#colours", "gray")
    light["grey map"] = _seen(page, ".stack >> nth=1", tmp_path / "grey.png")
    page.screenshot(path=tmp_path / "viewer.png")
    corner = np.asarray(Image.open(tmp_path / "viewer.png").convert("RGB"))[-1, 0]
    assert corner.tolist() == [0, 0, 0], "galaxies stand on black"
    assert all(image.std() > 3 for image in light.values()), {name: image.std() for name, image in light.items()}
    middle, edge = light["galaxy"][96:132, 96:132].mean(), light["galaxy"][:16].mean()
    assert middle > edge + 20, "the galaxy is in the middle, and lighter than its sky"
    shown = [light[name] for name in ("galaxy", "map", "map alone", "grey map")]
    assert all(np.abs(one - other).mean() > 2 for one, other in itertools.pairwise(shown))
    assert np.ptp(np.asarray(Image.open(tmp_path / "grey.png").convert("RGB"), float), axis=2).max() < 3


def _seen(page: Page, place: str, path: Path) -> NDArray[np.float64]:
    """A part of the page as it is on the screen, as luminance (h, w)."""
    page.locator(place).first.scroll_into_view_if_needed()
    page.locator(place).first.screenshot(path=path)
    return np.asarray(Image.open(path).convert("L"), dtype=np.float64)


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
