"""Prompt lists by name, from the literature and of the drawings, or from a text file."""

from codecs import BOM_UTF8
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from molrl.data.images.drawings import captions, with_article
from molrl.data.images.scenes import KINDS, scene_captions, scene_prompts
from molrl.machine.files import read_bounded

LISTS_FILE = Path(__file__).with_name("prompts.yaml")
OWN_LISTS = ("drawings", "scenes", *(f"scenes_{kind}" for kind in KINDS))  # each also with "_held_out"
MAX_PROMPTS = 100_000  # of a file
MAX_LENGTH = 2000  # letters of a prompt
MAX_BYTES = 2**26  # of a file


def prompt_list(name: str) -> tuple[str, ...]:
    """Return the prompts of a list in order, each once.

    Args:
        name: a list of prompts.yaml; "drawings" or "scenes", captions that a small pipeline was trained with;
            "scenes_KIND", those of one kind; any of these with "_held_out", captions that it was not trained with; or a
            text file, UTF-8, with one prompt in each line.

    Raises:
        ValueError: there is no such list or file, or the file has no prompts, too many, or a line that is none.
    """
    if (own := own_list(name)) is not None:
        return own
    if name in (published := published_lists()):
        return tuple(expand(published[name]))
    path = Path(name)
    if not path.is_file():
        raise ValueError(
            f"prompts: got {name!r}, no such file; known lists are {', '.join([*OWN_LISTS, *published])}, "
            "or name a text file with one prompt in each line"
        )
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"prompts: {name} has {path.stat().st_size} bytes, at most {MAX_BYTES} are read")
    lines = read_bounded(path, MAX_BYTES, follow=True).removeprefix(BOM_UTF8).splitlines()
    prompts = tuple(dict.fromkeys(filter(None, (read_line(line, f"{name}:{n}") for n, line in enumerate(lines, 1)))))
    if not 0 < len(prompts) <= MAX_PROMPTS:
        raise ValueError(f"prompts: {name} has {len(prompts)} prompts, need 1 to {MAX_PROMPTS}")
    return prompts


def own_list(name: str) -> tuple[str, ...] | None:
    """Return the captions of drawings or of scenes that a name stands for, None for another name."""
    base = name.removesuffix("_held_out")
    if base not in OWN_LISTS:
        return None
    held_out, kind = base != name, base.removeprefix("scenes_")
    if base == "drawings":
        return tuple(captions(held_out=held_out))
    if base == "scenes":
        return tuple(scene_prompts(held_out=held_out))
    return tuple(map(str, scene_captions(kind, held_out=held_out)))


def read_line(line: bytes, where: str) -> str:
    """Return the prompt of a line of a file, "" for a blank one.

    Raises:
        ValueError: the line is not UTF-8 text, or the prompt is too long.
    """
    try:
        prompt = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"prompts: {where}: byte {line[error.start]:#04x} in column {error.start + 1} is not UTF-8; save the file "
            "in that encoding"
        ) from None
    if control := next((letter for letter in prompt if ord(letter) < 32 and letter != "\t"), None):
        raise ValueError(f"prompts: {where}: control character {ord(control):#04x}; need UTF-8 text (not UTF-16)")
    if len(prompt) > MAX_LENGTH:
        raise ValueError(f"prompts: {where}: {len(prompt)} letters, at most {MAX_LENGTH}")
    return prompt


@cache
def published_lists() -> dict[str, Any]:
    """Return the lists of prompts.yaml by name."""
    return dict(yaml.safe_load(LISTS_FILE.read_text("utf-8")))


def expand(entry: Any) -> list[str]:
    """Return a list as it is, or put each word into each template."""
    if isinstance(entry, list):
        return entry
    return [line.replace("{a}", with_article(word)) for word in entry["each"] for line in entry["template"]]
