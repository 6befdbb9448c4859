"""Fields of an SDF: by record, the first line of each, whoever wrote it."""

import gzip
from pathlib import Path

import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molrl.data.molecules.sdf_fields import read_field
from molrl.models.molecules.codec import MoleculeCodec
from molrl.models.molecules.records import MoleculeRecords

BLOCK = "\n\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n"


def sdf(path: Path, *fields: str) -> Path:
    path.write_text("".join(f"{BLOCK}{text}\n$$$$\n" for text in fields))
    return path


def test_fields_are_found_however_their_header_is_written(tmp_path: Path) -> None:
    """The forms of the specification (CTfile, data header): external registry numbers, record numbers, no spaces."""
    headers = (">  <score>", "> <score>", ">  <score>  (3)", "> 25 DT12 <score>", "><score>")
    path = sdf(tmp_path / "x.sdf", *(f"{header}\n{row}.5\nmore\n" for row, header in enumerate(headers)))
    assert read_field(path, "score") == {row + 1: f"{row}.5" for row in range(5)}


def test_records_without_the_field_or_with_an_empty_one_are_absent(tmp_path: Path) -> None:
    path = sdf(tmp_path / "x.sdf", ">  <a>\n1\n", ">  <b>\n2\n", ">  <a>\n\n", ">  <a>\n4\n\n>  <b>\n5\n")
    assert read_field(path, "a") == {1: "1", 4: "4"}
    packed = tmp_path / "x.sdf.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_field(packed, "b") == {2: "2", 4: "5"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((">  <a>\n1\n",), r"no field 'score' with a value; it has a"),
        (("",), r"no field 'score' with a value; it has none"),
        ((">  <score>\n1\n\n>  <score>\n2\n",), r"record 1, line 1: field 'score' twice"),
    ],
)
def test_a_file_without_one_such_field_is_refused(tmp_path: Path, fields: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_field(sdf(tmp_path / "x.sdf", *fields), "score")


def test_other_files_have_no_fields(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got the suffix '\.xyz', need \.sdf"):
        read_field(tmp_path / "x.xyz", "score")


def test_the_fields_of_records_have_the_numbers_of_their_states(tmp_path: Path) -> None:
    """The second record has an element that the model does not know; numbers stay those of the file."""
    texts = []
    for smiles, score in (("CCO", 1.0), ("CCS", 2.0), ("CO", 3.0)):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
        texts.append(f"{Chem.MolToMolBlock(mol)}>  <score>\n{score}\n\n$$$$\n")
    path = tmp_path / "x.sdf"
    path.write_text("".join(texts))
    records = MoleculeRecords(str(path), MoleculeCodec(elements=(6, 8), type_scale=1.0, hydrogen_scale=1.0))
    with pytest.warns(UserWarning, match="1 of 3 records left out"):
        assert records().numbers == [1, 3]
    assert records.field_values("score") == {1: "1.0", 2: "2.0", 3: "3.0"}
