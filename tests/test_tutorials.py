"""The tutorials: saved with their outputs, small, and running as they stand."""

import resource
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output
from write_tutorials import run, tidy

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted(ROOT.glob("docs/tutorials/*.ipynb"))
MAX_BYTES = 400_000
MAX_SECONDS = 300  # of processor time, which other jobs on the machine hardly change


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_saved_with_its_outputs(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert path.stat().st_size < MAX_BYTES
    assert any(output.output_type == "display_data" for cell in cells for output in cell.outputs)
    assert any(output.output_type == "stream" for cell in cells for output in cell.outputs)


def test_tables_are_kept_without_styles_of_their_own_and_without_links_into_the_folder_of_the_run() -> None:
    style, link = "<style>td {color: red}</style>", '<a href="runs/mine">mine</a>'
    table = f'{style}{link}<table border="1" class="dataframe"><tr><td>1</table>'
    shown = new_output("display_data", {"text/html": table, "text/plain": "1"})
    (kept,) = tidy([shown])
    assert kept.data == {"text/html": "mine<table><tr><td>1</table>", "text/plain": "1"}


def test_what_a_notebook_shows_of_a_run_is_in_a_tutorial() -> None:
    """The bar of progress, its figures, and its metrics as a data frame."""
    cells = [cell for path in TUTORIALS for cell in nbformat.read(path, as_version=4).cells]
    shown = "".join(output.get("data", {}).get("text/html", "") for cell in cells for output in cell.get("outputs", []))
    assert all(words in shown for words in ("<progress", "KL to the start", "<th>reward</th>"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_within_five_minutes(path: Path, tmp_path: Path) -> None:
    before = processor_seconds()
    assert all("outputs" in cell for cell in run(path, tmp_path).cells if cell.cell_type == "code")
    assert processor_seconds() - before < MAX_SECONDS


def processor_seconds() -> float:
    """Return the processor time of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
