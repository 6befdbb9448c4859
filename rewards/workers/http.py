"""Requests to a reward server: JSON over HTTP with time-outs, bounded retries and a limit on the response's size.

Nothing is unpickled, no redirect is followed, and a key is read from the environment and never shown.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from molrl.rewards.scores import Scored, Scores, scores

MAX_RETRIES = 3
INITIAL_BACKOFF = 0.5  # seconds before the first retry; twice as long before each further one
MAX_RESPONSE_BYTES = 2**20
RETRY_STATUSES = (408, 425, 429, 500, 502, 503, 504)
PREVIEW_LENGTH = 80  # characters of a response that an error shows


class RemoteError(RuntimeError):
    """An error of a reward server, which is down or gives no valid response; "category: detail"."""


class NoRedirectHandler(HTTPRedirectHandler):
    """A handler that treats redirects as errors, as any other status that was not wanted."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """Return no further request, which makes a redirect an error."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A URL that takes JSON by POST and responds with JSON.

    Attributes:
        url: http or https, without user and password.
        timeout: seconds for each try.
        retries: after the first try, at most MAX_RETRIES; for time-outs, refused connections and busy servers.
        key_variable: environment variable with a key, sent as a bearer token; None: no key.
    """

    url: str
    timeout: float
    retries: int
    key_variable: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ValueError("url: need http://host or https://host, without a user or a password in it")
        if not self.timeout > 0 or not 0 <= self.retries <= MAX_RETRIES:
            raise ValueError(
                f"timeout, retries: got {self.timeout}, {self.retries}; need above 0 and 0 to {MAX_RETRIES}"
            )

    @cached_property
    def opener(self) -> OpenerDirector:
        """Return the opener, which follows no redirects."""
        return build_opener(NoRedirectHandler)

    def post(self, payload: Any) -> Any:
        """Post JSON and return the JSON of the response.

        Raises:
            RemoteError: there is no valid response.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key_variable is not None:
            headers["Authorization"] = f"Bearer {os.environ.get(self.key_variable, '')}"
        request = Request(self.url, json.dumps(payload).encode(), headers, method="POST")
        for attempt in range(self.retries + 1):
            try:
                return self.send(request)
            except RemoteError as error:
                if attempt == self.retries or not str(error).startswith(("timeout", "unreachable", "busy")):
                    raise
                time.sleep(INITIAL_BACKOFF * 2**attempt)
        raise AssertionError

    def send(self, request: Request) -> Any:
        """Send a request once and return the JSON of the response."""
        try:
            with self.opener.open(request, timeout=self.timeout) as response:
                data = response.read(MAX_RESPONSE_BYTES + 1)
        except HTTPError as error:
            error.close()
            category = "busy" if error.code in RETRY_STATUSES else "refused"
            raise RemoteError(f"{category}: {self.url} responds with status {error.code}") from None
        except TimeoutError:
            raise RemoteError(f"timeout: {self.url} did not respond within {self.timeout} s") from None
        except (URLError, HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, TimeoutError):
                raise RemoteError(f"timeout: {self.url} did not respond within {self.timeout} s") from None
            raise RemoteError(f"unreachable: {self.url} ({reason})") from None
        if len(data) > MAX_RESPONSE_BYTES:
            raise RemoteError(f"nonsense: {self.url} responds with more than {MAX_RESPONSE_BYTES} bytes")
        try:
            return json.loads(data)
        except ValueError:
            raise RemoteError(f"nonsense: {self.url} does not respond with JSON but {preview(data)}") from None


def preview(data: bytes) -> str:
    """Return the beginning of a response as an error shows it."""
    return repr(data[:PREVIEW_LENGTH].decode("utf-8", errors="replace"))


def number_in_range(value: Any, low: float, high: float) -> float:
    """Return a value of a response as a float; RemoteError unless it is a number from `low` to `high` (no bool)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RemoteError(f"nonsense: got {value!r:.80}, need a number from {low:g} to {high:g}")
    return float(value)


class RequestThreads:
    """Threads that score batches by requests to a server, several at a time.

    Args:
        parallel: requests at a time.
    """

    def __init__(self, parallel: int) -> None:
        self.executor = ThreadPoolExecutor(parallel, thread_name_prefix="molrl-reward")

    def submit(self, score_batch: Callable[[Any], Sequence[Scored]], batches: Sequence[Any]) -> Callable[[], Scores]:
        """Begin with batches, and return a function that waits for the values of all of them, in order."""
        futures: list[Future[Sequence[Scored]]] = [self.executor.submit(score_batch, batch) for batch in batches]
        return lambda: gather_scores([scored for future in futures for scored in future.result()])

    def close(self) -> None:
        """Cancel the requests that have not begun."""
        self.executor.shutdown(wait=False, cancel_futures=True)


def gather_scores(scored: Sequence[Scored]) -> Scores:
    """Gather the values of a batch.

    Raises:
        RemoteError: no sample at all could be scored, which is the server's fault and not a sample's.
    """
    lost = [reason for value, reason in scored if math.isnan(value)]
    if lost and len(lost) == len(scored):
        raise RemoteError(f"none of {len(scored)} samples could be scored; {lost[0]}")
    return scores(scored)
