"""Positions from a TAP service: its rules kept, its faults named, its answer whole or refused."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pytest
from astropy.table import Table

from pipeline.archives.access import Access
from pipeline.archives.policy import ArchivesSection, HostPolicy, RetryPolicy, host_of
from pipeline.errors import ArchiveUnreachable, JobError
from pipeline.job import load_job
from pipeline.sources.batches import Columns, TapQuery, source_batches
from pipeline.sources.tap import fetch_answer, tap_table
from tests.tap_service import Tap, tap_service

SETTINGS = ArchivesSection(
    contact="me@example.org",
    default=HostPolicy(rate=1000.0, burst=100),
    retry=RetryPolicy(attempts=4, first=0.001, longest=0.002),
)
SKY = Table({"source_id": [11, 12, 13], "ra": [1.5, 2.5, 359.5], "dec": [-1.0, 0.0, 1.0], "kind": ["a", "bb", ""]})
ADQL = "SELECT source_id, ra, dec, kind FROM sky"


def _votable(status: str = "OK") -> bytes:
    buffer = io.BytesIO()
    SKY.write(buffer, format="votable", tabledata_format="binary2")
    text = buffer.getvalue().decode()
    return text.replace("</RESOURCE>", f'<INFO name="QUERY_STATUS" value="{status}"/></RESOURCE>').encode()


def _asked(tap: Tap, folder: Path, hosts: list[str] | None = None) -> pa.Table:
    hosts = [host_of(tap.url)] if hosts is None else hosts

    def opened(where: Path) -> object:
        with Access(SETTINGS, hosts) as access:
            return tap_table(TapQuery(url=tap.url, query=ADQL), access, where)

    return pa.Table.from_batches(source_batches(opened, Columns(object_id="source_id")))  # type: ignore[arg-type]


def test_a_query_s_rows_are_sources(tmp_path: Path) -> None:
    with tap_service(Tap(_votable(), looks=2)) as tap:
        found = _asked(tap, tmp_path)
    assert found.select(["object_id", "ra", "dec", "kind"]).to_pydict() == {
        "object_id": [11, 12, 13],
        "ra": [1.5, 2.5, 359.5],
        "dec": [-1.0, 0.0, 1.0],
        "kind": ["a", "bb", ""],
    }
    assert tap.query["QUERY"] == [ADQL]
    assert tap.asked[-1] == ("DELETE", "/tap/async/7")
    assert all(agent.startswith("galaxy-pipeline/") and "me@example.org" in agent for agent in tap.agents)


def test_a_busy_service_is_asked_again(tmp_path: Path) -> None:
    with tap_service(Tap(_votable(), looks=1, busy=3)) as tap:
        assert _asked(tap, tmp_path).num_rows == 3


def test_a_service_that_stays_busy_is_unreachable(tmp_path: Path) -> None:
    with tap_service(Tap(_votable(), busy=100)) as tap, pytest.raises(ArchiveUnreachable, match="429"):
        _asked(tap, tmp_path)


def test_an_answer_that_the_service_cut_off_is_refused(tmp_path: Path) -> None:
    cut_off = pytest.raises(JobError, match="OVERFLOW: the service did not send all rows")
    with tap_service(Tap(_votable("OVERFLOW"), looks=1)) as tap, cut_off:
        _asked(tap, tmp_path)


def test_a_query_that_is_refused_says_why_and_its_job_is_deleted(tmp_path: Path) -> None:
    refusal = pytest.raises(JobError, match=r"refuses the query: .*column rra does not exist")
    with tap_service(Tap(looks=1, refuses="column rra does not exist")) as tap, refusal:
        _asked(tap, tmp_path)
    assert tap.asked[-1][0] == "DELETE"


def test_a_host_that_the_job_does_not_name_is_never_asked(tmp_path: Path) -> None:
    with tap_service(Tap(_votable())) as tap, pytest.raises(ArchiveUnreachable, match="the job does not allow"):
        _asked(tap, tmp_path, hosts=["elsewhere.org"])
    assert tap.asked == []


def test_a_query_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with tap_service(Tap(_votable(), looks=10_000)) as tap, Access(SETTINGS, [host_of(tap.url)]) as access:
        query = TapQuery(url=tap.url, query=ADQL, patience=100.0)
        with pytest.raises(ArchiveUnreachable, match=r"not done after 1\d\d s"):
            fetch_answer(query, access, tmp_path, sleep=lambda seconds: None)


def test_a_job_takes_a_table_or_a_query() -> None:
    tap = {"sources.tap": {"url": "https://tap.example.org/tap", "query": ADQL}}
    job = load_job("hips", environment={}, values=tap)
    assert "tap.example.org" in job.archive_hosts()
    with pytest.raises(JobError, match="two answers to one question"):
        load_job("hips", ["sources.table=x.parquet"], environment={}, values=tap)
