"""The client of the archives, against a server on this machine that misbehaves on demand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.archives.client import Client
from pipeline.archives.policy import ArchivesSection, HostPolicy, RetryPolicy
from tests.standins.scripted import Scripted, scripted

FAST = ArchivesSection(
    default=HostPolicy(in_flight=8, rate=10_000, burst=1000, timeout=0.3, pause=0.01),
    retry=RetryPolicy(first=0.001, longest=0.01, deadline=20),
)


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as made:
        yield made


@pytest.fixture
def client(server: Scripted) -> Iterator[Client]:
    with Client(FAST, [server.host]) as made:
        yield made


def test_a_range_is_the_bytes_asked_for(server: Scripted, client: Client) -> None:
    server.files["/a"] = bytes(range(256)) * 100
    answer = client.read(server.url + "/a", 1000, 2000)
    assert answer.data == server.files["/a"][1000:2000]
    assert (answer.size, answer.total, answer.requests) == (1000, 25_600, 1)


def test_a_whole_file_lands_under_its_name(server: Scripted, client: Client, tmp_path: Path) -> None:
    server.files["/a"] = b"x" * 200_000
    answer = client.download(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == server.files["/a"]
    assert answer.path == tmp_path / "a" and answer.data is None
