"""The package diffusers, quiet: imported where it is used, because that takes seconds."""

import importlib.util
from importlib import import_module
from typing import Any

NEEDED = ("diffusers", "transformers", "peft")


def require_extra() -> None:
    """Raise ImportError where the packages are missing."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ImportError(f"images need {', '.join(missing)}: pip install 'molrl[image]'")


def diffusers() -> Any:
    """The package, without progress bars and notes on what is not installed.

    Raises:
        ImportError: the extra is not installed.
    """
    require_extra()
    for name in ("transformers.utils.logging", "diffusers.utils.logging"):
        log = import_module(name)
        log.set_verbosity_error()
        log.disable_progress_bar()
    return import_module("diffusers")
