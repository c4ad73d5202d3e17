"""The client of the archives, against a server on this machine whose next answers each test writes down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from pipeline.archives.answers import Answer, Invalid, NotTheFile
from pipeline.archives.client import Client, Timing
from pipeline.archives.gate import LocalGate
from pipeline.archives.policy import HostPolicy, RetryPolicy
from pipeline.archives.web import retry_after
from pipeline.errors import ArchiveChanged, ArchiveError, ArchiveRefused, BadImage, RenderingFailed
from tests.standins.fast import FAST, PATIENT
from tests.standins.scripted import Reply, Scripted, etag, scripted, send

BODY = bytes(range(256)) * 1000


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as made:
        made.files["/a"] = BODY
        yield made


@pytest.fixture
def client(server: Scripted) -> Iterator[Client]:
    with Client(FAST, [server.host]) as made:
        yield made


def status(code: int, **headers: str) -> Reply:
    return lambda handler, body: send(handler, code, b"", {name.replace("_", "-"): headers[name] for name in headers})


def short(at: int, *, length: bool = True, named: str | None = None) -> Reply:
    """The body up to byte `at`, then the line breaks."""

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(200)
        handler.send_header("ETag", named or etag(body))
        if length:
            handler.send_header("Content-Length", str(len(body)))
        else:
            handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(body[:at])
        handler.close_connection = True

    return reply


def page(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, 200, b"<html>we are back soon</html>", {"Content-Type": "text/html"})


def whole(answer: Answer) -> None:
    if answer.data is None or not answer.data.startswith(BODY[:10]) or len(answer.data) < len(BODY):
        raise NotTheFile("a page, or cut short")
    if answer.data != BODY:
        raise Invalid("not the file")


def test_a_range_is_the_bytes_asked_for(server: Scripted, client: Client) -> None:
    answer = client.read(server.url + "/a", 1000, 2000)
    assert answer.data == BODY[1000:2000]
    assert (answer.size, answer.total, answer.etag, answer.requests) == (1000, len(BODY), etag(BODY), 1)


def test_a_range_that_ends_beyond_the_file_is_what_there_is(server: Scripted, client: Client) -> None:
    assert client.read(server.url + "/a", len(BODY) - 10, len(BODY) + 90).data == BODY[-10:]


def test_a_whole_file_lands_under_its_name(server: Scripted, client: Client, tmp_path: Path) -> None:
    answer = client.download(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert (answer.path, answer.data) == (tmp_path / "a", None)


TRANSIENT = [
    status(429, Retry_After="0"), status(503), status(500), status(502), status(504), status(408), page,
    short(100_000), short(0), short(100_000, length=False),
]  # fmt: skip


@pytest.mark.parametrize("reply", TRANSIENT)
def test_what_may_go_better_is_asked_for_again(reply: Reply, server: Scripted, client: Client) -> None:
    server.script.extend([reply, reply])
    assert client.read(server.url + "/a", check=whole if reply in (page, TRANSIENT[-1]) else None).data == BODY


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (status(404), FileNotFoundError), (status(410), FileNotFoundError), (status(400), ArchiveRefused),
        (status(401), ArchiveRefused), (status(403), ArchiveRefused),
    ],
)  # fmt: skip
def test_a_refusal_is_final(reply: Reply, error: type[Exception], server: Scripted, client: Client) -> None:
    server.script.append(reply)
    with pytest.raises(error, match=f"{server.url}/a: "):
        client.read(server.url + "/a?token=hunter2")
    assert len(server.asked) == 1


def test_the_words_of_a_refusal_are_told(server: Scripted, client: Client) -> None:
    said = b"Need ra,dec keywords"
    server.script.append(lambda handler, body: send(handler, 400, said, {"Content-Type": "text/plain"}))
    with pytest.raises(ArchiveRefused, match="HTTP 400: Need ra,dec keywords"):
        client.read(server.url + "/a")


def test_attempts_end_with_the_last_fault_and_no_secret(server: Scripted, client: Client) -> None:
    server.script.extend([status(503)] * 20)
    with pytest.raises(ArchiveError) as error:
        client.read(server.url.replace("//", "//tiger:s3cr3t@") + "/a?token=hunter2")
    assert str(error.value) == f"{server.url}/a: HTTP 503 (7 requests)"
    assert error.value.__cause__ is None


def test_a_body_that_breaks_off_is_resumed_where_it_broke(server: Scripted, client: Client, tmp_path: Path) -> None:
    server.script.append(short(100_000))
    answer = client.download(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    asked = [headers.get("Range") for _, headers in server.asked]
    assert (asked[0], answer.requests) == (None, 2)
    assert asked[1] is not None and 0 < int(asked[1].removeprefix("bytes=").rstrip("-")) <= 100_000
    assert server.asked[1][1]["If-Range"] == etag(BODY)


@pytest.mark.parametrize("named", ['"older"', 'W/"weak"'])
def test_a_part_of_another_version_is_thrown_away(named: str, server: Scripted, client: Client) -> None:
    """The first part has an ETag that the rest has not, or one that promises nothing."""
    old = bytes(len(BODY))
    server.script.append(lambda handler, body: short(100_000, named=named)(handler, old))
    assert client.read(server.url + "/a").data == BODY
    assert ("Range" in server.asked[1][1]) == (not named.startswith("W/"))


def test_a_range_of_a_file_that_has_changed_is_refused(server: Scripted, client: Client) -> None:
    with pytest.raises(ArchiveChanged, match="is another version now"):
        client.read(server.url + "/a", 0, 100, etag='"older"')
    assert client.read(server.url + "/a", 0, 100, etag=etag(BODY)).data == BODY[:100]


def test_a_server_without_ranges_is_told_from_one_that_has_them(server: Scripted, client: Client) -> None:
    server.script.append(lambda handler, body: send(handler, 200, body))
    with pytest.raises(ArchiveRefused, match="does not give ranges"):
        client.read(server.url + "/a", 0, 100)


def test_the_same_wrong_bytes_twice_are_what_the_archive_has(server: Scripted, client: Client) -> None:
    server.files["/a"] = BODY[:-1] + b"x"
    with pytest.raises(BadImage, match="/a: not the file"):
        client.read(server.url + "/a", check=whole)
    assert len(server.asked) == 2


def test_a_page_that_comes_every_time_is_no_answer(server: Scripted, client: Client) -> None:
    server.script.extend([page] * 20)
    with pytest.raises(ArchiveError, match=r"a page, or cut short \(7 requests\)"):
        client.read(server.url + "/a", check=whole)


def test_a_rendering_that_fails_twice_is_the_service_s_word(server: Scripted, client: Client) -> None:
    server.script.extend([status(500), status(503), status(500)])
    with pytest.raises(RenderingFailed, match="HTTP 500 twice"):
        client.read(server.url + "/a", rendered=True)
    assert len(server.asked) == 3


def test_a_redirect_is_followed_to_allowed_hosts_only(server: Scripted, client: Client) -> None:
    server.script.append(status(302, Location="/a"))
    assert client.read(server.url + "/moved").data == BODY
    server.script.append(status(302, Location="http://169.254.169.254/latest/meta-data"))
    with pytest.raises(ArchiveRefused, match=r"the job does not allow 169\.254\.169\.254"):
        client.read(server.url + "/moved")
    server.script.extend([status(302, Location="/a")] * 6)
    with pytest.raises(ArchiveRefused, match="more than 5 redirects"):
        client.read(server.url + "/moved")


def test_a_host_that_the_job_does_not_name_is_not_asked(server: Scripted) -> None:
    with Client(FAST) as client, pytest.raises(ArchiveRefused, match=r"archives.allowed_hosts=\[127.0.0.1:\d+\]"):
        client.read(server.url + "/a")
    assert server.asked == []
    for pattern in ("127.0.0.1", "127.*", server.host):
        with Client(FAST.model_copy(update={"allowed_hosts": (pattern,)})) as client:
            assert client.read(server.url + "/a").data == BODY


def test_every_request_says_who_asks(server: Scripted) -> None:
    named = FAST.model_copy(update={"contact": "survey@example.org"})
    with Client(named, [server.host]) as client:
        client.read(server.url + "/a")
    agent = server.asked[0][1]["User-Agent"]
    assert agent.startswith("galaxy-pipeline/0.") and agent.endswith(" (+survey@example.org)")


def test_a_body_that_trickles_counts_as_silence(server: Scripted) -> None:
    def loris(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """All of it in the end, a byte at a time."""
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for byte in body:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.02)

    server.files["/few"] = BODY[:40]
    server.script.append(loris)
    hasty = FAST.model_copy(update={"default": PATIENT.model_copy(update={"timeout": 0.2})})
    with Client(hasty, [server.host]) as client:
        assert client.read(server.url + "/few").requests == 2


def test_a_wish_to_wait_is_heard_by_all_and_may_exceed_the_deadline(server: Scripted) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    settings = FAST.model_copy(update={"retry": RetryPolicy(deadline=100)})
    gate = LocalGate(settings, lambda: now)
    with Client(settings, [server.host], gate, Timing(lambda: now, sleep, lambda low, high: 0.0)) as client:
        server.script.append(status(429, Retry_After="60"))
        assert client.read(server.url + "/a").data == BODY
        assert 60 <= now < 61
        server.script.append(status(429, Retry_After="3600"))
        with pytest.raises(ArchiveError, match="wants to be left alone for 3600 s"):
            client.read(server.url + "/a")
        with pytest.raises(ArchiveError, match="wants to be left alone"):
            client.read(server.url + "/b")
    assert len(server.asked) == 3


def test_pauses_are_full_jitter_and_end_at_the_deadline(server: Scripted) -> None:
    now, limits = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def uniform(low: float, high: float) -> float:
        limits.append((low, high))
        return high

    retry = RetryPolicy(attempts=20, first=1, longest=10, deadline=40)
    settings = FAST.model_copy(update={"retry": retry, "default": HostPolicy(failures=1000, rate=1000)})
    server.script.extend([status(502)] * 20)
    with (
        Client(
            settings, [server.host], LocalGate(settings, lambda: now), Timing(lambda: now, sleep, uniform)
        ) as client,
        pytest.raises(ArchiveError, match=r"HTTP 502 \(7 requests\)"),
    ):
        client.read(server.url + "/a")
    assert limits == [(0, 1), (0, 2), (0, 4), (0, 8), (0, 10), (0, 10), (0, 10)]


def test_a_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert retry_after("120", now) == 120
    assert retry_after("Sun, 22 Nov 2026 12:01:30 GMT", now) == 90
    assert retry_after("Sun, 22 Nov 2026 11:00:00 GMT", now) == 0
    assert retry_after("soon", now) is None
    assert retry_after(None, now) is None
