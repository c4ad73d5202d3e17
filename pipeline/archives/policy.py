"""How a job treats the archives: the section `archives:` of a job. Nothing here changes what is computed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HostPolicy(_Frozen):
    """What one host is asked to bear, from the whole run together.

    The defaults are polite to a service that publishes no limit: the Legacy Surveys' cutout deployment has 64
    threads for the whole world, NED's written rule is one query a second (archives.md 1.2 and 2).
    """

    in_flight: Annotated[int, Field(gt=0)] = 4  # requests at once
    rate: Positive = 5.0  # requests / s
    burst: Annotated[int, Field(gt=0)] = 4  # requests that a quiet host may get at once
    recovery: Annotated[int, Field(gt=0)] = 100  # good answers that give back one request in flight after a halving
    failures: Annotated[int, Field(gt=0)] = 8  # in a row, then the host is left alone
    pause: Positive = 30.0  # s that it is left alone at first; twice as long each time it fails again
    longest_pause: Positive = 600.0  # s
    timeout: Positive = 120.0  # s without a byte: the service renders on demand (archives.md 1.2)
    anonymous: bool = False  # a public bucket, read without credentials


STORE_POLICY = HostPolicy(in_flight=64, rate=500.0, burst=64)
"""For buckets, which are made for it: S3 gives 5,500 GETs a second and prefix (AWS, "Optimizing Amazon S3")."""


class RetryPolicy(_Frozen):
    """When to ask again: after uniform(0, min(`longest`, `first` 2^k)) seconds, "full jitter" (Brooker 2015)."""

    attempts: Annotated[int, Field(gt=0)] = 7
    first: Positive = 0.5  # s
    longest: Positive = 60.0  # s
    deadline: Positive = 900.0  # s from the first attempt of a file to the end of the last


class CacheSection(_Frozen):
    """Where files that were fetched are kept for the next run."""

    url: str | None = None  # folder or fsspec URL; None: nothing is kept
    gigabytes: Positive = 100.0  # then what was used longest ago goes
    believed_days: Annotated[float, Field(ge=0)] = 1.0  # how long "no such file" and the list of a folder are believed


class ArchivesSection(_Frozen):
    """Politeness, retries, cache, and who we say we are."""

    contact: str = ""  # mail address or URL for the User-Agent: whom an archive may ask to slow down
    allowed_hosts: tuple[str, ...] = ()  # besides those of the job's own mirror and survey; "*.esa.int" is a pattern
    default: HostPolicy = HostPolicy()
    hosts: Mapping[str, HostPolicy] = {}  # "host", "host:port" or "s3://bucket"
    retry: RetryPolicy = RetryPolicy()
    published_sums: bool = True  # fetch the lists of SHA-256 sums, one small request a brick more; else FITS cards only
    cache: CacheSection = CacheSection()

    def policy(self, host: str) -> HostPolicy:
        """The policy of a host as `host_of` names it."""
        named = self.hosts.get(host) or self.hosts.get(host.partition(":")[0])
        return named or (STORE_POLICY if "://" in host else self.default)

    def anywhere(self) -> ArchivesSection:
        """The section with the cache's local folder absolute."""
        url = self.cache.url
        if url is None or re.match(r"[a-z0-9+]+:", url):
            return self
        return self.model_copy(update={"cache": self.cache.model_copy(update={"url": str(Path(url).absolute())})})


def host_of(url: str) -> str:
    """Who is asked: "host" or "host:port" of an http(s) URL, "scheme://bucket" of any other.

    "" for what is no URL: no job allows it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no address
        return ""
    place = parts.netloc.rpartition("@")[2].lower()
    return place if parts.scheme in ("http", "https") else f"{parts.scheme}://{place}"
