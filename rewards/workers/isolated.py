"""A reward by a model in another Python interpreter, whose packages need not go with those of this one.

The model is a file with a function `load(**arguments)`, which returns a function of a list of requests that returns a
list of numbers, None for no value. `model_server` runs it there, and is asked by lines of JSON. Nothing is pickled.
"""

import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molrl.rewards.scores import MAX_FLOAT32, PerSample, Scored, Scores, Values, scores
from molrl.rewards.workers import model_server
from molrl.rewards.workers.external_queue import Describe, Request
from molrl.rewards.workers.http import preview, within

MAX_LINE_BYTES = 1 << 24
MAX_ERROR_BYTES = 4096  # of the end of what the model writes to stderr
EXIT_SECONDS = 5.0  # that a process may take to end once it has closed its output
MAX_LOSSES = 8  # requests in a row without an answer, after which it is the model's fault and no sample's


class ModelError(RuntimeError):
    """The error of a model that gives no answer; "category: detail"."""


class ModelProcess:
    """A model that runs in another interpreter."""

    def __init__(self, python: str, file: str, arguments: Mapping[str, Any]) -> None:
        """Start the interpreter, which sees none of this one's packages and settings."""
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        command = [python, "-I", "-u", str(model_server.__file__), file, json.dumps(dict(arguments))]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, start_new_session=True)

    def query(self, message: Any, seconds: float) -> Any:
        """Return the answer to a message, both JSON; None reads one that was not asked for.

        Raises:
            ModelError: there is none in time, the process ended, or it is no JSON; the process is then useless.
        """
        line = b"" if message is None else json.dumps(message).encode() + b"\n"
        try:
            answer = within(seconds, lambda _: self.exchange(line))
        except TimeoutError:
            raise ModelError(f"timeout: no answer within {seconds:g} s") from None
        except OSError:
            answer = b""
        if not answer:
            raise ModelError(f"crash: {self.last_words()}")
        try:
            return json.loads(answer)
        except (ValueError, RecursionError):
            shown = preview(answer.decode("utf-8", errors="replace"))
            raise ModelError(f"nonsense: got {shown!r}, need a line of JSON") from None

    def exchange(self, line: bytes) -> bytes:
        """Write a line, if it is not empty, and return the next one, at most one byte more than MAX_LINE_BYTES."""
        if line:
            self.process.stdin.write(line)  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        return self.process.stdout.readline(MAX_LINE_BYTES + 1)  # type: ignore[union-attr]

    def last_words(self) -> str:
        """Return the last line that the process wrote to stderr, and its exit code once it has ended."""
        try:
            ended = f"exit code {self.process.wait(EXIT_SECONDS)}, "
        except subprocess.TimeoutExpired:
            ended = ""
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - MAX_ERROR_BYTES))
        lines = self.errors.read().decode("utf-8", errors="replace").split("\n")
        return ended + preview(next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no error"))

    def end(self) -> None:
        """End the process and those that it started."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):  # all of them have ended
                os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            with suppress(BrokenPipeError):  # a request that was never read
                stream.close()  # type: ignore[union-attr]


@dataclass(eq=False, kw_only=True)
class Isolated:
    """The value that a model in another Python interpreter gives to each sample.

    Samples are sent in batches. If a batch has no answer, because the model raises, crashes, hangs or answers nonsense,
    its samples are sent one by one, so that only those at fault are lost: NaN, with the reason.

    Attributes:
        python: the interpreter, such as admet/bin/python.
        model: a file with a function `load`, or the name of a module, whose file is run and not imported here.
        arguments: of `load`, as JSON knows them.
        describe: makes the requests.
        start_timeout: seconds until the model is loaded.
        timeout: seconds for a batch.
        batch: requests that are sent at once.
    """

    python: str
    model: str
    arguments: Mapping[str, Any]
    describe: Describe
    start_timeout: float
    timeout: float
    batch: int
    running: ModelProcess | None = field(init=False, repr=False, default=None)
    losses: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        if not (0 < self.start_timeout < math.inf and 0 < self.timeout < math.inf and self.batch >= 1):
            given = f"{self.start_timeout}, {self.timeout}, {self.batch}"
            raise ValueError(f"start_timeout, timeout, batch: got {given}; need seconds above 0, and at least 1")
        if shutil.which(os.path.expanduser(self.python)) is None:
            raise ValueError(f"python: got {self.python!r}, need the path of a Python interpreter")
        self.file  # noqa: B018  # a wrong name fails here

    @property
    def file(self) -> str:
        """Return the path of the model's file.

        Raises:
            ValueError: there is none.
        """
        if Path(self.model).suffix == ".py":
            if not Path(self.model).is_file():
                raise ValueError(f"model: there is no file {self.model}")
            return str(Path(self.model).resolve())
        try:
            spec = importlib.util.find_spec(self.model)
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.origin is None:
            raise ValueError(f"model: got {self.model!r}, need a file that ends with .py, or the name of a module")
        return spec.origin

    @property
    def kind(self) -> str | None:
        """Return the domain whose samples are described."""
        return getattr(self.describe, "kind", None)

    def start(self) -> None:
        """Start the interpreter and wait until the model is loaded.

        Raises:
            RuntimeError: it could not be; the message has the error of the model.
        """
        if self.running is not None:
            return
        self.running = ModelProcess(os.path.expanduser(self.python), self.file, self.arguments)
        try:
            self.running.query(None, self.start_timeout)
        except ModelError as error:
            self.close()
            raise RuntimeError(f"{self.model} could not be loaded by {self.python}: {error}") from None

    def close(self) -> None:
        """End the interpreter; the next sample starts a new one."""
        running, self.running = self.running, None
        if running is not None:
            running.end()

    def __call__(self, samples: Sequence[Any]) -> Values:
        """Return one float32 for each sample; NaN where there is no answer."""
        return self.score(samples).tensor()

    def score(self, samples: Sequence[Any]) -> Scores:
        """Return values and reasons in the order of the samples; those with the same key are asked about once.

        Raises:
            RuntimeError: the model cannot be loaded, or MAX_LOSSES requests in a row had no answer.
        """
        entries = [self.describe(sample) for sample in samples]
        requests = {entry.key: entry.content for entry in entries if isinstance(entry, Request)}
        keys, answers = list(requests), dict[str, Scored]()
        for first in range(0, len(keys), self.batch):
            part = keys[first : first + self.batch]
            answers |= zip(part, self.answers([requests[key] for key in part]), strict=True)
        return scores(answers[entry.key] if isinstance(entry, Request) else entry for entry in entries)

    def answers(self, requests: Sequence[Mapping[str, Any]]) -> list[Scored]:
        """Return the answers to requests, lost ones where there is none."""
        self.start()
        try:
            found = self.query(requests)
        except ModelError as error:
            if len(requests) > 1:
                return [answer for request in requests for answer in self.answers([request])]
            self.losses += 1
            if self.losses >= MAX_LOSSES:
                raise RuntimeError(f"{self.model}: none of {self.losses} samples had an answer; {error}") from None
            return [Scored(math.nan, str(error))]
        self.losses = 0
        return found

    def query(self, requests: Sequence[Mapping[str, Any]]) -> list[Scored]:
        """Return the answers to requests; a process that gives none is ended.

        Raises:
            ModelError: there is none.
        """
        assert self.running is not None
        try:
            answer = self.running.query({"requests": list(requests)}, self.timeout)
            values = answer.get("values") if isinstance(answer, dict) else None
            if isinstance(answer, dict) and isinstance(answer.get("error"), str):
                raise ModelError(f"error: {preview(answer['error'])}")
            if not isinstance(values, list) or len(values) != len(requests):
                got = f"{len(values)} values" if isinstance(values, list) else preview(answer)
                raise ModelError(f"nonsense: got {got}, need {len(requests)} values")
            return [value_of(value) for value in values]
        except ModelError as error:
            if not str(error).startswith("error"):
                self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings alone for pickling: each process starts an interpreter of its own."""
        return {**vars(self), "running": None, "losses": 0}


@dataclass(frozen=True, kw_only=True)
class IsolatedScorer(PerSample[Any]):
    """An isolated model as a scorer of single samples, for combinations with others; it is slower than batches.

    Each worker process starts an interpreter of its own.
    """

    reward: Isolated

    @property
    def kind(self) -> str | None:
        """Return the domain whose samples are described."""
        return self.reward.kind

    def score_one(self, sample: Any, /) -> Scored:
        return self.reward.score([sample]).scored[0]


def value_of(value: Any) -> Scored:
    """Return a value of an answer; NaN for None, and for what is no finite number."""
    if value is None:
        return Scored(math.nan, "no value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_FLOAT32:
        return Scored(math.nan, f"non-finite: {preview(value)}")
    return Scored(float(value))
