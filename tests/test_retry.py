"""An archive that fails for a while: its sources say so, and `retry` tries again those and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipeline import open_catalogue
from pipeline.executors.runner import run
from tests.runs import assert_equal_catalogues, committed_rows, mock_job
from tests.standins.fast import FAST_JOB


class _Archive(ThreadingHTTPServer):
    """A mock tree on loopback; paths that hold `broken` are answered with 503."""

    broken: str | None = None
    served: int = 0


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        archive: Any = self.server
        archive.served += 1
        if archive.broken and archive.broken in self.path:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is for its failures."""


@contextmanager
def archive(tree: Path) -> Iterator[_Archive]:
    with _Archive(("127.0.0.1", 0), partial(_Handler, directory=str(tree))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _url(server: _Archive) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_a_retry_touches_only_what_failed(tmp_path: Path, mock_tree: Path, checkpoint: Path, whole: Path) -> None:
    brick = sorted(path.name for path in mock_tree.glob("dr10/south/coadd/*/*"))[0]
    output = tmp_path / "out"
    with archive(mock_tree) as server:
        job = mock_job(mock_tree, checkpoint, f"mirror={_url(server)}", "engine.failure_fraction=1", *FAST_JOB)
        server.broken = f"{brick}-image"
        first = run(job, str(output))
        failed = first.statuses["archive_error"]
        server.broken = None
        before = committed_rows(output)
        second = run(job, str(output), task="retry")
    after = committed_rows(output)
    failing = before.filter(pc.equal(before["status"], "archive_error"))["object_id"].to_pylist()
    computed_now = after.filter(pc.equal(after["run_id"], second.run_id))["object_id"].to_pylist()
    assert 0 < failed < first.sources
    assert "archive_error" not in second.statuses
    assert computed_now == failing
    assert_equal_catalogues(committed_rows(output), committed_rows(whole))
    published = open_catalogue(str(output)).sql("SELECT count(*) AS n FROM catalogue").to_pylist()
    assert published == [{"n": first.sources}]


def test_a_failed_row_names_the_file_and_the_cause(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    brick = sorted(path.name for path in mock_tree.glob("dr10/south/coadd/*/*"))[0]
    with archive(mock_tree) as server:
        job = mock_job(mock_tree, checkpoint, f"mirror={_url(server)}", "engine.failure_fraction=1", *FAST_JOB)
        server.broken = f"{brick}-image-r"
        run(job, str(tmp_path), publish=False)
    rows = committed_rows(tmp_path)
    reasons = rows.filter(pc.equal(rows["status"], "archive_error"))["reason"].to_pylist()
    assert reasons
    assert all(f"legacysurvey-{brick}-image-r.fits.fz" in reason and "503" in reason for reason in reasons)


def test_a_retry_with_nothing_to_do_fetches_nothing(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    job = mock_job(mock_tree, checkpoint)
    run(job, str(tmp_path))
    again = run(job, str(tmp_path), task="retry")
    assert (again.units_this_run, again.bytes_read) == (0, 0)
