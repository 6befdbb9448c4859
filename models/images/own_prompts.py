"""The prompts that come with a pipeline: `prompts.txt` beside its index, which `molrl pretrain` writes.

They are those of `molrl sample` and `molrl train` where none are named.
"""

from collections.abc import Sequence
from pathlib import Path

from molrl.data.images.prompts import MAX_PROMPTS, prompt_list
from molrl.models.images.source import Source, resolve_folder

PROMPTS = "prompts.txt"
OTHERS = "drawings"  # the list for pipelines without their own


def own_prompts(source: Source) -> tuple[str, ...]:
    """Return the prompts that come with a pipeline; captions of drawings where none do.

    Raises:
        ValueError: a line of the file is no prompt.
    """
    own = own_file(source)
    return prompt_list(str(own) if own.is_file() else OTHERS)


def own_file(source: Source) -> Path:
    """Return where the prompts of a pipeline are, if it has any."""
    return resolve_folder(source.config or source.base) / PROMPTS


def write_prompts(texts: Sequence[str], folder: Path) -> None:
    """Write the prompts that a pipeline in a folder was trained with, as many as are read."""
    (folder / PROMPTS).write_text("".join(f"{text}\n" for text in texts[:MAX_PROMPTS]), "utf-8")


def keep_prompts(source: Source, folder: Path) -> None:
    """Write the prompts that come with a pipeline, if any do, beside what was made of it."""
    if own_file(source).is_file():
        write_prompts(own_prompts(source), folder)
