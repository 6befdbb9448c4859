r"""Text for terminals and tables: what a file holds is shown, and never obeyed.

A name in a file may hold the control sequences that retitle a terminal, colour it, or hide what was printed before.
They are shown as escapes, as in \x1b.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

CONTROL = re.compile(  # all but tab and line feed; marks of direction, separators of lines; halves of characters
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return a text with every control character but tab and line feed as an escape."""
    return CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


class EscapingStream:
    """A text stream that passes on what is printable, and the rest as escapes.

    Args:
        stream: the stream below; one that escapes already is not wrapped twice.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream: TextIO = unescaped(stream)

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        shown = printable(text)
        if encoding := getattr(self.stream, "encoding", None):
            shown = shown.encode(encoding, "backslashreplace").decode(encoding)
        self.stream.write(shown)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts, one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def unescaped(stream: TextIO) -> TextIO:
    """Return the stream below, for a program that draws with control sequences of its own."""
    return stream.stream if isinstance(stream, EscapingStream) else stream


@contextlib.contextmanager
def escaped_output() -> Iterator[None]:
    """Escape whatever is printed on stdout and stderr within the block."""
    out, err = (cast(TextIO, EscapingStream(stream)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


@contextlib.contextmanager
def muted(quiet: bool) -> Iterator[None]:
    """Print nothing within the block but errors, where one process speaks for all."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere if quiet else sys.stdout):
        yield
