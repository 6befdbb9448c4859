"""GFN2-xTB's forces and energies: published numbers, laws of a gradient, and samples without a value."""

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import molrl
from numpy.typing import NDArray
from test_combine import cell, sdf
from test_geometry_rewards import at, relaxed, shaken, turned
from test_molecule_rewards import ASPIRIN, BAD, from_smiles

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.molecule import Molecule, count_hydrogens
from molrl.rewards.molecules import relaxation
from molrl.rewards.molecules.geometry import NO_GEOMETRY
from molrl.rewards.molecules.graph import MAX_HEAVY
from molrl.rewards.molecules.xtb import GFN2, HARTREE, MAX_FORCE, MAX_STRAIN, TOLERANCE, Energy, Force
from molrl.rewards.scores import Explained, Scored
from molrl.rewards.workers.pooled import Pooled

pytest.importorskip("tblite")

FORCE = Force(reader=rdkit_bonds, hydrogen_steps=30)
ENERGY = Energy(reader=rdkit_bonds, hydrogen_steps=30, steps=300)

each_reward = pytest.mark.parametrize("reward", [FORCE, ENERGY], ids=lambda reward: type(reward).__name__)

# The geometries of the G2 set (Curtiss et al. 1997, doi:10.1063/1.473182), as in ASE
WATER = Molecule(
    np.array([8, 1, 1]),
    np.array([[0, 0, 0.119262], [0, 0.763239, -0.477047], [0, -0.763239, -0.477047]], np.float32),
)
CORNERS = [[1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]]
METHANE = Molecule(np.array([6, 1, 1, 1, 1]), np.array([[0, 0, 0], *CORNERS], np.float32) * np.float32(0.629118))
# caffeine.xyz of tblite's tutorial (tblite.readthedocs.io, "Running Calculations from Python")
CAFFEINE = Molecule(
    np.array([6, 7, 6, 7, 6, 6, 6, 8, 7, 6, 8, 7, 6, 6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    np.array(
        [
            [1.07317, 0.04885, -0.07573], [2.51365, 0.01256, -0.07580], [3.35199, 1.09592, -0.07533],
            [4.61898, 0.73028, -0.07549], [4.57907, -0.63144, -0.07531], [3.30131, -1.10256, -0.07524],
            [2.98068, -2.48687, -0.07377], [1.82530, -2.90038, -0.07577], [4.11440, -3.30433, -0.06936],
            [5.45174, -2.85618, -0.07235], [6.38934, -3.65965, -0.07232], [5.66240, -1.47682, -0.07487],
            [7.00947, -0.93648, -0.07524], [3.92063, -4.74093, -0.06158], [0.73398, 1.08786, -0.07503],
            [0.71239, -0.45698, 0.82335], [0.71240, -0.45580, -0.97549], [2.99301, 2.11762, -0.07478],
            [7.76531, -1.72634, -0.07591], [7.14864, -0.32182, 0.81969], [7.14802, -0.32076, -0.96953],
            [2.86501, -5.02316, -0.05833], [4.40233, -5.15920, 0.82837], [4.40017, -5.16929, -0.94780],
        ],
        np.float32,
    ),
)  # fmt: skip


def surface_of(sample: Molecule, charge: int = 0) -> GFN2:
    return GFN2(sample.numbers, sample.positions.astype(float), charge)


def minimum(smiles: str) -> Molecule:
    """Return all atoms at a minimum of GFN2-xTB, bonds unknown."""
    sample = relaxed(smiles)
    free = np.ones(len(sample), np.bool_)
    point = relaxation.relax(surface_of(sample), sample.positions.astype(float), free, 500, TOLERANCE)
    assert relaxation.lengths(point.gradient).max() <= TOLERANCE
    return replace(sample, positions=point.positions.astype(np.float32))


@pytest.mark.parametrize(
    ("sample", "energy", "force"),
    [
        # tblite's documentation, tblite.ase: energies in eV, 27.211386 eV per Hartree; and of water the forces
        # (0, 0, -0.749527), (0, -+0.153506, 0.374764) eV/angstrom
        (WATER, -137.96777594 / 27.211386, math.sqrt((0.749527**2 + 2 * (0.153506**2 + 0.374764**2)) / 3)),
        (METHANE, -113.60956621 / 27.211386, None),
        # energy: tblite's tutorial; the root mean square of the gradient that CREST's tests print for the same
        # geometry (crest-lab/crest, test_tblite.F90, g_ref), 0.01535179 Hartree/Bohr
        (CAFFEINE, -42.14746316, 0.01535179 * 27.211386 / 0.52917721),
    ],
    ids=["water", "methane", "caffeine"],
)
def test_energies_and_forces_are_those_that_were_published(
    sample: Molecule, energy: float, force: float | None
) -> None:
    scored = FORCE.score_one(sample)
    assert isinstance(scored, Explained)
    assert scored.reason == ""
    assert scored.parts["energy"] == pytest.approx(energy, abs=2e-6)
    if force is not None:
        assert -scored.value == pytest.approx(force, abs=2e-4)
    assert scored.parts["largest"] >= -scored.value


@pytest.mark.parametrize(("charge", "energy"), [(1, -41.66290264), (-1, -42.31195569)])
def test_a_charge_is_that_of_the_molecule_and_not_of_the_electrons(charge: int, energy: float) -> None:
    """Caffeine's ions in tblite's tutorial."""
    total, _ = surface_of(CAFFEINE, charge)(CAFFEINE.positions.astype(float))
    assert total / HARTREE == pytest.approx(energy, abs=2e-6)


def test_the_charge_comes_from_the_bonds() -> None:
    ammonium = at("[NH4+]", [[0, 0, 0]])
    scored = FORCE.score_one(ammonium)
    assert isinstance(scored, Explained)
    tetrahedron = np.array([[0, 0, 0], *CORNERS]) * 0.59  # nearly relaxed
    neutral, charged = (GFN2(np.array([7, 1, 1, 1, 1]), tetrahedron, charge)(tetrahedron)[0] for charge in (0, 1))
    assert scored.parts["energy"] * HARTREE == pytest.approx(charged, abs=0.1)
    assert abs(neutral - charged) > 1


def test_the_gradient_is_the_slope_of_the_energy_per_angstrom() -> None:
    sample = shaken(relaxed("CO"), 0.05)
    positions, surface, h = sample.positions.astype(float), surface_of(sample), 1e-3
    _, gradient = surface(positions)
    for atom, axis in ((0, 0), (1, 2), (4, 1)):
        there, back = positions.copy(), positions.copy()
        there[atom, axis] += h
        back[atom, axis] -= h
        assert (surface(there)[0] - surface(back)[0]) / (2 * h) == pytest.approx(gradient[atom, axis], abs=2e-3)


def test_the_force_on_heavy_atoms_is_the_slope_of_the_energy_that_they_alone_decide() -> None:
    """d/dx min_h E(x, h) is the partial derivative: where the hydrogens are relaxed, their motion costs nothing."""
    base = count_hydrogens(shaken(relaxed("CO"), 0.02))
    axis = base.positions[1] - base.positions[0]
    unit = axis / np.linalg.norm(axis)

    def energy(stretch: float) -> float:
        positions = base.positions.copy()
        positions[1] += np.float32(stretch) * unit
        scored = FORCE.score_one(replace(base, positions=positions))
        assert isinstance(scored, Explained)
        return scored.parts["energy"] * HARTREE

    slope = (energy(0.02) - energy(-0.02)) / 0.04
    assert -FORCE.score_one(base).value == pytest.approx(abs(slope), abs=0.05)  # two atoms, one bond, equal forces


def test_a_relaxed_geometry_has_no_force_and_no_energy_to_give() -> None:
    sample = minimum("CC(C)O")
    assert FORCE.score_one(sample).value == pytest.approx(0, abs=2 * TOLERANCE)
    assert ENERGY.score_one(sample).value == pytest.approx(0, abs=0.01)


def test_hydrogens_without_positions_are_relaxed_by_the_same_energy() -> None:
    sample = count_hydrogens(minimum("c1cc[nH]c1"))
    assert FORCE.score_one(sample).value == pytest.approx(0, abs=0.03)
    assert ENERGY.score_one(sample).value == pytest.approx(0, abs=0.05)
    assert replace(FORCE, hydrogen_steps=0).score_one(sample).value < -0.2  # those of the force field pull


def test_the_barrier_of_ethane() -> None:
    """2.9 kcal/mol by experiment (Hirota, Saito and Endo 1979, J. Chem. Phys. 71, 1183), a cosine of the threefold."""
    ethane = minimum("CC")
    axis = ethane.positions[1] - ethane.positions[0]
    x, y, z = axis / np.linalg.norm(axis)
    cross, turn = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.radians(55)  # on the barrier itself nothing pulls
    matrix = np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * cross @ cross
    positions = ethane.positions.copy()
    positions[5:] = (positions[5:] - positions[1]) @ matrix.T + positions[1]
    barrier = 2 * ENERGY.score_one(replace(ethane, positions=positions)).value / ((1 - np.cos(3 * turn)) / 2)
    assert barrier == pytest.approx(2.9, abs=0.3)


def test_noise_costs_and_both_rewards_end_at_their_worst() -> None:
    sample = relaxed("CCO")
    forces = [FORCE.score_one(shaken(sample, size)).value for size in (0.0, 0.02, 0.05, 0.1)]
    assert forces == sorted(forces, reverse=True)
    squeezed = replace(at("CCO", relaxed("CCO").positions[:3]), positions=sample.positions[:3] * np.float32(0.5))
    assert FORCE.score_one(squeezed).value == -MAX_FORCE
    assert FORCE.score_one(squeezed).reason == ""
    assert ENERGY.score_one(squeezed) == Scored(MAX_STRAIN)


@each_reward
@pytest.mark.parametrize("counted", [False, True])
def test_turning_mirroring_and_reordering_change_nothing(reward: Force | Energy, counted: bool) -> None:
    sample = shaken(relaxed("CCO"), 0.03)
    sample = count_hydrogens(sample) if counted else sample
    order = np.random.default_rng(0).permutation(len(sample))
    hydrogens = None if sample.hydrogens is None else sample.hydrogens[order]
    other = Molecule(sample.numbers[order], sample.positions[order], hydrogens)
    values = reward([sample, turned(sample), other])
    assert values.tolist() == pytest.approx([values[0].item()] * 3, rel=0.03)


@each_reward
@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (at("C[CH2]", [[0, 0, 0], [1.5, 0, 0]]), BAD["C[CH2]"]),
        (at("C.C", [[0, 0, 0], [4, 0, 0]]), "disconnected: 2 fragments"),
        (at("[Na+].[Cl-]", [[0, 0, 0], [2.4, 0, 0]]), "disconnected: 2 fragments"),
        (at("CC", [[0, 0, 0], [0.3, 0, 0]]), "overlap: atoms within 0.4 angstrom"),
        (at("CO", [[0, 0, 0], [math.nan, 0, 0]]), "non-finite positions"),
        (at("C[Fe]", [[0, 0, 0], [1.9, 0, 0]]), "radical: odd number of electrons"),
        (at("", np.zeros((0, 3))), "no atoms"),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_bad_sample_gets_the_floor_and_a_reason(reward: Force | Energy, sample: Molecule, reason: str) -> None:
    scored = reward.score_one(replace(sample, graph=None) if reason == "non-finite positions" else sample)
    assert scored == Scored(reward.floor, reason)


@each_reward
@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (from_smiles(ASPIRIN), NO_GEOMETRY),
        (
            Molecule(np.full(501, 6), np.eye(501, 3, dtype=np.float32)),
            f"too large: 501 heavy atoms, at most {MAX_HEAVY}",
        ),
        (at("[Ra+2]", [[0, 0, 0]]), "GFN2-xTB: No support for elements with Z >86."),
        (at("[C-]#[O+]", [[0, 0, 0], [1e6, 0, 0]]), "GFN2-xTB: SCF not converged in 250 cycles"),
    ],
    ids=["no geometry", "large", "element", "torn"],
)
def test_what_cannot_be_computed_is_not_scored_and_prints_nothing(
    reward: Force | Energy, sample: Molecule, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    scored = reward.score_one(sample)
    assert (math.isnan(scored.value), scored.reason) == (True, reason)
    assert capfd.readouterr() == ("", "")


@each_reward
def test_a_single_atom_a_metal_and_an_ion_have_values(
    reward: Force | Energy, capfd: pytest.CaptureFixture[str]
) -> None:
    assert reward.score_one(at("[Ne]", [[0, 0, 0]])) == Scored(0.0)
    for sample in (
        at("C", [[0, 0, 0]]),
        at("[NH4+]", [[0, 0, 0]]),
        at("C[Zn]C", [[-1.93, 0, 0], [0, 0, 0], [1.93, 0, 0]]),
    ):
        scored = reward.score_one(sample)
        assert (scored.reason, abs(scored.value) < 1) == ("", True), scored
    assert capfd.readouterr() == ("", "")


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tblite", None)
    with pytest.raises(ImportError, match=r"Force needs tblite: pip install 'molrl\[xtb\]'"):
        Force(reader=rdkit_bonds, hydrogen_steps=30)


def test_steps_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="hydrogen_steps: got -1, need at least 0"):
        Force(reader=rdkit_bonds, hydrogen_steps=-1)
    with pytest.raises(ValueError, match=r"^steps: got 0, need at least 1"):
        Energy(reader=rdkit_bonds, hydrogen_steps=0, steps=0)


def test_worker_processes_give_the_same_values() -> None:
    samples = [WATER, METHANE, from_smiles("")]
    with Pooled(FORCE, workers=1) as pooled:
        assert pooled.score(samples).reasons == ["", "", "no atoms"]
        assert pooled.score(samples).values == pytest.approx(FORCE.score(samples).values)


@pytest.mark.parametrize("reward", ["xtb_force", "xtb_energy"])
def test_a_file_is_scored_with_its_parts_and_without_noise(reward: str, tmp_path: Path) -> None:
    (tmp_path / "in.sdf").write_text(sdf("CCO", "C"))
    done = molrl(
        "score", str(tmp_path / "in.sdf"), f"reward={reward}", "reward.workers=0", f"out={tmp_path / 'out.csv'}"
    )
    assert done.err == ""
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["reason"] for row in rows] == ["", ""]
    part = "energy" if reward == "xtb_force" else "generated"
    assert float(cell(rows[1], f".{part}")) == pytest.approx(-4.175, abs=0.01)  # methane


# Relaxation


def bowl(positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Compute E = sum_i k_i (x_i - 1)^2 / 2 with stiffnesses from 1 to 100 eV/square angstrom; the minimum is at 1."""
    k = np.geomspace(1, 100, positions.size).reshape(positions.shape)
    return float((k * (positions - 1) ** 2).sum() / 2), k * (positions - 1)


def test_the_bottom_of_a_bowl_is_found_and_what_is_fixed_stays() -> None:
    start, free = np.zeros((4, 3)), np.array([False, True, True, True])
    point = relaxation.relax(bowl, start, free, 200, 0.02)
    assert np.abs(point.gradient[free]).max() <= 0.02
    np.testing.assert_array_equal(point.positions[0], 0)
    np.testing.assert_allclose(point.positions[1:], 1, atol=0.02)
    assert point.energy == bowl(point.positions)[0]


def test_no_steps_and_nothing_free_leave_everything_where_it_is() -> None:
    start = np.zeros((2, 3))
    for free, steps in (([True, True], 0), ([False, False], 50)):
        np.testing.assert_array_equal(relaxation.relax(bowl, start, np.array(free), steps, 0.0).positions, start)


def test_more_steps_lead_no_higher_also_where_the_way_is_rough() -> None:
    def rough(positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = bowl(positions)
        return value + float(np.cos(20 * positions).sum()), slope - 20 * np.sin(20 * positions)

    values = [
        relaxation.relax(rough, np.zeros((3, 3)) + 0.1, np.ones(3, np.bool_), n, 0.0).energy for n in (0, 1, 3, 10, 40)
    ]
    assert values == sorted(values, reverse=True)
