"""Scores of images by a server over HTTP: a vision-language model with an OpenAI-style API, or any that takes JSON."""

import base64
import hashlib
import io
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from PIL import Image

from molrl.data.images.image import CaptionedImage
from molrl.rewards.scores import Scored, Scores, Values
from molrl.rewards.workers.http import Endpoint, RemoteError, RequestThreads, number_in_range, preview

MAX_ABSOLUTE_SCORE = 1e6  # of a server
MAX_RATING = 10.0  # of a vision-language model
CACHE_SIZE = 100_000  # images whose score is kept


def png(image: CaptionedImage) -> bytes:
    """Encode an image as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.pixels).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class RemoteReward:
    """A reward whose images are sent to a server, several at a time, while others are sampled.

    Attributes:
        batch: images in a request.
        parallel: requests at a time.
    """

    parallel: int
    batch: int = 1
    kind: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        if self.parallel < 1 or self.batch < 1:
            raise ValueError(f"parallel, batch: got {self.parallel}, {self.batch}; need at least 1")

    @abstractmethod
    def score_batch(self, samples: Sequence[CaptionedImage]) -> list[Scored]:
        """Score a batch of images by requests to the server; called in a thread."""

    @cached_property
    def threads(self) -> RequestThreads:
        """Return the threads that send the requests."""
        return RequestThreads(self.parallel)

    def close(self) -> None:
        """Cancel the requests that have not begun."""
        if (threads := self.__dict__.pop("threads", None)) is not None:
            threads.close()

    def submit_scores(self, samples: Sequence[CaptionedImage]) -> Callable[[], Scores]:
        """Begin with some images, and return a function that waits for values and reasons, in their order."""
        batches = [samples[start : start + self.batch] for start in range(0, len(samples), self.batch)]
        return self.threads.submit(self.score_batch, batches)

    def submit(self, samples: Sequence[CaptionedImage]) -> Callable[[], Values]:
        """Begin with some images, and return a function that waits for the values."""
        scores = self.submit_scores(samples)
        return lambda: scores().tensor()

    def score(self, samples: Sequence[CaptionedImage]) -> Scores:
        """Return values and reasons in the order of the samples."""
        return self.submit_scores(samples)()

    def __call__(self, samples: Sequence[CaptionedImage]) -> Values:
        return self.score(samples).tensor()


@dataclass(frozen=True, kw_only=True)
class VLMJudge(RemoteReward):
    """The rating by a vision-language model of an image's alignment with its prompt, in [0, 1].

    0 for a bad sample, NaN where the model gives no rating.

    Attributes:
        url: base of the API, such as http://localhost:8000/v1.
        model: its name on the server.
        question: with {prompt}; asks for JSON {"score": 0 to 10}.
        timeout, retries, key_variable: see `Endpoint`.
    """

    url: str
    model: str
    question: str
    timeout: float
    retries: int
    key_variable: str | None = None
    cache: dict[str, Scored] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self.question.format(prompt="")
        except (KeyError, IndexError, ValueError):
            raise ValueError(
                f"question: got {self.question!r}, need text with {{prompt}}; other braces twice"
            ) from None
        self.endpoint  # noqa: B018  # a wrong address is an error now

    @cached_property
    def endpoint(self) -> Endpoint:
        """Return the endpoint of the chat completions."""
        url = f"{self.url.rstrip('/')}/chat/completions"
        return Endpoint(url=url, timeout=self.timeout, retries=self.retries, key_variable=self.key_variable)

    def score_batch(self, samples: Sequence[CaptionedImage]) -> list[Scored]:
        """Score images by one request for each."""
        return [self.score_image(sample) for sample in samples]

    def score_image(self, sample: CaptionedImage) -> Scored:
        """Score one image, from the cache if it has been rated before."""
        if sample.flaw:
            return Scored(0.0, sample.flaw)
        image = png(sample)
        content = b"\0".join([image, *map(str.encode, (sample.prompt, self.model, self.question))])
        key = hashlib.sha256(content).hexdigest()
        if (cached := self.cache.get(key)) is not None:
            return cached
        try:
            scored = Scored(self.rate(image, sample.prompt) / MAX_RATING)
        except RemoteError as error:
            return Scored(math.nan, str(error))
        if len(self.cache) < CACHE_SIZE:
            self.cache[key] = scored
        return scored

    def rate(self, image: bytes, prompt: str) -> float:
        """Return the model's rating, 0 to 10; RemoteError where the response has none."""
        address = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        text = {"type": "text", "text": self.question.format(prompt=prompt)}
        content = [text, {"type": "image_url", "image_url": {"url": address}}]
        message = {"role": "user", "content": content}
        response = self.endpoint.post({"model": self.model, "temperature": 0, "max_tokens": 32, "messages": [message]})
        try:
            rating = json.loads(response["choices"][0]["message"]["content"])["score"]
        except (KeyError, IndexError, TypeError, ValueError, RecursionError):
            needed = 'need {"score": 0 to 10} as the content'
            raise RemoteError(f"nonsense: {needed}, got {preview(response)!r}") from None
        return number_in_range(rating, 0, MAX_RATING)


@dataclass(frozen=True, kw_only=True)
class RemoteScorer(RemoteReward):
    """The score by a server that takes {"prompts": [...], "images": [base64 PNG ...]} and returns {"scores": [...]}.

    A score of null, with the reason in "reasons", is an image that could not be scored: NaN.

    Attributes:
        url: of the server, for POST.
        floor: the value of a bad sample.
        timeout, retries, key_variable: see `Endpoint`.
    """

    url: str
    floor: float
    timeout: float
    retries: int
    key_variable: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.endpoint  # noqa: B018  # a wrong address is an error now

    @cached_property
    def endpoint(self) -> Endpoint:
        """Return the endpoint of the server."""
        return Endpoint(url=self.url, timeout=self.timeout, retries=self.retries, key_variable=self.key_variable)

    def score_batch(self, samples: Sequence[CaptionedImage]) -> list[Scored]:
        """Score images by one request for all of them."""
        good = [sample for sample in samples if not sample.flaw]
        try:
            scored = iter(self.request_scores(good) if good else [])
        except RemoteError as error:
            scored = iter([Scored(math.nan, str(error))] * len(good))
        return [Scored(self.floor, sample.flaw) if sample.flaw else next(scored) for sample in samples]

    def request_scores(self, samples: Sequence[CaptionedImage]) -> list[Scored]:
        """Return the server's scores of good images; RemoteError where the response as a whole is invalid."""
        images = [base64.b64encode(png(sample)).decode() for sample in samples]
        response = self.endpoint.post({"prompts": [sample.prompt for sample in samples], "images": images})
        values = response.get("scores") if isinstance(response, dict) else None
        if not isinstance(values, list) or len(values) != len(samples):
            raise RemoteError(f"nonsense: need {len(samples)} scores, got {preview(response)!r}")
        reasons = response.get("reasons")
        if not isinstance(reasons, list) or len(reasons) != len(samples):
            reasons = [""] * len(samples)
        return [server_score(value, reason) for value, reason in zip(values, reasons, strict=True)]


def server_score(value: Any, reason: Any) -> Scored:
    """Return one image's score of a response; NaN with a reason for null and for what is no score."""
    if value is None:
        return Scored(math.nan, f"error: {preview(reason)}")
    try:
        return Scored(number_in_range(value, -MAX_ABSOLUTE_SCORE, MAX_ABSOLUTE_SCORE))
    except RemoteError as error:
        return Scored(math.nan, str(error))
