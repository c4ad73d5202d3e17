"""Reading the archive: in place, fetched whole, and what servers and disks do wrong."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fitsio
import fsspec
import numpy as np
import pytest

from pipeline.archives.files import ArchiveFiles
from pipeline.archives.opener import Opener
from pipeline.archives.tables import read_table
from pipeline.data import Product
from pipeline.errors import ArchiveError, ArchiveUnreachable, BadImage, JobError
from pipeline.storage import without_credentials
from tests.standins.fast import fast_access

IMAGE = "dr10/south/coadd/149/1498p020/legacysurvey-1498p020-image-g.fits.fz"
TABLE = "dr10/south/survey-bricks-dr10-south.fits.gz"
SECRETS = ("tiger", "s3cr3t", "hunter2")


def _product(path: str = IMAGE) -> Product:
    return Product("south/1498p020", "image", "g", path)


@dataclass
class Server:
    """A web server of a folder on this machine, that can be told to misbehave."""

    url: str
    asked: list[str] = field(default_factory=list)
    answer: Callable[[BaseHTTPRequestHandler, bytes | None], None] | None = None


def _plain(handler: BaseHTTPRequestHandler, body: bytes | None) -> None:
    handler.send_response(404 if body is None else 200)
    handler.send_header("Content-Length", str(len(body or b"")))
    handler.end_headers()
    handler.wfile.write(body or b"")


@pytest.fixture
def server(mock_tree: Path) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            path = mock_tree / self.path.lstrip("/").partition("?")[0]
            (served.answer or _plain)(self, path.read_bytes() if path.is_file() else None)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        served = Server(f"http://127.0.0.1:{http.server_address[1]}")
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield served
        http.shutdown()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where fetched files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@cache
def _memory(tree: Path) -> str:
    filesystem = fsspec.filesystem("memory")
    for name in (IMAGE, TABLE):
        filesystem.pipe_file(f"/sky/{name}", (tree / name).read_bytes())
    return "memory://sky"


def test_a_section_is_the_same_in_place_and_from_anywhere(mock_tree: Path, server: Server, temporary: Path) -> None:
    stored = fitsio.read(mock_tree / IMAGE, ext=1)
    for root in (str(mock_tree), f"file://{mock_tree}", server.url, f"{server.url}/", _memory(mock_tree)):
        with fast_access(root) as access, Opener(root, access) as opener:
            image = opener(_product())
            assert image.shape == stored.shape
            section = image.section(90, 230, 310, 500)
            assert section.tobytes() == stored[90:230, 310:500].tobytes()
            assert section.dtype.isnative
            assert str(image.header["CTYPE1"]).strip() == "RA---TAN"
            assert opener.requests == 1
        assert list(temporary.iterdir()) == []


def test_a_product_is_asked_for_once(server: Server, mock_tree: Path) -> None:
    with fast_access(server.url) as access, Opener(server.url, access) as opener:
        for _ in range(3):
            opener(_product())
            with pytest.raises(FileNotFoundError, match=r"no/such.fits"):
                opener(_product("no/such.fits"))
        assert opener.requests == len(server.asked) == 2
        assert opener.bytes_read == (mock_tree / IMAGE).stat().st_size


def test_what_was_fetched_is_removed_after_an_error_too(server: Server, temporary: Path) -> None:
    with fast_access(server.url) as access, pytest.raises(ZeroDivisionError), Opener(server.url, access) as opener:
        opener(_product())
        assert len(list(temporary.rglob("*"))) == 2
        raise ZeroDivisionError
    assert list(temporary.iterdir()) == []


def _status(code: int) -> Callable[[BaseHTTPRequestHandler, bytes | None], None]:
    def answer(handler: BaseHTTPRequestHandler, body: bytes | None) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def _page(handler: BaseHTTPRequestHandler, body: bytes | None) -> None:
    _plain(handler, b"<!DOCTYPE html><html>no such layer</html>")


def _short(handler: BaseHTTPRequestHandler, body: bytes | None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body or b"")))
    handler.end_headers()
    handler.wfile.write((body or b"")[:100_000])
    handler.close_connection = True


def _short_without_length(handler: BaseHTTPRequestHandler, body: bytes | None) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write((body or b"")[:100_001])
    handler.close_connection = True


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_status(500), "HTTP 500 (7 requests)"),
        (_status(403), "HTTP 403"),
        (_status(429), "HTTP 429 (7 requests)"),
        (_page, "the answer is no FITS file, it starts with b'<!DOCTYPE'"),
        (_short, "RemoteProtocolError (7 requests)"),
        (_short_without_length, "no whole number of FITS blocks"),
    ],
)
def test_an_answer_that_is_no_file_is_the_archive_s_error(
    answer: Callable[[BaseHTTPRequestHandler, bytes | None], None], message: str, server: Server, temporary: Path
) -> None:
    server.answer = answer
    root = server.url.replace("http://", "http://tiger:s3cr3t@") + "?token=hunter2"
    with fast_access(root) as access, Opener(root, access) as opener, pytest.raises((ArchiveError, BadImage)) as error:
        opener(_product())
    assert message in str(error.value)
    assert f"{server.url}/{IMAGE}" in str(error.value)
    assert not any(secret in str(error.value) for secret in SECRETS)
    assert error.value.__cause__ is None
    assert set(server.asked) == {f"/{IMAGE}?token=hunter2"}
    assert list(temporary.iterdir()) == []


def test_a_server_that_is_away_is_the_archive_s_error() -> None:
    away = "http://127.0.0.1:9"
    with fast_access(away) as access, Opener(away, access) as opener:
        for _ in range(2):
            with pytest.raises(ArchiveError, match=r"http://127.0.0.1:9/dr10.*ConnectError"):
                opener(_product())
        assert opener.requests == 1
        with pytest.raises(ArchiveUnreachable, match="ConnectError"):
            read_table(away, TABLE, ("ra",), access)


def test_a_folder_that_went_away_is_no_missing_file(tmp_path: Path) -> None:
    with Opener(str(tmp_path)) as opener, pytest.raises(FileNotFoundError, match="legacysurvey"):
        opener(_product())
    with Opener(str(tmp_path / "unmounted")) as opener, pytest.raises(ArchiveError, match="unmounted: no such folder"):
        opener(_product())


@pytest.mark.parametrize("name", ["../secret.fits", "/etc/passwd", "a/../../b.fits", "s3://other/x.fits", ""])
def test_a_path_that_leaves_the_root_is_refused(name: str, mock_tree: Path) -> None:
    for root in (str(mock_tree), "memory://sky"):
        with Opener(root) as opener, pytest.raises(BadImage, match="is not a path below"):
            opener(_product(name))


def test_a_url_of_an_unknown_kind_is_the_archive_s_error() -> None:
    with Opener(None) as opener, pytest.raises(ArchiveError, match="no way to read such a URL"):
        opener(_product("carrier-pigeon://x.fits"))


def test_a_broken_file_in_place_is_a_bad_image_by_name(mock_tree: Path, tmp_path: Path) -> None:
    whole = (mock_tree / IMAGE).read_bytes()
    breaks = {"page.fits": b"<html>" * 1000, "short.fits": whole[: len(whole) // 2880 // 2 * 2880], "empty.fits": b""}
    for name, data in breaks.items():
        (tmp_path / name).write_bytes(data)
        with Opener(str(tmp_path)) as opener, pytest.raises(BadImage, match=name):
            opener(_product(name))
    fitsio.write(tmp_path / "table.fits", {"x": np.arange(3)})
    with Opener(str(tmp_path)) as opener, pytest.raises(BadImage, match=r"table.fits: holds no image"):
        opener(_product("table.fits"))


def test_a_section_is_inside_the_image(mock_tree: Path) -> None:
    with Opener(str(mock_tree)) as opener, pytest.raises(ValueError, match="500x500"):
        opener(_product()).section(0, 501, 0, 10)


def test_no_more_files_stay_open_than_the_limit(
    tmp_path: Path, mock_tree: Path, server: Server, temporary: Path
) -> None:
    shutil.copyfile(mock_tree / IMAGE, tmp_path / "0.fits.fz")
    server.answer = lambda handler, body: _plain(handler, (mock_tree / IMAGE).read_bytes())
    with fast_access(server.url) as access, Opener(server.url, access) as opener:
        for number in range(80):
            opener(_product(f"{number}.fits.fz")).section(0, 5, 0, 5)
        assert len([path for path in temporary.rglob("*") if path.is_file()]) == 64
        assert opener(_product("79.fits.fz")).section(0, 5, 0, 5).shape == (5, 5)
        assert opener.requests == 80


def test_a_table_is_read_by_the_names_that_were_asked_for(mock_tree: Path, server: Server) -> None:
    stored = fitsio.read(mock_tree / TABLE, ext=1)
    for root in (str(mock_tree), server.url, _memory(mock_tree)):
        table = read_table(root, TABLE, ("BRICKNAME", "ra", "NExp_G"))
        assert table.column_names == ["BRICKNAME", "ra", "NExp_G"]
        assert table["BRICKNAME"].to_pylist() == [str(name).strip() for name in stored["brickname"]]
        assert table["ra"].to_pylist() == stored["ra"].tolist()
        assert table["NExp_G"].to_pylist() == stored["nexp_g"].tolist()


def test_what_a_table_cannot_give_is_said_by_name(mock_tree: Path, server: Server) -> None:
    with fast_access(server.url) as access:
        for root in (str(mock_tree), server.url):
            with pytest.raises(JobError, match=f"{TABLE}: lacks the columns nexp_y, mass"):
                read_table(root, TABLE, ("ra", "nexp_y", "mass"), access)
            with pytest.raises(FileNotFoundError, match=r"no/table.fits"):
                read_table(root, "no/table.fits", ("ra",), access)
            with pytest.raises(ArchiveUnreachable, match=IMAGE):
                read_table(root, IMAGE, ("ra",), access)
        server.answer = _page
        with pytest.raises(ArchiveUnreachable, match="no FITS file"):
            read_table(server.url, TABLE, ("ra",), access)


def test_text_and_vectors_of_a_table_come_out_native(tmp_path: Path) -> None:
    rows = np.zeros(2, dtype=[("TYPE", "S4"), ("APFLUX", ">f4", 3), ("FLAG", "?"), ("ID", ">i8")])
    rows["TYPE"], rows["APFLUX"], rows["ID"] = [b"PSF", b"SER "], [[1, 2, 3], [4, 5, 6]], [5, 1 << 60]
    fitsio.write(tmp_path / "t.fits", rows)
    table = read_table(str(tmp_path), "t.fits", ("type", "apflux", "flag", "id"))
    assert table.to_pylist() == [
        {"type": "PSF", "apflux": [1.0, 2.0, 3.0], "flag": False, "id": 5},
        {"type": "SER", "apflux": [4.0, 5.0, 6.0], "flag": False, "id": 1 << 60},
    ]


def test_secrets_are_left_out_of_what_is_shown() -> None:
    assert without_credentials("https://tiger:s3cr3t@host:8/a/b.fits?token=hunter2#x") == "https://host:8/a/b.fits"
    assert without_credentials("/data/a b?.fits") == "/data/a b?.fits"
    assert without_credentials("s3://bucket/key") == "s3://bucket/key"
    with ArchiveFiles("https://tiger:s3cr3t@host") as files, pytest.raises(BadImage) as error:
        files.path("../x")
    assert "s3cr3t" not in str(error.value)
