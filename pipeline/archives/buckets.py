"""One request to an object store, by fsspec: no retries, not even the store's own client's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from pipeline.archives.answers import Body, Fault
from pipeline.archives.limiter import Outcome
from pipeline.archives.policy import HostPolicy
from pipeline.archives.web import Request
from pipeline.errors import ArchiveChanged, ArchiveError, ArchiveRefused
from pipeline.storage import without_credentials

STEP = 8 << 20  # bytes of one GET: what is lost where the line breaks
_BUSY = (429, 503)


def store_of(url: str, policy: HostPolicy) -> Any:
    """The file system of a bucket, with its own retries off: ours would multiply them. Raises ArchiveError."""
    options: dict[str, Any] = {}
    if url.startswith(("s3://", "s3a://")):
        timeouts = {"read_timeout": policy.timeout, "connect_timeout": min(20.0, policy.timeout)}
        options = {"anon": policy.anonymous, "config_kwargs": {"retries": {"total_max_attempts": 1}, **timeouts}}
    try:
        store = fsspec.filesystem(fsspec.utils.get_protocol(url), skip_instance_cache=True, **options)
    except (ValueError, ImportError) as error:
        message = f"{without_credentials(url)}: {type(error).__name__}: no way to read such a URL"
        raise ArchiveError(message) from None
    if options:
        store.retries = 1
    return store


@contextmanager
def opened(store: Any, wanted: Request) -> Iterator[Body]:
    """What is wanted of an object. Raises like `web.opened`."""
    with faults(wanted.shown):
        file = store.open(store._strip_protocol(wanted.url), "rb", cache_type="none")
    with file:
        with faults(wanted.shown):
            facts = getattr(file, "details", None) or store.info(store._strip_protocol(wanted.url))
        size, etag = int(facts["size"]), facts.get("ETag")
        if wanted.etag and etag and etag != wanted.etag:
            raise ArchiveChanged(f"{wanted.shown}: is another version now: ETag {etag}, was {wanted.etag}")
        stop = size if wanted.stop is None else min(wanted.stop, size)
        yield Body(
            offset=wanted.start,
            length=max(0, stop - wanted.start),
            total=size,
            etag=etag,
            modified=str(facts["LastModified"]) if "LastModified" in facts else None,
            chunks=_chunks(file, wanted.start, stop, wanted.shown),
        )


def _chunks(file: Any, start: int, stop: int, shown: str) -> Iterator[bytes]:
    while start < stop:
        with faults(shown):
            file.seek(start)
            data = file.read(min(STEP, stop - start))
        if not data:
            return
        start += len(data)
        yield data


@contextmanager
def faults(shown: str) -> Iterator[None]:
    """Say what the store's client did in words of our own: its messages repeat URLs and keys."""
    from botocore.exceptions import BotoCoreError, ClientError
    from s3fs.utils import FileExpired

    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{shown}: the archive has no such file") from None
    except PermissionError as error:
        raise ArchiveRefused(f"{shown}: {error.strerror or 'access denied'}") from None
    except FileExpired:
        raise ArchiveChanged(f"{shown}: is another version now") from None
    except (OSError, BotoCoreError, ClientError) as error:
        status = _status(error)
        outcome = Outcome.BUSY if status in _BUSY or "Timeout" in type(error).__name__ else Outcome.FAILED
        raise Fault(f"{type(error).__name__}{f' {status}' if status else ''}", outcome, None, status) from None


def _status(error: Exception) -> int | None:
    """The HTTP status, where the error or its cause carries one."""
    for bearer in (error, error.__cause__):
        status = (getattr(bearer, "response", None) or {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status:
            return int(status)
    return None
