"""Score images by a server over HTTP: a vision-language model with an OpenAI-style API, or any that speaks JSON."""

import base64
import hashlib
import io
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from PIL import Image

from molrl.data.images.image import CaptionedImage
from molrl.rewards.scores import Scored, Scores, Values
from molrl.rewards.workers.http import Asked, Endpoint, RemoteError, number_of

LARGEST = 1e6  # absolute value that a scorer may give
BEST = 10.0  # points of a vision-language model
REMEMBERED = 100_000  # images whose score is kept


def png(image: CaptionedImage) -> bytes:
    """As a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.pixels).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A reward whose images are sent away, some at a time, while others are drawn.

    Attributes:
        batch: images in a request.
        parallel: requests at a time.
    """

    parallel: int
    batch: int = 1

    def __post_init__(self) -> None:
        if self.parallel < 1 or self.batch < 1:
            raise ValueError(f"parallel, batch: got {self.parallel}, {self.batch}; need at least 1")

    @abstractmethod
    def judged(self, samples: Sequence[CaptionedImage]) -> list[Scored]:
        """A batch."""

    @cached_property
    def asked(self) -> Asked:
        """The threads that ask."""
        return Asked(self.parallel)

    def close(self) -> None:
        """Give up what is still to be asked."""
        if (asked := self.__dict__.pop("asked", None)) is not None:
            asked.close()

    def waiting(self, samples: Sequence[CaptionedImage]) -> Callable[[], Scores]:
        """What comes back waits for the values and reasons, in the order of the samples."""
        batches = [samples[start : start + self.batch] for start in range(0, len(samples), self.batch)]
        return self.asked.ask(self.judged, batches)

    def submit(self, samples: Sequence[CaptionedImage]) -> Callable[[], Values]:
        """Ask about some images while others are drawn."""
        scores = self.waiting(samples)
        return lambda: scores().tensor()

    def score(self, samples: Sequence[CaptionedImage]) -> Scores:
        """Values and reasons, in the order of the samples."""
        return self.waiting(samples)()

    def __call__(self, samples: Sequence[CaptionedImage]) -> Values:
        return self.score(samples).tensor()


@dataclass(frozen=True, kw_only=True)
class VLMJudge(Scorer):
    """A model's mark for how well an image shows its prompt, in [0, 1]; 0 for no image, NaN where there is no mark.

    Attributes:
        url: base of the API, such as http://localhost:8000/v1.
        model: what the server calls it.
        question: with {prompt}; asks for JSON {"score": 0 to 10}.
        timeout, retries, key_variable: see `Endpoint`.
    """

    url: str
    model: str
    question: str
    timeout: float
    retries: int
    key_variable: str | None = None
    known: dict[str, Scored] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        """Of the chat completions."""
        url = f"{self.url.rstrip('/')}/chat/completions"
        return Endpoint(url=url, timeout=self.timeout, retries=self.retries, key_variable=self.key_variable)

    def judged(self, samples: Sequence[CaptionedImage]) -> list[Scored]:
        """One request for each image."""
        return [self.judged_alone(sample) for sample in samples]

    def judged_alone(self, sample: CaptionedImage) -> Scored:
        """One image; what was answered before is not asked again."""
        if sample.flaw:
            return Scored(0.0, sample.flaw)
        image = png(sample)
        name = hashlib.sha256(b"\0".join([image, *map(str.encode, (sample.prompt, self.model, self.question))]))
        if (before := self.known.get(name.hexdigest())) is not None:
            return before
        try:
            scored = Scored(self.mark(image, sample.prompt) / BEST)
        except RemoteError as error:
            return Scored(math.nan, str(error))
        if len(self.known) < REMEMBERED:
            self.known[name.hexdigest()] = scored
        return scored

    def mark(self, image: bytes, prompt: str) -> float:
        """0 to 10; RemoteError where the answer is not that."""
        address = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        text = {"type": "text", "text": self.question.format(prompt=prompt)}
        content = [text, {"type": "image_url", "image_url": {"url": address}}]
        message = {"role": "user", "content": content}
        answer = self.endpoint.post({"model": self.model, "temperature": 0, "max_tokens": 32, "messages": [message]})
        try:
            said = answer["choices"][0]["message"]["content"]
            found = json.loads(said)["score"]
        except (KeyError, IndexError, TypeError, ValueError):
            raise RemoteError(
                f'nonsense: need {{"score": 0 to 10}} as the content, got {str(answer)[:200]!r}'
            ) from None
        return number_of(found, 0, BEST)


@dataclass(frozen=True, kw_only=True)
class RemoteScorer(Scorer):
    """Scores of a server that is sent {"prompts": [...], "images": [base64 PNG ...]} and answers {"scores": [...]}.

    A score of null, with the reason in "reasons", is an image that could not be scored: NaN.

    Attributes:
        url: where to POST.
        floor: of what is no image.
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
        """Of the server."""
        return Endpoint(url=self.url, timeout=self.timeout, retries=self.retries, key_variable=self.key_variable)

    def judged(self, samples: Sequence[CaptionedImage]) -> list[Scored]:
        """One request."""
        good = [sample for sample in samples if not sample.flaw]
        try:
            found = iter(self.values(good) if good else [])
        except RemoteError as error:
            found = iter([Scored(math.nan, str(error))] * len(good))
        return [Scored(self.floor, sample.flaw) if sample.flaw else next(found) for sample in samples]

    def values(self, samples: Sequence[CaptionedImage]) -> list[Scored]:
        """The server's word for each; RemoteError where the answer is not that."""
        images = [base64.b64encode(png(sample)).decode() for sample in samples]
        answer = self.endpoint.post({"prompts": [sample.prompt for sample in samples], "images": images})
        found = answer.get("scores") if isinstance(answer, dict) else None
        if not isinstance(found, list) or len(found) != len(samples):
            raise RemoteError(f"nonsense: need {len(samples)} scores, got {str(answer)[:200]!r}")
        reasons = answer.get("reasons")
        told = reasons if isinstance(reasons, list) and len(reasons) == len(samples) else [""] * len(samples)
        return [
            Scored(math.nan, f"error: {str(reason)[:200]}")
            if value is None
            else Scored(number_of(value, -LARGEST, LARGEST))
            for value, reason in zip(found, told, strict=True)
        ]
