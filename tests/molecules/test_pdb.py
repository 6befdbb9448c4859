"""PDB files become the receptors of AutoDock's preparation, without the molecules that fill a pocket."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from molrl.data.files import EXAMPLES
from molrl.data.molecules import macromolecules
from molrl.data.molecules.chains import read_groups
from molrl.data.molecules.pdb import group_positions, read_pdb
from molrl.data.molecules.pdbqt import ELEMENTS, Structure, read_receptor
from molrl.rewards.molecules.docking.atom_types import heavy, structure_types

POCKET = EXAMPLES / "1iep_pocket.pdbqt"
ROWS = [row for row in POCKET.read_text().splitlines() if row.startswith("ATOM")]
LEFT_OUT = "left out of the receptor"


def atom(
    name: str,
    residue: str,
    x: float,
    y: float = 0.0,
    *,
    number: int = 1,
    record: str = "HETATM",
    alternate: str = "",
    occupancy: float = 1.0,
    element: str = "",
) -> str:
    place = f"{alternate:1}{residue:<4}A{number:4}"
    return f"{record:6}{1:5} {name:4}{place}    {x:8.3f}{y:8.3f}{0:8.3f}{occupancy:6.2f}{0:6.2f}{'':10}{element:>2}\n"


def glycine(number: int = 1, x: float = 0.0) -> str:
    rows = ((" N", 0.0, 0.0), (" CA", 1.45, 0.0), (" C", 2.0, 1.4), (" O", 3.2, 1.5))
    return "".join(atom(name, "GLY", x + dx, dy, number=number, record="ATOM") for name, dx, dy in rows)


def modified(residue: str = "XYZ") -> str:
    """Return a residue whose nitrogen is bonded to the carbon of a glycine."""
    return "".join(atom(f" {name}", residue, x, 2.5, number=2) for name, x in (("N", 1.4), ("CA", 0.0)))


def read(tmp_path: Path, text: str, *, keep: tuple[str, ...] = ()) -> Structure:
    path = tmp_path / "x.pdb"
    path.write_text(text)
    return read_pdb(path, keep)


def as_pdb(*, hydrogens: bool, elements: bool) -> str:
    """Return the pocket as text of a PDB file, without types and charges."""
    rows = []
    for row in ROWS:
        element = ELEMENTS[row[77:].strip()]
        if hydrogens or element != "H":
            rows.append(f"{row[:66]:76}{element if elements else '':>2}\n")
    return "".join(rows)


@pytest.mark.parametrize("elements", [True, False])
def test_a_file_with_hydrogens_has_the_classes_of_its_pdbqt_file(tmp_path: Path, elements: bool) -> None:
    """Expected types are from MGLTools' receptor preparation, in the example of the AutoDock Vina repository."""
    found, expected = read(tmp_path, as_pdb(hydrogens=True, elements=elements)), read_receptor(POCKET)
    assert_array_equal(found.positions[heavy(found)], expected.positions[heavy(expected)])
    for mine, theirs in zip(structure_types(found), structure_types(expected), strict=True):
        assert_array_equal(mine, theirs)
    assert structure_types(expected).donor.sum() > 50


def test_without_hydrogens_only_the_protonation_of_histidine_is_unknown(tmp_path: Path) -> None:
    """Both nitrogens of some histidines bear a proton in the PDBQT file, but here only NE2."""
    found, expected = read(tmp_path, as_pdb(hydrogens=False, elements=True)), read_receptor(POCKET)
    names = np.array([row[12:20].split() for row in ROWS if ELEMENTS[row[77:].strip()] != "H"])
    certain = ~((names[:, 1] == "HIS") & (names[:, 0] == "ND1"))
    assert 0 < (~certain).sum() < 5
    for mine, theirs in zip(structure_types(found), structure_types(expected), strict=True):
        assert_array_equal(mine[certain], theirs[certain])


@pytest.mark.parametrize(
    ("residue", "donors", "acceptors"),
    [
        ("HIS", "NE2", "ND1"),
        ("HSE", "NE2", "ND1"),
        ("HID", "ND1", "NE2"),
        ("HIP", "ND1 NE2", ""),
    ],
)
def test_the_name_of_histidine_tells_its_protons(tmp_path: Path, residue: str, donors: str, acceptors: str) -> None:
    names = ("ND1", "NE2")
    rows = [atom(f" {name}", residue, 9.0 * row, record="ATOM", element="N") for row, name in enumerate(names)]
    kinds = structure_types(read(tmp_path, "".join(rows)))
    assert [name for name, yes in zip(names, kinds.donor, strict=True) if yes] == donors.split()
    assert [name for name, yes in zip(names, kinds.acceptor, strict=True) if yes] == acceptors.split()


def test_protons_in_the_file_have_the_last_word_about_histidine(tmp_path: Path) -> None:
    text = atom(" ND1", "HIS", 0.0, record="ATOM") + atom(" NE2", "HIS", 9.0, record="ATOM")
    kinds = structure_types(read(tmp_path, text + atom(" HD1", "HIS", 0.0, 1.0, record="ATOM")))
    assert (kinds.donor.tolist(), kinds.acceptor.tolist()) == ([True, False], [False, True])


def test_bases_bind_by_the_rules_of_watson_and_crick(tmp_path: Path) -> None:
    """Guanine donates by N1 and N2 and accepts by O6; cytosine donates by N4 and accepts by N3 and O2."""
    atoms = [("DG", "N1"), ("DG", "N2"), ("DG", "O6"), ("DG", "N9"), ("DC", "N4"), ("DC", "N3"), ("DC", "O2")]
    rows = [atom(f" {name}", base, 9.0 * row, number=row, record="ATOM") for row, (base, name) in enumerate(atoms)]
    kinds = structure_types(read(tmp_path, "".join(rows)))
    assert kinds.donor.tolist() == [True, True, False, False, True, False, False]
    assert kinds.acceptor.tolist() == [False, False, True, False, False, True, True]


def test_what_fills_the_pocket_is_left_out_and_named_and_metals_stay(tmp_path: Path) -> None:
    ligand = atom(" C1", "STI", 9.0, number=2) + atom(" O1", "STI", 10.4, number=2)
    rest = atom("ZN", "ZN", 15.0, number=3) + atom(" O", "HOH", 20.0, number=4) + atom("CL", "CL", 25.0, number=5)
    with pytest.warns(UserWarning, match=f"{LEFT_OUT}: 1 STI, 1 CL; keep="):
        found = read(tmp_path, glycine() + ligand + rest)
    assert [kind for kind in found.types if kind != "HD"] == ["N", "C", "C", "OA", "Zn"]


def test_only_water_is_left_out_in_silence_and_all_can_be_kept(tmp_path: Path) -> None:
    text = glycine() + atom(" O", "HOH", 20.0, number=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(structure_types(read(tmp_path, text)).radius) == 4
        kinds = structure_types(read(tmp_path, text, keep=("HOH",)))
    assert (kinds.donor[-1], kinds.acceptor[-1]) == (True, True)


def test_an_amino_acid_on_its_own_is_a_ligand_and_a_modified_one_in_a_chain_is_not(tmp_path: Path) -> None:
    free = "".join(atom(name, "GLU", 9.0 + i, number=2) for i, name in enumerate((" N", " CA", " C")))
    with pytest.warns(UserWarning, match=f"{LEFT_OUT}: 1 GLU"):
        found = read(tmp_path, glycine() + free + modified() + atom("SE", "MSE", 30.0, number=4))
    assert [kind for kind in found.types if kind != "HD"] == ["N", "C", "C", "OA", "N", "C", "SA"]


@pytest.mark.parametrize(
    ("name", "length", "donor", "acceptor"),
    [
        *((" O1", 1.22, False, True), (" O1", 1.43, True, True)),  # angstrom: a ketone, an alcohol
        *((" N1", 1.16, False, True), (" N1", 1.36, True, False)),  # a nitrile, an aniline
    ],
)
def test_a_hydrogen_that_a_kept_group_lacks_is_told_by_its_bond(
    tmp_path: Path, name: str, length: float, donor: bool, acceptor: bool
) -> None:
    group = atom(" C1", "LIG", 20.0, number=2) + atom(name, "LIG", 20.0 + length, number=2)
    kinds = structure_types(read(tmp_path, glycine() + group, keep=("LIG",)))
    assert (kinds.donor[-1], kinds.acceptor[-1]) == (donor, acceptor)


def test_a_histidine_that_binds_a_metal_has_no_hydrogen_there(tmp_path: Path) -> None:
    histidine = atom(" ND1", "HIS", 0.0, record="ATOM") + atom(" NE2", "HIS", 9.0, record="ATOM")
    kinds = structure_types(read(tmp_path, histidine + atom("ZN", "ZN", 11.1, number=2)))
    assert (kinds.donor.tolist(), kinds.acceptor.tolist()) == ([False, False, True], [True, False, False])


def test_the_nitrogen_of_a_proline_bears_no_hydrogen_whatever_it_is_called(tmp_path: Path) -> None:
    ring = modified("HYP") + atom(" CD", "HYP", 2.6, 3.7, number=2)
    donors = [structure_types(read(tmp_path, glycine() + group)).donor[4] for group in (ring, modified())]
    assert donors == [False, True]


def test_a_nitrogen_bound_to_a_metal_has_no_pair_left(tmp_path: Path) -> None:
    ring = [(" C1", 20.0, 0.0, ""), (" N1", 21.2, 0.6, ""), (" C2", 22.4, 0.0, ""), ("FE", 21.2, 2.6, "FE")]
    bound = "".join(atom(name, "HEM", x, y, number=2, element=element) for name, x, y, element in ring)
    free = "".join(atom(name, "HEM", x, y, number=2, element=element) for name, x, y, element in ring[:3])
    acceptors = [structure_types(read(tmp_path, glycine() + group, keep=("HEM",))).acceptor for group in (bound, free)]
    assert [bool(found[5]) for found in acceptors] == [False, True]


def test_of_alternate_locations_the_most_occupied_is_taken(tmp_path: Path) -> None:
    places = [("A", 0.4, 30.0), ("B", 0.6, 40.0)]
    rows = [
        atom(name, "THR", x, y, number=2, record="ATOM", alternate=letter, occupancy=occupancy)
        for name, y in ((" CB", 0.0), (" OG1", 1.4))
        for letter, occupancy, x in places
    ]
    found = read(tmp_path, glycine() + "".join(rows))
    assert found.positions[heavy(found)][4:, 0].tolist() == [40.0, 40.0]


def test_of_several_models_the_first_is_taken(tmp_path: Path) -> None:
    text = f"MODEL        1\n{glycine()}ENDMDL\nMODEL        2\n{glycine(x=50.0)}ENDMDL\n"
    assert read(tmp_path, text).positions[:, 0].max() < 10


def test_the_alpha_carbon_is_no_calcium(tmp_path: Path) -> None:
    path = tmp_path / "x.pdb"
    path.write_text(glycine() + atom("CA", "CA", 20.0, number=2) + atom("HG11", "VAL", 30.0, number=3, record="ATOM"))
    elements = [found.element for group in read_groups(path) for found in group.atoms]
    assert elements == ["N", "C", "C", "O", "CA", "H"]


def test_the_place_of_a_group_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.pdb"
    path.write_text(glycine() + atom(" C1", "STI", 9.0, number=2) + atom(" H1", "STI", 9.0, 1.0, number=2))
    assert group_positions(path, "STI").tolist() == [[9.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match="no group has the name ABC; besides chains there are STI"):
        group_positions(path, "ABC")


@pytest.mark.parametrize(
    ("text", "keep", "message"),
    [
        ("HEADER\n", (), "x.pdb: no atoms"),
        (atom(" O", "HOH", 1.0), (), "x.pdb: no residue of a protein or nucleic acid"),
        (glycine(), ("HEM",), "x.pdb: nothing to keep has the name HEM"),
        (glycine().replace("  0.000", "    nan", 1), (), "x.pdb, line 1: x: got"),
        (glycine().replace("   0.000", "9.999e99", 1), (), "x.pdb, line 1: x: got"),
        (glycine() + atom(" B1", "LIG", 9.0, number=2), ("LIG",), "x.pdb: LIG A 2: element B, known are H, N, C"),
    ],
)
def test_bad_files_are_named_with_what_is_wrong(tmp_path: Path, text: str, keep: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, keep=keep)


def test_a_file_of_too_many_atoms_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macromolecules, "MAX_RECEPTOR_ATOMS", 3)
    with pytest.raises(ValueError, match="line 4: more than 3 atoms"):
        read(tmp_path, glycine())


def test_every_donor_bears_a_hydrogen_that_no_other_atom_is_bonded_to(tmp_path: Path) -> None:
    found = read(tmp_path, as_pdb(hydrogens=False, elements=True))
    protons = found.positions[~heavy(found)]
    distance = np.linalg.norm(protons[:, None] - found.positions[heavy(found)][None], axis=-1)
    assert (distance < 1.25).sum(1).tolist() == [1] * len(protons)
    assert len(protons) == structure_types(found).donor.sum()
