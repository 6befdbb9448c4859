"""A reward that another program computes, whenever it comes to it: requests and answers are files in a folder.

`requests/ID.json` describes a sample. The program writes `answers/ID.json`, with {"value": NUMBER} or {"error": TEXT}.
Both stay, so that no sample is asked for twice, by this run or another one with the same folder.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from molrl.machine.files import SpecialFileError, read_bounded, replace_file
from molrl.rewards.scores import MAX_FLOAT32, Scored, Scores, Values, scores

MAX_ANSWER_BYTES = 1 << 16
MAX_REASON = 300  # letters of an error that are kept


class Request(NamedTuple):
    """A question about a sample.

    Attributes:
        key: the same for samples with the same value.
        content: of the file, as JSON.
    """

    key: str
    content: Mapping[str, Any]


class Describe(Protocol):
    """A function that makes requests of samples."""

    def __call__(self, sample: Any, /) -> Request | Scored:
        """Return the request for a sample, or the value of one that need not be asked about."""
        ...


class WrongAnswerError(ValueError):
    """The error of an answer that is none."""


@dataclass(eq=False)
class ExternalQueue:
    """A reward whose values come by files, late or never.

    Attributes:
        folder: of `requests` and `answers`.
        wait: seconds after a request until which an answer counts; without one the sample is lost: NaN, "pending".
        poll: seconds between two looks for answers.
        describe: makes the requests.
    """

    folder: str
    wait: float
    poll: float
    describe: Describe

    def __post_init__(self) -> None:
        if not 0 <= self.wait < math.inf or not 0 < self.poll < math.inf:
            raise ValueError(f"wait, poll: got {self.wait}, {self.poll}; need seconds from 0, and above 0")
        self.place = Path(self.folder).expanduser()

    @property
    def kind(self) -> str | None:
        """Return the domain whose samples are described."""
        return getattr(self.describe, "kind", None)

    def start(self) -> None:
        """Make the folders of requests and answers."""
        for name in ("requests", "answers"):
            (self.place / name).mkdir(parents=True, exist_ok=True)

    def __call__(self, samples: Sequence[Any]) -> Values:
        """Return one float32 for each sample; NaN where there was no answer in time."""
        return self.score(samples).tensor()

    def score(self, samples: Sequence[Any]) -> Scores:
        """Return values and reasons in the order of the samples."""
        return self.begin(samples)()

    def submit(self, samples: Sequence[Any]) -> Callable[[], Values]:
        """Ask about samples, and return a function that waits for the values."""
        wait = self.begin(samples)
        return lambda: wait().tensor()

    def request(self, samples: Sequence[Any]) -> None:
        """Ask about samples whose values are wanted later."""
        self.begin(samples)

    def begin(self, samples: Sequence[Any]) -> Callable[[], Scores]:
        """Ask about samples, and return a function that waits for values and reasons."""
        self.start()
        due = time.monotonic() + self.wait
        entries = [self.file_request(sample) for sample in samples]
        return lambda: scores(one if isinstance(one, Scored) else self.await_answer(one, due) for one in entries)

    def file_request(self, sample: Any) -> str | Scored:
        """Write the request for a sample, unless it is there; return its ID, or the value of one that needs none."""
        found = self.describe(sample)
        if isinstance(found, Scored):
            return found
        name = hashlib.sha256(found.key.encode()).hexdigest()[:32]
        path = self.place / "requests" / f"{name}.json"
        if not path.exists():
            replace_file(path, json.dumps({"id": name, **found.content}).encode())
        return name

    def await_answer(self, name: str, due: float) -> Scored:
        """Return an answer; a wrong one may be put right until the time is up, and is then lost with its fault."""
        while True:
            try:
                answer, fault = self.answer(name), f"pending: no answer within {self.wait:g} s"
            except WrongAnswerError as error:
                answer, fault = None, f"wrong answer: {error}"
            if answer is not None:
                return answer
            if (left := due - time.monotonic()) <= 0:
                return Scored(math.nan, fault)
            time.sleep(min(self.poll, left))

    def answer(self, name: str) -> Scored | None:
        """Return the answer with an ID; None: there is none yet.

        Raises:
            WrongAnswerError: what is there is no answer, perhaps not yet.
        """
        try:
            data = read_bounded(self.place / "answers" / f"{name}.json", MAX_ANSWER_BYTES)
        except FileNotFoundError:
            return None
        except (OSError, SpecialFileError, ValueError) as error:
            raise WrongAnswerError(str(error)) from None
        return parse_answer(data, name)


def parse_answer(data: bytes, name: str) -> Scored:
    """Return the value in an answer to the request with this ID, or NaN with the error that it reports.

    Raises:
        WrongAnswerError: it is no JSON object with either a finite number or an error, or it is that of another ID.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WrongAnswerError("need a JSON object")
    if found.get("id", name) != name:
        raise WrongAnswerError("it has the id of another request")
    value, error = found.get("value"), found.get("error")
    if isinstance(error, str) and "value" not in found:
        shown = "".join(letter if letter.isprintable() else " " for letter in error[:MAX_REASON])
        return Scored(math.nan, f"error: {shown}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_FLOAT32:
        raise WrongAnswerError('need "value", a finite number, or "error", a text')
    return Scored(float(value))
