"""Create-only storage: on a disk, in memory, in an S3 that a server on loopback imitates."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from pipeline.errors import DiskFull
from pipeline.storage import Storage

MakeStorage = Callable[[], Storage]


@pytest.fixture(scope="module")
def s3_bucket() -> Iterator[str]:
    """URL of an empty bucket on a loopback server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # moto keeps its buckets for the whole process, those of an earlier module's server too.
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    with s3_credentials(f"http://{host}:{port}"):
        Storage("s3://tests").filesystem.mkdir("tests")
        yield "s3://tests"
    server.stop()


@contextmanager
def s3_credentials(endpoint: str) -> Iterator[None]:
    """An environment in which S3 is at `endpoint`; fsspec would go on using the file system of the one before."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield
    S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["disk", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "disk":
        return Storage(str(tmp_path / "out"))
    name = uuid.uuid4().hex
    if request.param == "memory":
        return Storage(f"memory://{name}")
    return Storage(f"{request.getfixturevalue('s3_bucket')}/{name}")


def test_what_is_created_once_stays(storage: Storage) -> None:
    assert storage.create("units/a/0001.json", b"first")
    assert not storage.create("units/a/0001.json", b"second")
    assert storage.read("units/a/0001.json") == b"first"


def test_replacing_gives_the_new_bytes(storage: Storage) -> None:
    storage.replace("state", b"old and long")
    storage.replace("state", b"new")
    assert storage.read("state") == b"new"


def test_a_name_that_is_not_there(storage: Storage) -> None:
    assert not storage.exists("units/a")
    assert storage.list("units") == []
    assert storage.pointed("latest") is None
    storage.delete("units/a")
    with pytest.raises(FileNotFoundError):
        storage.read("units/a")


def test_a_listing_has_every_file_below_its_folder_and_no_other(storage: Storage) -> None:
    for name in ("units/b/2.json", "units/a/1.json", "units/a/1.parquet", "units2/c", "plan.json"):
        storage.create(name, b"x")
    assert storage.list("units") == ["units/a/1.json", "units/a/1.parquet", "units/b/2.json"]
    assert storage.list("units/a") == ["units/a/1.json", "units/a/1.parquet"]


def test_a_deleted_object_is_gone_and_may_be_created_again(storage: Storage) -> None:
    storage.create("a/b", b"1")
    storage.delete("a/b")
    assert not storage.exists("a/b")
    assert storage.create("a/b", b"2")
    assert storage.read("a/b") == b"2"


def test_a_reader_can_seek(storage: Storage) -> None:
    storage.create("file", b"0123456789")
    with storage.open("file") as file:
        file.seek(4)
        assert file.read(3) == b"456"


def test_a_pointer_leads_to_the_folder_it_was_set_to_last(storage: Storage) -> None:
    storage.create("snapshots/0001/a", b"1")
    storage.create("snapshots/0002/a", b"2")
    storage.point("latest", "snapshots/0001")
    storage.point("latest", "snapshots/0002")
    assert storage.pointed("latest") == "snapshots/0002"


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_of_eight_writers_at_once_one_wins_and_all_read_its_bytes(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = str(tmp_path) if kind == "disk" else f"{request.getfixturevalue('s3_bucket')}/{uuid.uuid4().hex}"
    start = threading.Barrier(8)

    def write(writer: int) -> bool:
        start.wait()
        return Storage(url).create("unit", bytes([writer]) * 1000)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert won.count(True) == 1
    assert Storage(url).read("unit") == bytes([won.index(True)]) * 1000


def test_an_object_of_another_process_is_seen_at_once(s3_bucket: str) -> None:
    import s3fs

    ours, name = Storage(f"{s3_bucket}/{uuid.uuid4().hex}"), "units/a"
    ours.create("units/before", b"")
    ours.list("units")
    theirs = s3fs.S3FileSystem(skip_instance_cache=True)
    theirs.pipe_file(ours.path(name), b"theirs")
    assert ours.exists(name)
    ours.list("units")
    theirs.rm_file(ours.path(name))
    assert not ours.exists(name)


class _Scripted(BaseHTTPRequestHandler):
    """Answers every PUT with the next status of a list, the last one for ever; names no condition."""

    protocol_version = "HTTP/1.1"  # the client waits for "100 Continue"
    statuses: tuple[int, ...] = ()
    puts: int = 0

    def do_PUT(self) -> None:
        status = self.statuses[min(self.puts, len(self.statuses) - 1)]
        type(self).puts += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        code = {409: "ConditionalRequestConflict", 412: "PreconditionFailed"}.get(status)
        body = f"<Error><Code>{code}</Code><Message>a script refuses</Message></Error>".encode() if code else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def scripted_store(*statuses: int) -> Iterator[type[_Scripted]]:
    handler = type("Handler", (_Scripted,), {"statuses": statuses, "puts": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with s3_credentials(f"http://127.0.0.1:{server.server_address[1]}"):
            yield handler
        server.shutdown()
        thread.join()


def test_a_store_that_refuses_without_naming_the_condition_means_that_the_name_exists() -> None:
    with scripted_store(412):
        assert not Storage("s3://bucket/412").create("unit", b"x")


def test_a_conflict_with_another_put_is_tried_again() -> None:
    with scripted_store(409, 409, 200) as store:
        assert Storage("s3://bucket/409-200").create("unit", b"x")
    assert store.puts == 3


def test_a_conflict_that_does_not_end_is_an_error_and_not_a_success() -> None:
    with scripted_store(409), pytest.raises(OSError, match="a script refuses"):
        Storage("s3://bucket/409").create("unit", b"x")


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("write", ["create", "replace"])
def test_a_write_that_does_not_fit_raises_disk_full_and_leaves_nothing(write: str, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.create("unit", b"whole")
    with file_size_limit(10_000), pytest.raises(DiskFull, match=r"no room for 20000 bytes at .*other"):
        getattr(storage, write)("other", bytes(20_000))
    assert [path.name for path in tmp_path.iterdir()] == ["unit"]
    assert storage.create("other", b"small")


FILL = """
import sys
from pipeline.errors import DiskFull
from pipeline.storage import Storage
storage = Storage(sys.argv[1])
try:
    for number in range(100):
        storage.create(f"units/{number}", bytes(4096))
except DiskFull as error:
    sizes = {len(storage.read(name)) for name in storage.list("")}
    print("full", sizes, error.__cause__.errno)
"""


def test_a_full_disk_raises_disk_full_and_every_file_on_it_is_whole(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=64k none "{tmp_path}" && exec "{sys.executable}" -c "$FILL" "{tmp_path}"'
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here: a file system of 64 kB cannot be mounted")
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", script],
        env=os.environ | {"FILL": FILL},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "full {4096} 28\n", done.stderr


def test_a_folder_that_is_a_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.create("units", b"a file")
    with pytest.raises(OSError, match="units"):
        storage.create("units/a", b"x")


def test_what_a_dead_writer_left_is_not_listed(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.create("units/a", b"whole")
    (tmp_path / "units" / "b.0123.tmp").write_bytes(b"half")
    assert storage.list("units") == ["units/a"]


def test_a_reader_sees_a_whole_file_or_none(tmp_path: Path) -> None:
    storage, size = Storage(str(tmp_path)), 1_000_000
    sizes: set[int] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            sizes.update(path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".tmp")

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(20):
        storage.create(f"unit-{number}", bytes(size))
    done.set()
    reader.join()
    assert sizes == {size}


def test_the_pointer_of_an_output_that_was_moved_leads_into_it(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "here"))
    storage.create("snapshots/0001/a", b"1")
    storage.point("latest", "snapshots/0001")
    (tmp_path / "here").rename(tmp_path / "there")
    assert Storage(str(tmp_path / "there")).read("latest/a") == b"1"


def test_free_space_is_known_of_a_disk_only(tmp_path: Path) -> None:
    free = Storage(str(tmp_path / "not" / "yet")).free_bytes()
    assert free is not None and free > 0
    assert Storage("memory://space").free_bytes() is None
