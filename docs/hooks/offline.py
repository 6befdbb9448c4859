"""The site asks nothing of a network: no page may load a script, a style, a font or an image from elsewhere."""

import re

from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

LOADED = re.compile(r"<(?:(?:script|img|iframe)\b[^>]*\bsrc|link\b[^>]*\bhref)=[\"']?(?:https?:)?//[^>]*>")


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Return the finished page as it is; mkdocs calls this for each page.

    Raises:
        PluginError: the page loads something from another place.
    """
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri}: loads from a network: {found[0]}")
    return output
