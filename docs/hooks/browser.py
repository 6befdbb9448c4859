"""A page in a browser without a window: Chromium, where it is installed, by its DevTools protocol on a pipe.

What a reader sees is looked at with it: screenshots of the documents, and tests of the report.
"""

import json
import os
import shutil
import signal
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless", "--remote-debugging-pipe", "--no-sandbox", "--hide-scrollbars", "--enable-unsafe-swiftshader")
COMPLAINTS = ("Runtime.exceptionThrown", "Log.entryAdded")  # what the console of a page shows
LOADED = "new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))"


def find_chromium() -> str | None:
    """Return the path of the browser, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A page that is open in the browser.

    Attributes:
        complaints: what its console has shown, errors of scripts among it.
    """

    def __init__(self, answers: int, commands: int) -> None:
        self.answers, self.commands = os.fdopen(answers, "rb"), os.fdopen(commands, "wb")
        self.rest, self.number, self.session = b"", 0, ""
        self.complaints: list[Any] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the browser's answer to a command of the protocol.

        Raises:
            RuntimeError: the browser refused it.
        """
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.commands.write(
            json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0"
        )
        self.commands.flush()
        while (answer := self.receive()).get("id") != self.number:
            if answer.get("method") in COMPLAINTS:
                self.complaints.append(answer["params"])
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def receive(self) -> dict[str, Any]:
        """Return the next message of the browser."""
        while b"\0" not in self.rest:
            if not (data := self.answers.read1(2**20)):
                raise RuntimeError("the browser has ended")
            self.rest += data
        text, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(text))

    def open(self, path: Path, width: int, scheme: str = "light", height: int = 900) -> None:
        """Open a file in a window of this size, in the colour scheme `light` or `dark`."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.evaluate(LOADED)
        self.wait(0.5)

    def evaluate(self, script: str) -> Any:
        """Return the value of a script, after it if it is a promise.

        Raises:
            RuntimeError: the script failed.
        """
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, seconds: float) -> None:
        """Give the page time to draw."""
        self.evaluate(f"new Promise((done) => setTimeout(done, {1000 * seconds}))")

    def photograph(self, x: float, y: float, width: float, height: float) -> bytes:
        """Return a part of the page as a PNG file."""
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        return b64decode(self.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"])


@contextmanager
def browse() -> Iterator[Page]:
    """Start the browser with an empty profile, and end it with the block.

    Raises:
        FileNotFoundError: it is not installed.
    """
    if (chromium := find_chromium()) is None:
        raise FileNotFoundError(f"no browser: none of {', '.join(NAMES)} is installed")
    hears, commands = os.pipe()
    answers, speaks = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [chromium, *OPTIONS, f"--user-data-dir={profile}"]
        silence = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
        ends = [(os.POSIX_SPAWN_DUP2, hears, 3), (os.POSIX_SPAWN_DUP2, speaks, 4)]  # where it hears and speaks
        process = os.posix_spawn(chromium, words, os.environ, file_actions=[silence, *ends])
        os.close(hears)
        os.close(speaks)
        try:
            yield Page(answers, commands)
        finally:
            os.kill(process, signal.SIGTERM)
            os.waitpid(process, 0)
