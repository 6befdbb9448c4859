"""What is asked for: prompt lists by name, of the literature and of the drawings, or from a text file."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from molrl.data.images.drawings import captions, with_article

LISTS = Path(__file__).with_name("prompts.yaml")
MOST = 100_000  # prompts of a file
LONGEST = 2000  # letters of one
MOST_BYTES = 2**26  # of a file


def prompt_list(name: str) -> tuple[str, ...]:
    """Prompts in their order, each once.

    Args:
        name: a list of prompts.yaml; "drawings" or "drawings_held_out", captions that the small pipeline was or was not
            trained with; or a text file with one prompt in each line.

    Raises:
        ValueError: there is no such list or file, or the file has no prompts, or too many or too long ones.
    """
    if name in (own := {"drawings": False, "drawings_held_out": True}):
        return tuple(captions(held_out=own[name]))
    if name in (known := published()):
        return tuple(spelled_out(known[name]))
    path = Path(name)
    if not path.is_file():
        raise ValueError(
            f"prompts: got {name!r}, no such file; known lists are {', '.join([*own, *known])}, "
            "or name a text file with one prompt in each line"
        )
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"prompts: {name} has {path.stat().st_size} bytes, at most {MOST_BYTES} are read")
    lines = [line.strip() for line in path.read_text("utf-8", errors="replace").splitlines()]
    found = tuple(dict.fromkeys(filter(None, lines)))
    if not 0 < len(found) <= MOST or max(map(len, found)) > LONGEST:
        raise ValueError(f"prompts: {name} has {len(found)} prompts; need 1 to {MOST} of at most {LONGEST} letters")
    return found


@cache
def published() -> dict[str, Any]:
    """The lists of prompts.yaml."""
    return dict(yaml.safe_load(LISTS.read_text("utf-8")))


def spelled_out(entry: Any) -> list[str]:
    """A list as it is, or each word in each template."""
    if isinstance(entry, list):
        return entry
    return [line.replace("{a}", with_article(word)) for word in entry["each"] for line in entry["template"]]
