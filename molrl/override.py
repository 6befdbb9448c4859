"""Settings as text: values in the grammar of Hydra's overrides, and command lines that a shell takes as printed."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEYWORDS = {"null", "true", "false", "inf", "nan"}  # words that stand for no text
PLAIN_TEXT = re.compile(r"(?:[A-Za-z_/]|\.{1,2}/)[\w./-]*", re.ASCII)  # that needs no quotes and is no number


def as_value(value: Any) -> str:
    """Return a plain value as Hydra's grammar has it; text in quotes where it needs them."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str | Path):
        return str(value)
    text = str(value)
    return text if PLAIN_TEXT.fullmatch(text) and text.lower() not in KEYWORDS else in_quotes(text)


def in_quotes(text: str) -> str:
    """Return any text as one quoted value of Hydra's grammar, in which nothing is an interpolation.

    Backslashes are doubled before a quote, before the end, and before the `${` of an interpolation, and nowhere else.
    """
    quote = "'" if '"' in text else '"'
    pattern = rf"(\\*)({quote}|\Z)"
    escaped = re.sub(pattern, lambda found: found[1] * 2 + ("\\" + quote if found[2] else ""), literal(text))
    return f"{quote}{escaped}{quote}"


def literal(text: str) -> str:
    """Return a text in which OmegaConf finds no interpolation, but the text as it is."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def path_value(path: str) -> str:
    """Return a path that a user wrote as one value of Hydra's grammar; ~ is the home folder."""
    return path if is_quoted(path) else in_quotes(os.path.expanduser(path))


def is_quoted(value: str) -> bool:
    """Tell whether a value is in quotes."""
    return len(value) > 1 and value[0] in "'\"" and value[0] == value[-1]


def unquoted(value: str) -> str:
    """Return the text that a value stands for, the inverse of `in_quotes`; a value without quotes is as it is."""
    if not is_quoted(value):
        return value
    halved = re.sub(rf"(\\*)({value[0]}|\Z)", lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1])
    return re.sub(r"(\\*)\\\$\{", lambda found: found[1][: len(found[1]) // 2] + "${", halved)


def command_line(command: str, settings: Mapping[str, Any]) -> str:
    """Return a command of molrl as one line that bash takes as it is printed.

    Args:
        command: its name.
        settings: plain values by the names of settings.
    """
    words = ["molrl", command, *(f"{name}={as_value(value)}" for name, value in settings.items())]
    return shell_line(words)


def shell_line(words: list[str]) -> str:
    """Return words as one line of a shell; those with control characters as bash's $'...'."""
    return " ".join(shlex.quote(word) if word.isprintable() else ansi_quoted(word) for word in words)


def ansi_quoted(word: str) -> str:
    """Return a word as $'...', in which every byte that is no printable ASCII character or is special is escaped."""
    plain = set(range(32, 127)) - set(b"'\\")
    return "$'" + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(word)) + "'"
