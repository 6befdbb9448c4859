"""Prompt lists by name, from the literature and of the drawings, or from a text file."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from molrl.data.images.drawings import captions, with_article
from molrl.machine.files import read_bounded

LISTS_FILE = Path(__file__).with_name("prompts.yaml")
MAX_PROMPTS = 100_000  # of a file
MAX_LENGTH = 2000  # letters of a prompt
MAX_BYTES = 2**26  # of a file


def prompt_list(name: str) -> tuple[str, ...]:
    """Return the prompts of a list in order, each once.

    Args:
        name: a list of prompts.yaml; "drawings" or "drawings_held_out", captions that the small pipeline was or was not
            trained with; or a text file with one prompt per line.

    Raises:
        ValueError: there is no such list or file, or the file has no prompts, too many or too long ones.
    """
    if name in (drawings := {"drawings": False, "drawings_held_out": True}):
        return tuple(captions(held_out=drawings[name]))
    if name in (published := published_lists()):
        return tuple(expand(published[name]))
    path = Path(name)
    if not path.is_file():
        raise ValueError(
            f"prompts: got {name!r}, no such file; known lists are {', '.join([*drawings, *published])}, "
            "or name a text file with one prompt in each line"
        )
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"prompts: {name} has {path.stat().st_size} bytes, at most {MAX_BYTES} are read")
    lines = [line.strip() for line in read_bounded(path, MAX_BYTES, follow=True).decode(errors="replace").splitlines()]
    prompts = tuple(dict.fromkeys(filter(None, lines)))
    if not 0 < len(prompts) <= MAX_PROMPTS or max(map(len, prompts)) > MAX_LENGTH:
        raise ValueError(
            f"prompts: {name} has {len(prompts)} prompts; need 1 to {MAX_PROMPTS} of at most {MAX_LENGTH} letters"
        )
    return prompts


@cache
def published_lists() -> dict[str, Any]:
    """Return the lists of prompts.yaml by name."""
    return dict(yaml.safe_load(LISTS_FILE.read_text("utf-8")))


def expand(entry: Any) -> list[str]:
    """Return a list as it is, or put each word into each template."""
    if isinstance(entry, list):
        return entry
    return [line.replace("{a}", with_article(word)) for word in entry["each"] for line in entry["template"]]
