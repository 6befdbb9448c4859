"""Tutorials of the site: the notebooks of docs/tutorials as pages, with the outputs that they were saved with."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace each notebook by a page and its images; mkdocs calls this once it has found all files."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        notebook = json.loads(Path(str(file.abs_src_path)).read_text("utf-8"))
        stem = file.src_uri.removesuffix(".ipynb")
        images: list[bytes] = []
        text = "\n\n".join(as_markdown(cell, stem.rpartition("/")[2], images) for cell in notebook["cells"])
        files.append(File.generated(config, f"{stem}.md", content=f"{text}\n"))
        for number, image in enumerate(images):
            files.append(File.generated(config, f"{stem}_{number}.png", content=image))
    return files


def as_markdown(cell: dict[str, Any], name: str, images: list[bytes]) -> str:
    """Return one cell as Markdown; its images are added to the list, from which their names follow."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    parts = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in data:
            parts.append(f"![Output of the cell above]({name}_{len(images)}.png)")
            images.append(base64.b64decode("".join(data["image/png"])))
        elif "text/html" in data:
            parts.append(f'<div class="notebook-output">{"".join(data["text/html"])}</div>')
        elif text := "".join(data.get("text/plain", "")).rstrip():
            parts.append(f'<div class="notebook-output" markdown>\n\n```text\n{text}\n```\n\n</div>')
    return "\n\n".join(parts)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page whose links to notebooks lead to their pages."""
    return re.sub(r"(?<=\]\()([^)\s:]+)\.ipynb(?=[)#])", r"\1.md", markdown)
