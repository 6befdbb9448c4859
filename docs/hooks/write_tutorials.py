"""Run the tutorials and save them with their outputs: `python docs/hooks/write_tutorials.py [NAME ...]`.

What a run leaves behind goes to a temporary folder. Images, tables and text are kept, and no counts, times or warnings.
"""

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_output

TUTORIALS = Path(__file__).parents[1] / "tutorials"
SECONDS = 1800  # for each cell, on a machine that other jobs use
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")  # colours of a terminal
TIME = re.compile(r" in [\d.]+ (?:seconds|minutes|hours)\b")  # that a run took, beside whatever else the machine did
STYLE = re.compile(r"<style.*?</style>|</?a\b[^>]*>| (?:border|class)=\"\w+\"", re.DOTALL)


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in a folder, and return it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = {}, f"{path.stem}-{number}"
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = tidy(cell.outputs)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def tidy(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return the images and tables of a cell and the plain text between them; what goes to stderr is left out.

    Tables are without styles, which are those of the page, and without links into the folder of the run.
    """
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in data:
            kept.append(new_output("display_data", {"image/png": data["image/png"]}))
        elif "text/html" in data:
            plain = {"text/html": STYLE.sub("", data["text/html"]).strip(), "text/plain": data["text/plain"]}
            kept.append(new_output("display_data", plain))
        elif output.get("name") != "stderr":
            text = TIME.sub("", ESCAPE.sub("", data["text/plain"]))
            text += "" if output.output_type == "stream" or text.endswith("\n") else "\n"  # an object that was shown
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += text
            else:
                kept.append(new_output("stream", name="stdout", text=text))
    return kept


def main(names: list[str]) -> int:
    """Run all tutorials, or those of these names, and return 0."""
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        if not names or path.stem in names:
            with tempfile.TemporaryDirectory() as folder:
                nbformat.write(run(path, Path(folder)), path)
            print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
