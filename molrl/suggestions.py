"""Suggestions for misspelt names: of commands, choices and settings."""

import difflib
from collections.abc import Collection

MAX_SUGGESTIONS = 3
MIN_SIMILARITY = 0.6  # of difflib's ratio; any one typing error in a name of three letters or more stays above


def nearest(word: str, known: Collection[str]) -> list[str]:
    """Return the known names that were perhaps meant, at most `MAX_SUGGESTIONS`, the likeliest first.

    Names may have parts, as settings do: those with the same last part come first, then those that are spelt nearly
    alike as a whole, then those whose last part is.
    """
    last = {name: name.rpartition(".")[2] for name in known}
    own = word.rpartition(".")[2]
    same = [name for name in known if last[name] == own]
    whole = difflib.get_close_matches(word, known, MAX_SUGGESTIONS, MIN_SIMILARITY)
    parts = difflib.get_close_matches(own, dict.fromkeys(last.values()), MAX_SUGGESTIONS, MIN_SIMILARITY)
    alike = [name for part in parts for name in known if last[name] == part]
    return list(dict.fromkeys([*same, *whole, *alike]))[:MAX_SUGGESTIONS]


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return a hint to put behind a message: `; did you mean NAME?`, or nothing where no known name is near."""
    names = nearest(word, known)
    return f"; did you mean {' or '.join(names)}?" if names else ""
