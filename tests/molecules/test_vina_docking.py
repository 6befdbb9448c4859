"""AutoDock Vina as a reward: its published numbers, in worker processes only, trouble as a reason."""

import csv
import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command import molrl
from numpy.testing import assert_array_equal
from rdkit import Chem
from test_molecule_rewards import embedded

from molrl.building import build
from molrl.composition import compose
from molrl.config import ConfigError
from molrl.data.files import EXAMPLES
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule, count_hydrogens
from molrl.data.molecules.pdbqt import ELEMENTS, read_receptor, receptor_text
from molrl.rewards.desirability import Desirability
from molrl.rewards.molecules.docking.site import Site
from molrl.rewards.molecules.docking.vina import PACKAGES, Mode, VinaDocking
from molrl.rewards.scores import Scored
from molrl.rewards.workers.pooled import Pooled
from molrl.rewards.wrapping import parts_of

RECEPTOR = str(EXAMPLES / "1iep_pocket.pdbqt")
CENTRE, SIZE = [15.190, 53.903, 16.917], [20.0, 20.0, 20.0]
SITE = Site(receptor=RECEPTOR, centre=CENTRE, size=SIZE)
installed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES), reason="the extra docking is not installed"
)


def docking(mode: Mode = "dock", exhaustiveness: int = 4) -> VinaDocking:
    return VinaDocking(site=SITE, mode=mode, exhaustiveness=exhaustiveness, seed=1, reader=rdkit_bonds)


def imatinib() -> Molecule:
    ((molecule,), _) = read(EXAMPLES / "imatinib.sdf")
    return molecule


def shifted(sample: Molecule, by: float) -> Molecule:
    return Molecule(sample.numbers, sample.positions + np.float32(by), graph=None)


@pytest.fixture(scope="module")
def pooled() -> Iterator[dict[Mode, Pooled]]:
    """Yield one worker for each mode of docking."""
    modes: tuple[Mode, ...] = ("score", "minimise", "dock")
    pools: dict[Mode, Pooled] = {mode: Pooled(docking(mode), workers=1, timeout=120.0, chunk=1) for mode in modes}
    yield pools
    for pool in pools.values():
        pool.close()


@installed
def test_imatinib_has_the_scores_that_the_package_publishes(pooled: dict[Mode, Pooled]) -> None:
    """-12.513 kcal/mol where it lies, -13.249 at the nearest minimum (with another torsion tree)."""
    (score,), (minimised,) = (pooled[mode].score([imatinib()]).scored for mode in ("score", "minimise"))
    assert score.value == pytest.approx(12.513, abs=1e-3)
    assert minimised.value == pytest.approx(13.249, abs=0.1)
    assert parts_of(score) == pytest.approx(
        {"score": score.value, "heavy_atoms": 37, "per_heavy_atom": score.value / 37}
    )


@installed
def test_a_pdb_file_without_hydrogens_gives_the_same_score(tmp_path: Path) -> None:
    """The package sees the donors: imatinib's hydrogen bonds make 2.9 of its 17.6 kcal/mol."""
    rows = [row for row in Path(RECEPTOR).read_text().splitlines() if row.startswith("ATOM")]
    heavy = [f"{row[:66]:76}{ELEMENTS[row[77:].strip()]:>2}\n" for row in rows if row[77:].strip() not in ("H", "HD")]
    (tmp_path / "x.pdb").write_text("".join(heavy))
    site = Site(receptor=str(tmp_path / "x.pdb"), centre=CENTRE, size=SIZE)
    scorer = VinaDocking(site=site, mode="score", exhaustiveness=1, seed=1, reader=rdkit_bonds)
    with Pooled(scorer, workers=1, timeout=60.0) as pool:
        (score,) = pool.score([imatinib()]).values
    assert score == pytest.approx(12.513, abs=0.02)


@installed
def test_benzene_is_docked_wherever_it_was(pooled: dict[Mode, Pooled]) -> None:
    """-5.06 kcal/mol by the package on its own, with the whole receptor."""
    near, far = pooled["dock"].score([embedded("c1ccccc1"), shifted(embedded("c1ccccc1"), 100.0)]).values
    assert near == pytest.approx(5.06, abs=0.05)
    assert far == pytest.approx(near, abs=0.05)


@installed
def test_hydrogens_without_positions_are_added(pooled: dict[Mode, Pooled]) -> None:
    whole = embedded("Oc1ccccc1")
    first, second = pooled["dock"].score([whole, count_hydrogens(whole)]).values
    assert first == pytest.approx(second, abs=0.05)
    assert first > 5


@installed
def test_bad_samples_have_the_floor_and_a_reason(pooled: dict[Mode, Pooled]) -> None:
    outside = "box: the molecule lies outside, which mode=score does not move"
    assert pooled["score"].score([embedded("CCO")]).scored == ((0.0, outside),)
    bad = [embedded("OB(O)C"), Molecule(np.zeros(0, np.int64), np.zeros((0, 3), np.float32))]
    assert pooled["dock"].score(bad).reasons == ["element: Vina has no radius for B", "no atoms"]


@installed
def test_a_search_that_takes_too_long_is_given_up() -> None:
    with Pooled(docking("dock", exhaustiveness=10_000), workers=1, timeout=6.0) as pool:
        scores = pool.score([embedded("CCCCCCCCCCCC")])
    assert scores.reasons == ["timeout"]
    assert math.isnan(scores.values[0])


@dataclass(frozen=True, kw_only=True)
class Emptied(VinaDocking):
    """A scorer that hands the package an empty ligand, at which it ends its process, for methane."""

    def measure(self, mol: Chem.Mol, sample: Molecule) -> Scored:
        if mol.GetNumAtoms() == 1:
            self.engine.set_ligand_from_string("")
        return super().measure(mol, sample)


@installed
def test_what_ends_the_process_costs_its_own_sample() -> None:
    ending = Emptied(site=SITE, mode="dock", exhaustiveness=1, seed=1, reader=rdkit_bonds)
    with Pooled(ending, workers=1, timeout=60.0, chunk=2) as pool:
        bad, good = pool.score([embedded("C"), embedded("CCO")]).scored
    assert math.isnan(bad.value)
    assert bad.reason.startswith("crash: ")
    assert good.value > 2


@installed
def test_it_never_runs_in_this_process() -> None:
    (scored,) = docking().score([embedded("CCO")]).scored
    assert math.isnan(scored.value)
    assert "worker processes only" in scored.reason
    wrapped = Desirability(scorer=docking(), low=2.0, high=8.0, goal="larger")
    with pytest.raises(ValueError, match="workers: got 0, VinaDocking may end the process"):
        Pooled(wrapped, workers=0)


def test_a_receptor_is_written_as_it_was_read(tmp_path: Path) -> None:
    receptor = read_receptor(RECEPTOR)
    (tmp_path / "x.pdbqt").write_text(receptor_text(receptor))
    again = read_receptor(tmp_path / "x.pdbqt")
    assert again.types == receptor.types
    assert_array_equal(again.positions, receptor.positions)
    assert_array_equal(again.charges, receptor.charges)


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "meeko" else find_spec(name))
    with pytest.raises(ValueError, match=r"meeko not installed: pip install 'molrl\[docking\]'"):
        docking()


@installed
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mode=redock", r"reward\.scorer\.mode='redock': expected 'score' or 'minimise' or 'dock'"),
        ("exhaustiveness=0", r"reward\.scorer: exhaustiveness: got 0, need at least 1"),
    ],
)
def test_wrong_settings_are_named(setting: str, message: str) -> None:
    site = [f"reward.site.receptor={RECEPTOR}", f"reward.site.centre={CENTRE}", f"reward.site.size={SIZE}"]
    config = compose("score", ["reward=vina", "file=x.sdf", *site, f"reward.scorer.{setting}"])
    with pytest.raises(ConfigError, match=message):
        build(config["reward"], "reward")


@installed
def test_the_proxy_and_the_package_stand_side_by_side(tmp_path: Path) -> None:
    site = [f"reward.site.receptor={RECEPTOR}", f"reward.site.ligand={EXAMPLES / '1iep_ligand.pdbqt'}"]
    search = ["reward.scorer.starts=16", "reward.scorer.steps=20", "reward.scorer.mode=score", "reward.workers=1"]
    table = tmp_path / "out.csv"
    done = molrl("score", str(EXAMPLES / "imatinib.sdf"), "reward=docking,vina", *site, *search, f"out={table}")
    assert done.code == 0, done.err
    with table.open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["vina"]) == pytest.approx(12.513, abs=1e-3)
    assert float(row["docking"]) > 6
    assert float(row["vina.per_heavy_atom"]) == pytest.approx(12.513 / 37, abs=1e-3)
    assert 0 <= float(row["docking.clashes"]) < 0.3
