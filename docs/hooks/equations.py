"""Equations of the site as MathML, which browsers draw by themselves: no script, no font, no request.

On a page they are `$...$` and `$$...$$`, which GitHub draws too.
"""

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

OVER = re.compile(r"\\(?:sum|prod)(?=_)")  # has its limits above and below, which the converter forgets within brackets
EQUATION = re.compile(r'<(span|div) class="arithmatex">\s*\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]\s*</\1>', re.DOTALL)


def mathml(match: re.Match[str]) -> str:
    """Return the MathML of one equation."""
    display = "block" if match["open"] == "[" else "inline"
    latex = unescape(match["latex"]).strip()
    if display == "block":
        latex = OVER.sub(r"\g<0>\\limits", latex)
    drawn: str = convert(latex, display=display)
    return f'<div class="equation">{drawn}</div>' if display == "block" else drawn


def on_page_content(html: str, **_: Any) -> str:
    """Return the page with its equations drawn; mkdocs calls this for each page.

    Raises:
        latex2mathml.exceptions.NoAvailableTokensError: or another of its errors, for wrong LaTeX; the build then fails.
    """
    return EQUATION.sub(mathml, html)
