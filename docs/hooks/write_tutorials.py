"""Run the tutorials and save them with their outputs: `python docs/hooks/write_tutorials.py [NAME ...]`.

What a run leaves behind goes to a temporary folder. Only text and images are kept, and no counts, times or warnings.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parents[1] / "tutorials"
SECONDS = 600  # for each cell
KEPT = ("image/png", "text/plain")


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in a folder, and return it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [tidy(output) for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def tidy(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return an output without its count, and of its forms the image, or else the text."""
    if "data" in output:
        form = next(form for form in KEPT if form in output.data)
        output.data, output.metadata = {form: output.data[form]}, {}
    if "execution_count" in output:
        output.execution_count = None
    return output


def main(names: list[str]) -> int:
    """Run all tutorials, or those of these names, and return 0."""
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        if not names or path.stem in names:
            with tempfile.TemporaryDirectory() as folder:
                shutil.copytree(TUTORIALS.parents[1] / "tests/data/docking", Path(folder) / "docking")
                nbformat.write(run(path, Path(folder)), path)
            print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
