"""Progress in a notebook: one line with a bar in the output of a cell, redrawn in place; it needs no widgets."""

import html
import sys
from collections.abc import Callable
from typing import Any


class NotebookBar:
    """A bar of progress with a line of text, as HTML.

    Args:
        total: number of items.
        done: number of items that are done already.
        display: shows an object and returns a handle whose `update` shows another in its place; None: IPython's.
    """

    def __init__(self, total: int, done: int = 0, display: Callable[..., Any] | None = None) -> None:
        self.total = total
        self.done = done
        self.text = ""
        self.handle = (display or ipython_display())(self, display_id=True)

    def update(self, done: int, text: str) -> None:
        """Show that so many items are done, with a text."""
        self.done, self.text = done, text
        self.handle.update(self)

    def _repr_html_(self) -> str:
        return (
            f'<progress value="{self.done}" max="{self.total}" style="width: 12em"></progress> '
            f"{self.done}/{self.total} {html.escape(self.text)}"
        )

    def __repr__(self) -> str:
        return f"{self.done}/{self.total} {self.text}"


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook, whose cells show HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def ipython_display() -> Callable[..., Any]:
    """Return the function of IPython that shows an object in the output of a cell."""
    from importlib import import_module

    display: Callable[..., Any] = import_module("IPython.display").display
    return display
