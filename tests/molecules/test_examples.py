"""Files that come with the package: `example:NAME` stands for a path wherever a setting takes a file."""

from pathlib import Path

import numpy as np
import pytest
from command import molrl

from molrl.data.files import EXAMPLES, locate
from molrl.data.molecules.core_file import read_core
from molrl.data.molecules.files import read
from molrl.rewards.molecules.docking.site import Site

FILES = sorted(path.name for path in EXAMPLES.iterdir() if path.name not in ("README.md", "LICENSE"))


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_the_file_of_that_name(name: str) -> None:
    assert locate(f"example:{name}").read_bytes() == (EXAMPLES / name).read_bytes()


def test_any_other_path_is_left_as_it_is() -> None:
    assert locate("runs/example:1") == Path("runs/example:1")


@pytest.mark.parametrize("name", ["", "LICENSE", "README.md", "../files.py", "gone.sdf", "/etc/passwd"])
def test_only_the_examples_have_such_a_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"example:.*: no such example, allowed: 1iep_ligand.pdbqt, .*imatinib.sdf"):
        locate(f"example:{name}")


def test_the_core_is_a_part_of_the_ligand_in_the_pocket() -> None:
    (ligand,), _ = read("example:imatinib.sdf", "counts")
    core = read_core("example:imatinib_hinge.sdf", 13).molecule
    distances = np.linalg.norm(core.positions[:, None] - ligand.positions[None], axis=-1)
    assert len(core) == 13
    assert distances.min(1).max() < 1e-3


@pytest.mark.parametrize("ligand", ["imatinib.sdf", "1iep_ligand.pdbqt"])
def test_a_site_of_examples_is_that_of_their_files(ligand: str) -> None:
    named = Site(receptor="example:1iep_pocket.pdbqt", ligand=f"example:{ligand}")
    paths = Site(receptor=str(EXAMPLES / "1iep_pocket.pdbqt"), ligand=str(EXAMPLES / ligand))
    assert named.box() == paths.box()
    assert np.array_equal(named.structure().positions, paths.structure().positions)


def test_examples_are_scored_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = ("reward.site.receptor=example:1iep_pocket.pdbqt", "reward.site.ligand=example:imatinib.sdf")
    arguments = ("score", "example:imatinib.sdf", "reward=pose", *site, "reward.workers=0")
    for _ in range(2):  # the second time, the file to write exists
        done = molrl(*arguments, "overwrite=true")
        assert done.code == 0, done.err
    assert "12.5" in Path("imatinib.sdf.pose.csv").read_text()
