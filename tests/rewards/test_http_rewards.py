"""Rewards on a server, against a stub server on this machine."""

import base64
import io
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from molrl.data.images.image import CaptionedImage
from molrl.rewards.images.vlm import RemoteScorer, VLMJudge
from molrl.rewards.scores import category
from molrl.rewards.workers import http as remote
from molrl.rewards.workers.http import MAX_LOSSES, MAX_RESPONSE_BYTES, Endpoint, RemoteError

Answer = tuple[int, dict[str, str], bytes]


class Stub:
    """A server with given responses, which keeps the requests."""

    def __init__(self, answer: Callable[[Any, int], Answer]) -> None:
        self.answer = answer
        self.requests: list[Any] = []
        self.keys: list[str | None] = []
        self.at_once = self.most = 0
        self.lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stub.lock:
                    stub.requests.append(body)
                    stub.keys.append(self.headers.get("Authorization"))
                    number = len(stub.requests)
                    stub.at_once += 1
                    stub.most = max(stub.most, stub.at_once)
                status, headers, data = stub.answer(body, number)
                with stub.lock:
                    stub.at_once -= 1
                self.send_response(status)
                length = headers.get("X-Length", str(len(data)))  # a wrong one is a response that breaks off
                for name, value in {**headers, "Content-Length": length}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def serving(answer: Callable[[Any, int], Answer]) -> Iterator[Stub]:
    stub = Stub(answer)
    thread = threading.Thread(target=stub.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.server.shutdown()
        stub.server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "INITIAL_BACKOFF", 0.01)


def json_answer(value: Any, status: int = 200) -> Answer:
    return status, {}, json.dumps(value).encode()


def chat(content: str) -> Answer:
    return json_answer({"choices": [{"message": {"content": content}}]})


def image(value: int, prompt: str = "a cat", flaw: str = "") -> CaptionedImage:
    return CaptionedImage(np.full((8, 8, 3), value, np.uint8), prompt, flaw)


def vlm_judge(url: str, **changes: Any) -> VLMJudge:
    settings = {"model": "m", "question": "Is it {prompt}?", "timeout": 20.0, "retries": 1, "parallel": 3}
    return VLMJudge(url=url, **{**settings, **changes})


def scorer(url: str, **changes: Any) -> RemoteScorer:
    return RemoteScorer(url=url, **{"floor": -1.0, "batch": 2, "timeout": 20.0, "retries": 1, "parallel": 3, **changes})


def red_of(address: str) -> int:
    """Return the first number of the image in a data URL or plain base64."""
    image = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    return int(np.asarray(image)[0, 0, 0])


def test_a_judge_gets_the_image_and_its_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(body: Any, _: int) -> Answer:
        text, image = body["messages"][0]["content"]
        assert text["text"] == "Is it a cat?"
        return chat(json.dumps({"score": red_of(image["image_url"]["url"]) / 10}))

    monkeypatch.setenv("SECRET", "abc")
    with serving(answer) as stub:
        reward = vlm_judge(f"{stub.url}/v1", key_variable="SECRET")
        samples = [image(value) for value in (0, 50, 100)]
        assert reward(samples).tolist() == pytest.approx([0.0, 0.5, 1.0])
        assert stub.requests[0]["temperature"] == 0
        assert set(stub.keys) == {"Bearer abc"}
        assert "abc" not in repr(reward)
        assert reward(samples).tolist() == pytest.approx([0.0, 0.5, 1.0])
        assert len(stub.requests) == 3  # no image is sent twice
        assert reward.submit([image(70), image(50)])().tolist() == pytest.approx([0.7, 0.5])


@pytest.mark.parametrize(
    "content",
    ["7", "the score is 7", '{"score": "7"}', '{"score": 11}', '{"score": -1}', '{"score": true}', '{"mark": 7}', "[]"],
)
def test_an_invalid_rating_is_nan(content: str) -> None:
    def answer(body: Any, _: int) -> Answer:
        return chat('{"score": 5}' if red_of(body["messages"][0]["content"][1]["image_url"]["url"]) else content)

    with serving(answer) as stub:
        scores = vlm_judge(stub.url).score([image(0), image(9)])
        assert category(scores.reasons[0]) == "nonsense"
        assert scores.values[0] != scores.values[0]
        assert scores.scored[1] == (0.5, "")


@pytest.mark.parametrize("answered", [{}, {"choices": []}, [], "text", {"choices": [{"message": {"content": None}}]}])
def test_a_server_with_invalid_responses_only_is_one_error(answered: Any) -> None:
    """But not before so many in a row that it is none of the images' fault."""
    with serving(lambda *_: json_answer(answered)) as stub:
        judge = vlm_judge(stub.url)
        assert set(map(category, judge.score([image(k) for k in range(MAX_LOSSES - 1)]).reasons)) == {"nonsense"}
        with pytest.raises(RemoteError, match=f"none of {MAX_LOSSES} samples could be scored; nonsense"):
            judge([image(99)])


def test_a_server_that_is_down_is_one_error() -> None:
    with serving(lambda *_: json_answer({})) as stub:
        url = stub.url
    with pytest.raises(RemoteError, match=rf"none of 1 samples could be scored; unreachable: {url}/x "):
        scorer(f"{url}/x")([image(0)])


def test_busy_servers_are_tried_again_and_others_are_not() -> None:
    for status, tries in ((503, 3), (429, 3), (400, 1), (401, 1)):

        def busy(_: Any, number: int, status: int = status) -> Answer:
            return json_answer({"scores": [1]}, status if number < 3 else 200)

        with serving(busy) as stub:
            reward = scorer(stub.url, retries=2)
            if tries == 3:
                assert reward([image(0)]).tolist() == [1.0]
            else:
                with pytest.raises(RemoteError, match=f"status {status}"):
                    reward([image(0)])
            assert len(stub.requests) == tries


def test_a_slow_server_is_a_timeout() -> None:
    def slow(body: Any, number: int) -> Answer:
        time.sleep(2.0)
        return json_answer({"scores": [1]})

    with serving(slow) as stub:
        (reason,) = scorer(stub.url, timeout=0.2, retries=0).score([image(0)]).reasons
    assert reason == f"timeout: {stub.url} did not respond within 0.2 s"


@pytest.mark.parametrize("first", [b"HTTP/1.0 200 OK\r\nContent-Length: 14\r\n\r\n", b""], ids=["body", "head"])
def test_a_time_limit_is_that_of_the_whole_request(first: bytes) -> None:
    """A server that sends a byte now and then, of the head or of the body, keeps nobody waiting."""
    whole, stop = b'HTTP/1.0 200 OK\r\nContent-Length: 14\r\n\r\n{"scores": [1]}', threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            with server.accept()[0] as connection:
                connection.sendall(first)
                for byte in whole.removeprefix(first):
                    if stop.wait(0.05):
                        return
                    connection.sendall(bytes([byte]))

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        began = time.monotonic()
        reward = scorer(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.3, retries=0)
        assert category(reward.score([image(0)]).reasons[0]) == "timeout"
        assert time.monotonic() - began < 0.6  # the body alone would take 0.7 s
        stop.set()
        thread.join()


@pytest.mark.parametrize("content", ["[" * 100_000 + "]" * 100_000, "[" * 500 + "]" * 500, "1" * 5000])
def test_json_of_any_depth_is_a_bad_answer(content: str) -> None:
    """As the response, as its scores, as one score, as a reason, and as what a model says."""
    responses = [content, f'{{"scores": {content}}}', f'{{"scores": [{content}, 1]}}']
    responses.append(f'{{"scores": [null, 1], "reasons": [{content}, ""]}}')
    for response in responses:
        with serving(lambda *_, response=response: (200, {}, response.encode())) as stub:
            scores = scorer(stub.url).score([image(0), image(1)])
            assert scores.values[0] != scores.values[0]
            assert category(scores.reasons[0]) in ("nonsense", "error")
    with serving(lambda *_: chat(content)) as stub:
        assert category(vlm_judge(stub.url).score([image(0)]).reasons[0]) == "nonsense"


def test_no_redirect_is_followed() -> None:
    with serving(lambda *_: json_answer({"scores": [1]})) as other:
        there = {"Location": f"{other.url}/x"}
        for status in (301, 302, 307, 308):
            with (
                serving(lambda *_, status=status: (status, there, b"")) as stub,
                pytest.raises(RemoteError, match=f"refused: .* status {status}"),
            ):
                scorer(stub.url)([image(0)])
        assert not other.requests


def test_a_response_that_is_too_large_is_cut_off() -> None:
    with serving(lambda *_: (200, {}, b"[" + b"1," * MAX_RESPONSE_BYTES)) as stub:
        (reason,) = scorer(stub.url).score([image(0)]).reasons
    assert "more than" in reason


def test_a_response_that_breaks_off_is_tried_again() -> None:
    """Also where what came is JSON."""

    def answer(_: Any, number: int) -> Answer:
        whole = b'{"scores": [1]}'
        return (200, {}, whole) if number > 1 else (200, {"X-Length": str(len(whole) + 9)}, whole)

    with serving(answer) as stub:
        assert scorer(stub.url).score([image(0)]).values == [1.0]
        assert len(stub.requests) == 2


def test_a_scorer_is_sent_batches_and_keeps_the_order() -> None:
    def answer(body: Any, _: int) -> Answer:
        values: list[Any] = [red_of(image) for image in body["images"]]
        assert body["prompts"] == ["a cat"] * len(values)
        return json_answer(
            {"scores": [None if value == 3 else value for value in values], "reasons": ["dark"] * len(values)}
        )

    with serving(answer) as stub:
        samples = [*map(image, range(5)), image(9, flaw="not finite")]
        scores = scorer(stub.url).score(samples)
        assert scores.values[:3] == [0, 1, 2]
        assert (scores.values[4], scores.scored[5]) == (4, (-1.0, "not finite"))
        assert scores.reasons[3] == "error: dark"
        assert sorted(len(body["images"]) for body in stub.requests) == [1, 2, 2]


@pytest.mark.parametrize("scores", [[1], [1, 2, 3], "12", None, {"0": 1}])
def test_scores_that_do_not_fit_the_request_cost_its_samples(scores: Any) -> None:
    with serving(lambda *_: json_answer({"scores": scores})) as stub:
        found = scorer(stub.url).score([image(0), image(1)])
    assert [category(reason) for reason in found.reasons] == ["nonsense"] * 2


BAD_VALUES = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, 1e9, "1", "nan", True, [1], {}, 10**400, -(10**400)]), st.text()
)


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.none(), BAD_VALUES), min_size=1, max_size=6), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_a_bad_score_costs_its_own_sample(answers: list[Any], batch: int) -> None:
    """Whatever else is in its request; a good one comes back as it was sent."""

    def answer(body: Any, _: int) -> Answer:
        return json_answer({"scores": [answers[red_of(one)] for one in body["images"]]})

    with serving(answer) as stub:
        scores = scorer(stub.url, batch=batch).score([image(k) for k in range(len(answers))])
    for sent, (value, reason) in zip(answers, scores.scored, strict=True):
        if isinstance(sent, float) and abs(sent) <= 1e6:
            assert (value, reason) == (sent, "")
        else:
            assert math.isnan(value)
            assert category(reason) == ("error" if sent is None else "nonsense")


def test_what_is_lost_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """In printable letters, whatever the server puts in its reason."""
    said = "bad \x1b[31m\nface \ud800"
    with serving(lambda *_: json_answer({"scores": [None, 1], "reasons": [said, ""]})) as stub:
        reward = scorer(stub.url)
        assert [reward.score([image(0), image(1)]).reasons for _ in range(2)] == [["error: bad  [31m face  ", ""]] * 2
    shown = capsys.readouterr().err
    assert shown.count("error: bad  [31m face") == 1
    assert shown.isascii()


def test_no_more_requests_than_allowed_are_made_at_a_time() -> None:
    def answer(body: Any, _: int) -> Answer:
        time.sleep(0.05)
        return json_answer({"scores": [0]})

    with serving(answer) as stub:
        reward = scorer(stub.url, batch=1, parallel=2)
        waiting = [reward.submit([image(k) for k in range(4)]) for _ in range(2)]
        assert [len(values()) for values in waiting] == [4, 4]
        assert stub.most == 2


def test_closing_cancels_the_requests_that_have_not_begun() -> None:
    def answer(*_: Any) -> Answer:
        time.sleep(0.2)
        return json_answer({"scores": [0]})

    with serving(answer) as stub:
        reward = scorer(stub.url, batch=1, parallel=1)
        reward.submit([image(k) for k in range(50)])
        reward.close()
        assert reward([image(0)]).tolist() == [0.0]  # and it can be used again
        assert len(stub.requests) < 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "ftp://host/x"}, "need http://host"),
        ({"url": "http://user:secret@host/x"}, "without a user or a password"),
        ({"url": "file:///etc/passwd"}, "need http://host"),
        ({"timeout": 0.0}, "timeout, retries: got 0.0"),
        ({"retries": 9}, "timeout, retries: got"),
    ],
)
def test_an_address_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        Endpoint(**{"url": "http://host", "timeout": 1.0, "retries": 0, **changes})
    assert "secret" not in str(caught.value)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="parallel"):
        vlm_judge("http://host", parallel=0)
    with pytest.raises(ValueError, match="question"):
        vlm_judge("http://host", question='Answer {"score": 1}')
    with pytest.raises(ValueError, match="url"):
        vlm_judge("host/v1")
    with pytest.raises(ValueError, match="batch"):
        scorer("http://host", batch=0)


KEY = "sk-SECRET-12345/x"


@pytest.mark.parametrize("value", ["", " \n", "sk-é", "sk 1", "sk-\x001", "sk-\r\nHost: x"])
def test_a_key_that_cannot_be_sent_is_an_error_at_once_that_does_not_show_it(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "KEY": value})  # the system's own takes no zero byte
    for build in (scorer, vlm_judge):
        with pytest.raises(ValueError, match=r"key_variable: .*KEY") as caught:
            build("http://127.0.0.1:9/x", key_variable="KEY")
        assert not value.strip() or value not in str(caught.value)


def test_a_key_given_in_place_of_its_variable_is_not_shown() -> None:
    for name in ("sk-SECRET-12345", "sk_secret", ""):
        with pytest.raises(ValueError, match="need the name of an environment variable") as caught:
            scorer("http://127.0.0.1:9/x", key_variable=name)
        assert not name or name not in str(caught.value)
    with pytest.raises(ValueError, match="the environment variable MISSING_KEY is not set"):
        scorer("http://127.0.0.1:9/x", key_variable="MISSING_KEY")


@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_server_that_repeats_the_key_does_not_make_it_show(
    data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in its answer, and however often."""
    before, after = (
        data.draw(st.text(st.characters(codec="ascii", exclude_characters=KEY), max_size=150)) for _ in "ab"
    )
    words = f"{before}{KEY}{after}"
    answer = data.draw(
        st.sampled_from(
            [
                json_answer({"scores": [None], "reasons": [words]}),
                json_answer({"scores": [words]}),
                json_answer({"scores": {words: words}}),
                json_answer({"choices": [{"message": {"content": words}}]}),
                (200, {}, words.encode()),
                (200, {}, json.dumps(words).replace("/", "\\/").encode() + b"]"),
            ]
        )
    )
    monkeypatch.setenv("KEY", f" {KEY}\n")
    with serving(lambda *_: answer) as stub:
        for reward in (
            scorer(f"{stub.url}/x?token=T0KEN", key_variable="KEY"),
            vlm_judge(stub.url, key_variable="KEY"),
        ):
            (reason,) = reward.score([image(0)]).reasons
            assert reason
            assert "SECRET" not in reason
            assert "T0KEN" not in reason
    assert set(stub.keys) == {f"Bearer {KEY}"}
