"""The report of a large catalogue: how long it takes to write, how large it is, and when a browser first shows it.

    python -m tests.benchmarks.report [--rows 1000000] [--page demo/catalogue/report.html]

The catalogue is synthetic and not the output of a run, so that its page has no images; `--page` adds a page that is
there already, such as the one of `make run`. Needs Chromium. First paint is the browser's own first-contentful-paint,
from the disk with the network off, the least of three.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console

from pipeline.catalogue.hats import finalise
from pipeline.catalogue.query import open_catalogue
from pipeline.executors.looking import unseen
from pipeline.report.report import Material, report_page
from pipeline.report.traced import Asked
from pipeline.storage import Storage
from tests.benchmarks.rows import Row
from tests.benchmarks.synthetic_catalogue import Synthetic, commit_synthetic

ROWS = 1_000_000
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1e3"
TARGET_SECONDS, TARGET_MB = 2.0, 15.0  # of a page of 10,000 rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--page", type=Path, nargs="*", default=[], help="pages that are there already")
    options = parser.parse_args()
    out = Console()
    for row in measured(options.rows, options.page):
        out.print(f"{row.name:48} {row.ours:8.2f} {row.unit}" + (f"  (at most {row.other:g})" if row.other else ""))
    return 0


def rows(count: int = 100_000) -> list[Row]:
    """The lines of `make bench`."""
    return measured(count, ())


def measured(count: int, pages: Sequence[Path]) -> list[Row]:
    """A catalogue of `count` rows reported, and its page and `pages` opened."""
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        commit_synthetic(Storage(folder), Synthetic(count))
        finalise(Storage(folder), name="synthetic")
        started = time.perf_counter()
        page = report_page(Asked(open_catalogue(folder), folder, "benchmark"), Material(unseen))
        took = time.perf_counter() - started
        made = Path(folder) / "report.html"
        made.write_text(page)
        found = [Row(f"report of {count} rows", took, "s")]
        with sync_playwright() as driver:
            path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
            browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
            for each in (made, *pages):
                found += _opened(browser, each.absolute())
            browser.close()
    return found


def _opened(browser: Browser, page: Path) -> list[Row]:
    paints = []
    for _ in range(3):
        context = browser.new_context(offline=True)
        tab = context.new_page()
        tab.goto(page.as_uri())
        paints.append(float(tab.evaluate(PAINT)))
        context.close()
    name = "/".join(page.parts[-2:])
    size = page.stat().st_size / 1e6
    return [
        Row(f"{name}: size", size, "MB", TARGET_MB, "target"),
        Row(f"{name}: first paint", min(paints), "s", TARGET_SECONDS, "target", repeats=len(paints)),
    ]


if __name__ == "__main__":
    sys.exit(main())
