"""A `requests` session for libraries that bring their own requests (pyvo, astroquery), under the client's rules.

Every request has the leave of the limiter, goes to hosts that the job allows, and carries our User-Agent. What may go
better is asked again by the job's rules for retries; a request that may have changed something on the server is not.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from pipeline.archives.answers import Fault
from pipeline.archives.client import Client
from pipeline.archives.limiter import Outcome
from pipeline.archives.policy import host_of
from pipeline.archives.web import retry_after
from pipeline.errors import ArchiveError
from pipeline.storage import without_credentials

_BUSY = (429, 503)  # the server says that it has done nothing
_BROKEN = (500, 502, 504)


def polite_session(client: Client, sleep: Callable[[float], None] = time.sleep) -> requests.Session:
    """A session whose every request, redirects included, is the client's."""
    session = requests.Session()
    session.trust_env = False  # no .netrc: secrets come from the job alone
    session.headers["User-Agent"] = client.user_agent
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Polite(client, sleep))
    return session


class _Polite(HTTPAdapter):
    def __init__(self, client: Client, sleep: Callable[[float], None]) -> None:
        super().__init__()
        self._client, self._sleep = client, sleep

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Raises ArchiveRefused for a host that the job does not allow, ArchiveError once all attempts have failed."""
        url, retry = str(request.url), self._client.settings.retry
        options["timeout"] = self._client.settings.policy(host_of(url)).timeout
        for attempt in range(retry.attempts):
            answer = self._once(request, *args, **options)
            again = answer.status_code in _BUSY if isinstance(answer, requests.Response) else request.method == "GET"
            if isinstance(answer, requests.Response) and answer.status_code in _BROKEN:
                again = request.method == "GET"
            if not again or attempt + 1 == retry.attempts:
                break
            self._sleep(random.uniform(0, min(retry.longest, retry.first * 2**attempt)))
        if isinstance(answer, Fault):
            raise ArchiveError(f"{without_credentials(url)}: {answer}")
        return answer

    def _once(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response | Fault:
        response: requests.Response | None = None
        try:
            with self._client.leave(str(request.url)):
                response = self._answer(request, *args, **options)
                _judge(response)
        except Fault as fault:
            return fault if response is None else response
        return response

    def _answer(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        try:
            return _whole(super().send(request, *args, **options))
        except requests.Timeout as error:
            raise Fault(type(error).__name__, Outcome.BUSY) from None
        except requests.RequestException as error:
            raise Fault(type(error).__name__, Outcome.FAILED) from None


def _whole(response: requests.Response) -> requests.Response:
    """The response with its body read, while we have leave: whoever streams it reads memory."""
    body = response.content
    response.close()
    response.raw = HTTPResponse(BytesIO(body), status=response.status_code, preload_content=False)
    return response


def _judge(response: requests.Response) -> None:
    """Raises Fault, for the limiter, where the server wants or needs rest."""
    status = response.status_code
    if status in _BUSY:
        raise Fault(f"HTTP {status}", Outcome.BUSY, retry_after(response.headers.get("Retry-After"), datetime.now(UTC)))
    if status in _BROKEN:
        raise Fault(f"HTTP {status}", Outcome.FAILED)
