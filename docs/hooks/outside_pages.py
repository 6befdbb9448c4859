"""Documents from outside docs/ as pages of the site: CONTRIBUTING, SECURITY, the changes, the cards of the models.

They stay where GitHub's readers look for them, and links to and from them work in both places.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
FOLDER = "project"  # of these pages in the site
LINK = re.compile(r"(?<=\]\()(?P<place>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")


def outside_documents() -> list[str]:
    """Return the documents, relative to the root of the repository."""
    cards = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("models/weights/*/*/README.md"))
    return ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md", *cards]


def page_of(document: str) -> str:
    """Return the place of a document in the site: cards are named after their models."""
    path = PurePosixPath(document)
    return f"{FOLDER}/{path.parent.name.lower() if path.name == 'README.md' else path.stem.lower()}.md"


PAGES = {document: page_of(document) for document in outside_documents()}
DOCUMENTS = {page: document for document, page in PAGES.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents; mkdocs calls this once it has found its own pages."""
    for document, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / document)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Return a page whose links lead to where their targets are in the site."""
    here = page.file.src_uri
    source = DOCUMENTS.get(here, f"docs/{here}")

    def moved(match: re.Match[str]) -> str:
        target = normpath(f"{PurePosixPath(source).parent}/{match['place']}")
        if target in PAGES:
            place = PAGES[target]
        elif target.startswith("docs/"):
            place = target.removeprefix("docs/")
        else:
            return match[0]
        return relpath(place, PurePosixPath(here).parent) + (match["anchor"] or "")

    return LINK.sub(moved, markdown)
