"""Requests to a reward server: JSON over HTTP with time-outs, bounded retries and a limit on the response's size.

Nothing is unpickled, no redirect is followed, and a key is read from the environment and never shown.
"""

import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException, IncompleteRead
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from molrl.rewards.scores import Scored, Scores, category, scores

MAX_RETRIES = 3
INITIAL_BACKOFF = 0.5  # seconds before the first retry; twice as long before each further one
MAX_RESPONSE_BYTES = 2**20
RETRY_STATUSES = (408, 425, 429, 500, 502, 503, 504)
BLOCK_BYTES = 2**16  # that are read at a time
MIN_HIDDEN_LENGTH = 6  # letters of a key; a shorter one is no secret, and may be part of any word
PREVIEW_LENGTH = 200  # characters of a response that an error shows
MAX_LOSSES = 32  # samples in a row without a score, after which it is the server's fault and no sample's


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
        timeout: seconds for each try as a whole, from the look-up of the address to the last byte of the response.
        retries: after the first try, at most MAX_RETRIES; for time-outs, refused connections and busy servers.
        key_variable: environment variable with a key that is sent as a bearer token; None: no key.
    """

    url: str
    timeout: float
    retries: int
    key_variable: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        written = self.url.isascii() and self.url.isprintable() and " " not in self.url
        address = parts.scheme in ("http", "https") and bool(parts.hostname)
        if not written or not address or parts.username or parts.password:
            raise ValueError("url: need http://host or https://host, without a user or a password in it")
        self.key  # noqa: B018  # a missing key is an error now
        if not self.timeout > 0 or not 0 <= self.retries <= MAX_RETRIES:
            raise ValueError(
                f"timeout, retries: got {self.timeout}, {self.retries}; need above 0 and 0 to {MAX_RETRIES}"
            )

    @property
    def key(self) -> str:
        """Return the key, without white space around it; "" where none is named.

        Raises:
            ValueError: it is missing or cannot be sent; the message never shows it, nor what was given as the name of
                its variable where that might be the key itself.
        """
        if self.key_variable is None:
            return ""
        known = self.key_variable in os.environ or re.fullmatch(r"[A-Z][A-Z0-9_]{0,39}", self.key_variable)
        if not known:
            raise ValueError("key_variable: need the name of an environment variable that is set, and not the key")
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise ValueError(f"key_variable: the environment variable {self.key_variable} is not set, or is empty")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(f"key_variable: what {self.key_variable} holds is no key: it must be printable ASCII")
        return key

    @property
    def place(self) -> str:
        """Return the URL as messages show it: a query may hold a secret."""
        return self.url.partition("?")[0].partition("#")[0]

    def hidden(self, value: Any) -> Any:
        """Return a value of a response without the key, which some servers repeat."""
        if isinstance(value, str):
            spellings = (self.key, self.key.replace("/", "\\/")) if len(self.key) >= MIN_HIDDEN_LENGTH else ()
            for spelling in spellings:
                value = value.replace(spelling, "***")
            return value
        if isinstance(value, list):
            return [self.hidden(item) for item in value]
        if isinstance(value, dict):
            return {self.hidden(name): self.hidden(item) for name, item in value.items()}
        return value

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
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
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
            data = within(self.timeout, lambda deadline: self.read(request, deadline))
        except HTTPError as error:
            error.close()
            category = "busy" if error.code in RETRY_STATUSES else "refused"
            raise RemoteError(f"{category}: {self.place} responds with status {error.code}") from None
        except TimeoutError:
            raise RemoteError(f"timeout: {self.place} did not respond within {self.timeout} s") from None
        except (URLError, HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, TimeoutError):
                raise RemoteError(f"timeout: {self.place} did not respond within {self.timeout} s") from None
            raise RemoteError(f"unreachable: {self.place} ({preview(self.hidden(str(reason)))})") from None
        if len(data) > MAX_RESPONSE_BYTES:
            raise RemoteError(f"nonsense: {self.place} responds with more than {MAX_RESPONSE_BYTES} bytes")
        try:
            return self.hidden(json.loads(data))
        except (ValueError, RecursionError):
            shown = preview(self.hidden(data.decode("utf-8", errors="replace")))
            raise RemoteError(f"nonsense: {self.place} does not respond with JSON but {shown!r}") from None

    def read(self, request: Request, deadline: float) -> bytes:
        """Return the bytes of a response, at most one more than MAX_RESPONSE_BYTES; TimeoutError after the deadline."""
        data = b""
        with self.opener.open(request, timeout=self.timeout) as response:
            while len(data) <= MAX_RESPONSE_BYTES and (block := response.read1(BLOCK_BYTES)):
                if time.monotonic() > deadline:
                    raise TimeoutError
                data += block
            if response.length and len(data) <= MAX_RESPONSE_BYTES:
                raise IncompleteRead(data, response.length)
        return data[: MAX_RESPONSE_BYTES + 1]


def within(seconds: float, work: Callable[[float], bytes]) -> bytes:
    """Return what work gives that is told its deadline; TimeoutError after so many seconds, whatever it waits for.

    A socket's own limit begins again with every byte, and does not hold for the look-up of an address.
    """
    result: Future[bytes] = Future()

    def fulfil() -> None:
        try:
            result.set_result(work(time.monotonic() + seconds))
        except BaseException as error:  # raised where the result is waited for
            result.set_exception(error)

    threading.Thread(target=fulfil, name="molrl-request", daemon=True).start()
    return result.result(seconds)


def preview(value: Any) -> str:
    """Return the beginning of a value of a response as an error shows it: printable, and of bounded length."""
    try:
        text = str(value)[:PREVIEW_LENGTH]
    except (RecursionError, ValueError):  # deeply nested; a number of thousands of digits
        return f"a {type(value).__name__}"
    return "".join(letter if letter.isprintable() else " " for letter in text)


def number_in_range(value: Any, low: float, high: float) -> float:
    """Return a value of a response as a float; RemoteError unless it is a number from `low` to `high` (no bool)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RemoteError(f"nonsense: got {preview(value)!r}, need a number from {low:g} to {high:g}")
    return float(value)


class RequestThreads:
    """Threads that score batches by requests to a server, several at a time.

    Args:
        parallel: requests at a time.
    """

    def __init__(self, parallel: int) -> None:
        self.executor = ThreadPoolExecutor(parallel, thread_name_prefix="molrl-reward")
        self.losses = 0  # samples in a row without a score, over all batches
        self.reported: set[str] = set()

    def submit(self, score_batch: Callable[[Any], Sequence[Scored]], batches: Sequence[Any]) -> Callable[[], Scores]:
        """Begin with batches, and return a function that waits for the values of all of them, in order."""
        futures: list[Future[Sequence[Scored]]] = [self.executor.submit(score_batch, batch) for batch in batches]
        return lambda: self.gather([scored for future in futures for scored in future.result()])

    def close(self) -> None:
        """Cancel the requests that have not begun."""
        self.executor.shutdown(wait=False, cancel_futures=True)

    def gather(self, scored: Sequence[Scored]) -> Scores:
        """Gather the values of a batch, and say on stderr what was lost, once for each category of reasons.

        Raises:
            RemoteError: the server is down, or MAX_LOSSES samples in a row could not be scored.
        """
        lost = [reason for value, reason in scored if math.isnan(value)]
        for value, _ in scored:
            self.losses = self.losses + 1 if math.isnan(value) else 0
        down = bool(lost) and len(lost) == len(scored) and {"unreachable", "refused"} >= set(map(category, lost))
        if down or self.losses >= MAX_LOSSES:
            raise RemoteError(f"none of {max(self.losses, len(lost))} samples could be scored; {lost[-1]}")
        for reason in lost:
            if category(reason) not in self.reported:
                self.reported.add(category(reason))
                print(f"molrl: a sample has no score, as every one with such a reason: {reason}", file=sys.stderr)
        return scores(scored)
