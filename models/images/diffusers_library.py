"""The optional package diffusers, imported where it is used because that takes seconds, and without its messages."""

import importlib.util
import os
from importlib import import_module
from typing import Any

REQUIRED_PACKAGES = ("diffusers", "transformers", "peft")


def require_extra() -> None:
    """Raise ImportError where packages of the extra are missing."""
    if missing := [name for name in REQUIRED_PACKAGES if importlib.util.find_spec(name) is None]:
        raise ImportError(f"images need {', '.join(missing)}: pip install 'molrl[image]'")


def diffusers() -> Any:
    """Return the package, without its progress bars and its notes on what is not installed.

    Raises:
        ImportError: the extra is not installed.
    """
    require_extra()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for name in ("transformers.utils.logging", "diffusers.utils.logging"):
        logging = import_module(name)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    return import_module("diffusers")
