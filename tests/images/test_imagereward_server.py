"""The server in docs/ that answers `reward=remote` with ImageReward, with a stand-in for the model."""

import json
import threading
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest

from molrl.data.images.image import CaptionedImage
from molrl.rewards.images.vlm import RemoteScorer

FILE = Path(__file__).parents[2] / "docs/imagereward_server.py"


class Model:
    """A model whose score is the length of the prompt plus the red of the first pixel."""

    def score(self, prompt: str, image: Any) -> float:
        if prompt == "bad":
            raise RuntimeError("out of order")
        return len(prompt) + float(image.getpixel((0, 0))[0])


@pytest.fixture
def url() -> Iterator[str]:
    spec = spec_from_file_location("imagereward_server", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.make_server(Model(), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/score"
        server.shutdown()


def red(prompt: str) -> CaptionedImage:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0] = 100
    return CaptionedImage(pixels, prompt)


def test_scores_come_in_order_and_what_fails_has_a_reason(url: str) -> None:
    reward = RemoteScorer(url=url, floor=-3.0, batch=2, timeout=20.0, retries=0, parallel=2, key_variable=None)
    scores = reward.score([red("a dog"), red("bad"), red("a")])
    assert [one.value for one in scores.scored][::2] == [105.0, 101.0]
    assert np.isnan(scores.scored[1].value)
    assert "out of order" in scores.scored[1].reason


@pytest.mark.parametrize("body", [b"", b"[]", b"{", json.dumps({"prompts": ["a"], "images": []}).encode()])
def test_nonsense_is_refused_and_the_server_goes_on(url: str, body: bytes) -> None:
    with pytest.raises(HTTPError, match="400"):
        urlopen(url, body)
    with urlopen(url, json.dumps({"prompts": ["a"], "images": ["no image"]}).encode()) as reply:
        assert json.loads(reply.read())["scores"] == [None]
