"""The tutorials: saved with their outputs, small, and running as they stand."""

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted(ROOT.glob("docs/tutorials/*.ipynb"))
MAX_BYTES = 400_000


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_saved_with_its_outputs(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert path.stat().st_size < MAX_BYTES
    assert any(output.output_type == "display_data" for cell in cells for output in cell.outputs)
    assert any(output.output_type == "stream" for cell in cells for output in cell.outputs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path: Path, tmp_path: Path) -> None:
    from write_tutorials import run

    assert all("outputs" in cell for cell in run(path, tmp_path).cells if cell.cell_type == "code")
