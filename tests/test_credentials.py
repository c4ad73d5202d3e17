"""User names, passwords and tokens in URLs: they open what they name, and are neither stored nor shown."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.errors import PipelineError
from pipeline.executors.runner import run
from pipeline.executors.session import Reporter
from pipeline.executors.state import describe_run
from pipeline.job import Job, job_from
from pipeline.storage import Storage
from tests.runs import committed_rows, mock_job
from tests.standins.fast import FAST_JOB
from tests.test_retry import archive

SECRETS = ("tiger", "s3cr3t", "hunter2")
QUERY = "?token=hunter2"


def with_secrets(address: str) -> str:
    return f"http://tiger:s3cr3t@{address}"


def place(whole: Path, checkpoint: Path, mock_tree: Path, folder: Path) -> None:
    """A web site that holds the survey's tree, a source table and a checkpoint."""
    (folder / "sky").symlink_to(mock_tree)
    (folder / "tiny.safetensors").symlink_to(checkpoint)
    pq.write_table(committed_rows(whole).select(["object_id", "ra", "dec"]), folder / "sources.parquet")


def remote_job(root: str) -> Job:
    settings = [f"mirror={root}/sky{QUERY}", f"sources.table={root}/sources.parquet{QUERY}"]
    return mock_job(Path(), Path(), *settings, *FAST_JOB, f"networks.dmagnet.checkpoint={root}/tiny.safetensors{QUERY}")


def test_a_run_leaves_no_secret_behind_and_a_retry_knows_its_output_without_them(
    tmp_path: Path, whole: Path, mock_tree: Path, checkpoint: Path
) -> None:
    site, output = tmp_path / "site", tmp_path / "out"
    site.mkdir()
    place(whole, checkpoint, mock_tree, site)
    lines: list[str] = []
    with archive(site) as server:
        server.broken = sorted(path.name for path in mock_tree.glob("dr10/south/coadd/*/*"))[0] + "-image"
        address = f"127.0.0.1:{server.server_address[1]}"
        first = run(remote_job(with_secrets(address)), str(output), reporter=Reporter(on_log=lines.append))
        server.broken = None
        stored = job_from(describe_run(Storage(str(output)))["job"], "run.json")  # type: ignore[arg-type]
        second = run(stored, str(output), task="retry")
    assert first.statuses["archive_error"] and "archive_error" not in second.statuses
    files = [path for path in output.rglob("*") if path.is_file()]
    texts = [str(pq.read_table(path).to_pydict()) for path in files if path.suffix == ".parquet"]
    texts += [path.read_bytes().decode(errors="replace") for path in files]
    assert not [text[:200] for text in [*lines, *texts] if any(secret in text for secret in SECRETS)]


@pytest.mark.parametrize("key", ["mirror", "sources.table", "networks.dmagnet.checkpoint"])
@pytest.mark.parametrize("chain", ["", "simplecache::"])
def test_what_cannot_be_read_is_named_without_its_secrets(
    tmp_path: Path, mock_tree: Path, checkpoint: Path, key: str, chain: str
) -> None:
    with archive(tmp_path) as server:
        url = with_secrets(f"127.0.0.1:{server.server_address[1]}")
        job = mock_job(mock_tree, checkpoint, f"{key}={chain}{url}/absent.parquet{QUERY}")
        with pytest.raises(PipelineError, match=r"127\.0\.0\.1:\d+/absent") as caught:
            run(job, str(tmp_path / "out"))
    assert not [secret for secret in SECRETS if secret in str(caught.value)]
    assert not list(tmp_path.glob("out/plan/plan.json"))
