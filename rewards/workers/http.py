"""Rewards on a server: JSON over HTTP with time-outs, bounded retries and a cap on the answer.

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

MOST_RETRIES = 3
FIRST_PAUSE = 0.5  # seconds before the first retry; twice as long before each further one
MOST_BYTES = 2**20  # of an answer
PASSING = (408, 425, 429, 500, 502, 503, 504)  # statuses worth another try
SHOWN = 80  # letters of an answer that an error shows


class RemoteError(RuntimeError):
    """A reward server that is down or does not answer as it should; "category: detail"."""


class Unredirected(HTTPRedirectHandler):
    """A redirect is an answer like any other: one that is not wanted."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """No further request."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to POST JSON.

    Attributes:
        url: http or https, without user and password.
        timeout: seconds for each try.
        retries: after the first try, at most MOST_RETRIES; for time-outs, refused connections and busy servers.
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
        if not self.timeout > 0 or not 0 <= self.retries <= MOST_RETRIES:
            raise ValueError(
                f"timeout, retries: got {self.timeout}, {self.retries}; need above 0 and 0 to {MOST_RETRIES}"
            )

    @cached_property
    def opener(self) -> OpenerDirector:
        """Follows no redirects."""
        return build_opener(Unredirected)

    def post(self, payload: Any) -> Any:
        """The JSON answer to some JSON.

        Raises:
            RemoteError: there is none.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key_variable is not None:
            headers["Authorization"] = f"Bearer {os.environ.get(self.key_variable, '')}"
        request = Request(self.url, json.dumps(payload).encode(), headers, method="POST")
        for attempt in range(self.retries + 1):
            try:
                return self.asked(request)
            except RemoteError as error:
                if attempt == self.retries or not str(error).startswith(("timeout", "unreachable", "busy")):
                    raise
                time.sleep(FIRST_PAUSE * 2**attempt)
        raise AssertionError

    def asked(self, request: Request) -> Any:
        """One try."""
        try:
            with self.opener.open(request, timeout=self.timeout) as answer:
                data = answer.read(MOST_BYTES + 1)
        except HTTPError as error:
            error.close()
            kind = "busy" if error.code in PASSING else "refused"
            raise RemoteError(f"{kind}: {self.url} answers with status {error.code}") from None
        except TimeoutError:
            raise RemoteError(f"timeout: {self.url} did not answer within {self.timeout} s") from None
        except (URLError, HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, TimeoutError):
                raise RemoteError(f"timeout: {self.url} did not answer within {self.timeout} s") from None
            raise RemoteError(f"unreachable: {self.url} ({reason})") from None
        if len(data) > MOST_BYTES:
            raise RemoteError(f"nonsense: {self.url} answers with more than {MOST_BYTES} bytes")
        try:
            return json.loads(data)
        except ValueError:
            raise RemoteError(f"nonsense: {self.url} does not answer with JSON but {shown(data)}") from None


def shown(data: bytes) -> str:
    """The beginning of an answer, for an error."""
    return repr(data[:SHOWN].decode("utf-8", errors="replace"))


def number_of(value: Any, low: float, high: float) -> float:
    """A number in a range out of an answer; RemoteError for anything else, truth values among it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RemoteError(f"nonsense: got {value!r:.80}, need a number from {low:g} to {high:g}")
    return float(value)


class Asked:
    """Work of a pool of threads, some calls at a time, whose values are waited for together.

    Args:
        parallel: calls at a time.
    """

    def __init__(self, parallel: int) -> None:
        self.pool = ThreadPoolExecutor(parallel, thread_name_prefix="molrl-reward")

    def ask(self, judged: Callable[[Any], Sequence[Scored]], batches: Sequence[Any]) -> Callable[[], Scores]:
        """Hand out batches; what comes back waits for the values of all of them, in order."""
        waiting: list[Future[Sequence[Scored]]] = [self.pool.submit(judged, batch) for batch in batches]
        return lambda: gathered([scored for future in waiting for scored in future.result()])

    def close(self) -> None:
        """Begin no further calls."""
        self.pool.shutdown(wait=False, cancel_futures=True)


def gathered(found: Sequence[Scored]) -> Scores:
    """The values of a batch.

    Raises:
        RemoteError: none of them could be had, which is the server's fault and not a sample's.
    """
    lost = [scored.reason for scored in found if math.isnan(scored.value)]
    if lost and len(lost) == len(found):
        raise RemoteError(f"none of {len(found)} samples could be scored; {lost[0]}")
    return scores(found)
