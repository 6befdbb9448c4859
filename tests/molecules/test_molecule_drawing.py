"""Laws of the images of molecules."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rdkit import Chem

from molrl.data.molecules.bonds import edm_table, rdkit_bonds
from molrl.data.molecules.drawing import CARD, draw_grid, draw_molecule, fit_text, typeface
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.smiles import read_smiles


@pytest.fixture(scope="module")
def known() -> list[Molecule]:
    molecules, _ = read_smiles(["CCO", "c1ccncc1", "OCC1CO1", "CC(=O)N", "C"], "counts")
    return [replace(molecule, graph=None) for molecule in molecules]


def broken(molecule: Molecule) -> Molecule:
    return replace(molecule, positions=np.full_like(molecule.positions, np.nan))


def spans(inked: NDArray[np.bool_]) -> list[slice]:
    """Return the runs of True that are as long as a cell, not as short as a title."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inked, [False]])))
    runs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [slice(start, stop) for start, stop in runs if stop - start > 100]


def cells(page: Image.Image) -> list[NDArray[np.uint8]]:
    """Return the pixels of each cell, row by row."""
    pixels = np.asarray(page)
    inked = (pixels != 255).any(-1)
    rows = spans(inked.any(1))
    columns = spans(inked[rows[0].start :].any(0))
    return [pixels[row, column] for row in rows for column in columns if inked[row, column].any()]


def colours(pixels: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}


@pytest.mark.parametrize("columns", [1, 2, 3, 7])
@pytest.mark.parametrize("title", [None, "Before"])
def test_an_image_has_as_many_cells_as_molecules(known: list[Molecule], columns: int, title: str | None) -> None:
    page = draw_grid(known, ["QED 0.5"] * len(known), rdkit_bonds, columns, title)
    assert len(cells(page)) == len(known)


def test_a_cell_does_not_depend_on_the_others(known: list[Molecule]) -> None:
    captions = [f"QED 0.{index}" for index in range(len(known))]
    together = cells(draw_grid(known, captions, edm_table, 2, "All"))
    for molecule, caption, cell in zip(known, captions, together, strict=True):
        np.testing.assert_array_equal(cells(draw_grid([molecule], [caption], edm_table, 1, None))[0], cell)


def test_the_image_shows_the_graph_that_the_reader_found(known: list[Molecule]) -> None:
    """Moving the atoms does not change the image as long as the bonds stay the same."""
    moved = replace(known[1], positions=known[1].positions[:, [2, 0, 1]] + np.float32(3))
    assert rdkit_bonds(moved).mol is not None
    first, second = (draw_grid([molecule], [""], rdkit_bonds, 1, None) for molecule in (known[1], moved))
    assert first.tobytes() == second.tobytes()


def test_an_unreadable_molecule_is_an_empty_box_with_the_reason(known: list[Molecule]) -> None:
    card = tuple(int(CARD[index : index + 2], 16) for index in (1, 3, 5))
    good, bad, other = cells(
        draw_grid([known[0], broken(known[0]), replace(known[0], hydrogens=None, numbers=known[0].numbers + 200)],
                  [""] * 3, rdkit_bonds, 3, None)
    )  # fmt: skip
    assert card not in colours(good)
    assert card in colours(bad)
    assert (bad != other).any()  # non-finite positions, element


def test_an_oxygen_is_red_and_a_nitrogen_blue(known: list[Molecule]) -> None:
    ethanol, pyridine = (
        colours(np.asarray(draw_grid([molecule], [""], rdkit_bonds, 1, None))) for molecule in known[:2]
    )
    assert (255, 0, 0) in ethanol - pyridine
    assert (0, 0, 255) in pyridine - ethanol


def test_rings_without_a_kekule_form_are_drawn() -> None:
    mol = Chem.MolFromSmiles("c1cccc1", sanitize=False)
    mol.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(mol)
    assert np.asarray(draw_molecule(mol)).min() == 0


def test_a_long_caption_stays_in_its_cell(known: list[Molecule]) -> None:
    font = typeface(26)
    assert fit_text("QED 0.5", font, 360) == "QED 0.5"
    assert font.getlength(fit_text("W" * 200, font, 360)) <= 360
    assert len(cells(draw_grid(known[:2], ["W" * 200, "W" * 200], rdkit_bonds, 2, "W" * 200))) == 2


def test_lines_of_a_caption_make_the_cells_taller(known: list[Molecule]) -> None:
    one, two = (draw_grid(known[:2], [caption, "b"], rdkit_bonds, 2, None) for caption in ("a", "a\nc"))
    assert two.height > one.height


def test_wrong_numbers_are_refused(known: list[Molecule]) -> None:
    with pytest.raises(ValueError, match="captions: got 1 for 5 molecules"):
        draw_grid(known, ["a"], rdkit_bonds, 2, None)
    with pytest.raises(ValueError, match="captions: got 0 for 0 molecules"):
        draw_grid([], [], rdkit_bonds, 2, None)
    with pytest.raises(ValueError, match="columns: got 0, need at least 1"):
        draw_grid(known, ["a"] * 5, rdkit_bonds, 0, None)
