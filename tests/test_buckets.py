"""Object stores through the client: moto's S3 behind the fault proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.archives.access import Access
from pipeline.archives.client import Client
from pipeline.archives.files import ArchiveFiles
from pipeline.errors import ArchiveChanged, ArchiveError, ArchiveRefused
from pipeline.storage import Storage
from tests.standins.fast import FAST, PATIENT
from tests.standins.faults import Fault, FaultProxy, fault_proxy, permanent
from tests.test_s3_run import bucket
from tests.test_storage import s3_credentials

BODY = bytes(range(256)) * 1000
URL = "s3://sky/a.fits"
STRAIGHT = Storage("s3://sky")  # past the proxy
SETTINGS = FAST.model_copy(update={"hosts": {"s3://sky": PATIENT.model_copy(update={"timeout": 20.0})}})


def healthy(path: str, attempt: int) -> None:
    return None


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    """In front of a bucket that holds a.fits."""
    with bucket("sky") as server:
        host, port = server.get_host_and_port()
        for name, body in (("a.fits", BODY), ("b.fits", BODY), ("sweep/one.fits", b"1")):
            STRAIGHT.create(name, body)
        with fault_proxy({"/": f"http://{host}:{port}"}, healthy) as made, s3_credentials(made.url):
            yield made


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[Client]:
    proxy.reset(healthy)
    with Client(SETTINGS, ["s3://sky"]) as made:
        yield made


def test_ranges_and_whole_objects_come_with_their_version(client: Client, tmp_path: Path) -> None:
    part = client.read(URL, 1000, 2000)
    assert (part.data, part.total) == (BODY[1000:2000], len(BODY))
    whole = client.download(URL, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY and whole.etag == part.etag is not None
    assert client.read(URL, len(BODY) - 5, len(BODY) + 5, etag=part.etag).data == BODY[-5:]
    with pytest.raises(ArchiveChanged):
        client.read(URL, 0, 10, etag='"older"')


def test_an_object_that_changes_while_it_is_read_is_noticed(client: Client, proxy: FaultProxy) -> None:
    """Between the look at the object and the read of it: the store itself refuses, by If-Match."""

    def change(path: str, attempt: int) -> None:
        if "/b.fits" in path and "bytes=" in path:
            proxy.plan = healthy
            STRAIGHT.replace("b.fits", BODY[::-1])

    proxy.reset(change)
    old = client.read("s3://sky/b.fits", 0, 10)
    assert old.data == BODY[::-1][:10]  # read again, of the new version alone


def test_what_a_store_has_not_or_gives_not_is_told(client: Client, proxy: FaultProxy) -> None:
    with pytest.raises(FileNotFoundError, match=r"s3://sky/none\.fits: the archive has no such file"):
        client.read("s3://sky/none.fits")
    proxy.reset(permanent(403, "/a.fits"))
    with pytest.raises(ArchiveRefused, match=r"s3://sky/a\.fits: "):
        client.read(URL)
    with pytest.raises(ArchiveRefused, match="the job does not allow s3://other"):
        client.read("s3://other/a.fits")


def test_only_our_own_retries_count(client: Client, proxy: FaultProxy) -> None:
    """Neither s3fs' five nor botocore's: seven requests are seven."""
    proxy.reset(permanent(503, "/a.fits"))
    with pytest.raises(ArchiveError, match=r"503 \(7 requests\)"):
        client.read(URL)
    assert len(proxy.log) == 7
    proxy.reset(permanent(Fault.RESET, "/a.fits"))
    with pytest.raises(ArchiveError, match=r"\(7 requests\)"):
        client.read(URL)
    assert len(proxy.log) <= 14  # aiohttp asks once more by itself where a connection that it kept has died
    proxy.reset(lambda path, attempt: Fault.UNAVAILABLE if attempt < 2 else None)
    assert client.read(URL).data == BODY


def test_a_folder_of_a_store_is_listed(proxy: FaultProxy) -> None:
    proxy.reset(healthy)
    with Access(SETTINGS, ["s3://sky"]) as access, ArchiveFiles("s3://sky", access) as files:
        assert files.names("sweep") == ["one.fits"]
        with pytest.raises(FileNotFoundError):
            files.names("nowhere")
