"""Every reward of conf/reward, as its YAML builds it, against published numbers and on odd samples."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from rdkit import Chem
from test_config import EXTRAS, REQUIRED
from test_geometry_rewards import at
from test_molecule_rewards import ASPIRIN, from_smiles

from molrl.building import build
from molrl.composition import choices, compose
from molrl.data.molecules.bonds import edm_table, rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.strain import Strain
from molrl.rewards.scores import Scored

CELECOXIB = "Cc1ccc(-c2cc(C(F)(F)F)nn2-c2ccc(S(N)(=O)=O)cc2)cc1"
# RDKit's regression data of QED (rdkit/Chem/test_data/QED/NCI_200_qed.csv), from the code of Bickerton et al. 2012
QED = {
    "CC1=CC(=O)C=CC1=O": 0.441687,
    "OC(=O)C1=CC=CC=C1": 0.610604,
    "OC(=O)C1=C(O)C=CC=C1": 0.610259,
    "CC(O)(C1=CC=CC=C1)C2=CC=CC=C2": 0.786216,
    "NC1=CC=NC2=C1C=CC(=C2)Cl": 0.673309,
    "CCCCCCCCCCCCCCCC1=C(N)C=CC(=C1)O": 0.230145,
    "CN1C2=C(SC3=C1C=CC=C3)C=CC=C2": 0.652229,
    "CC(=O)NC1=NC2=C(C=C1)C(=CC=N2)O": 0.731915,
    "C[N+](C)(C)CC1=CC=CC=C1": 0.564733,
    "CCCCN(CC)N=O": 0.419554,
}
# The scores that the authors gave with their code (RDKit's Contrib/SA_Score/data/zim.100.txt)
SA = {
    "OC(c1ccncc1)c1ccc(OCC[NH+]2CCCC2)cc1": 3.822,
    "CC(C(=O)[O-])c1ccc(-c2ccccc2)cc1": 2.462,
    "C[NH+](C)CC(O)Cn1c2ccc(Br)cc2c2cc(Br)ccc21": 3.577,
    "NC(=[NH2+])NCC1COc2ccccc2O1": 3.290,
    "CC12CCC3C(CCC4CC(=O)CCC43C)C1CCC2=O": 3.912,
    "COc1ccccc1OC(=O)c1ccccc1": 1.342,
    "CCC1(c2ccccc2)C(=O)N(COC)C(=O)N(COC)C1=O": 2.759,
    "Nc1ccc(S(=O)(=O)Nc2ccccc2)cc1": 1.529,
}
# Sums of the atomic contributions in Wildman and Crippen 1999, Table 1: C1 0.1441, C3 -0.2035, C18 0.1581, O2 -0.2893,
# H1 0.1230, H2 -0.2677
LOGP = {
    "C": 0.1441 + 4 * 0.1230,
    "CC": 2 * 0.1441 + 6 * 0.1230,
    "CCO": 0.1441 - 0.2035 - 0.2893 + 5 * 0.1230 - 0.2677,
    "c1ccccc1": 6 * (0.1581 + 0.1230),
}
# PubChem's records 2244, 2519, 5793 (glucose), 5291 (imatinib) and 702 (ethanol), g/mol
WEIGHTS = {
    ASPIRIN: 180.16,
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O": 194.19,
    "OC[C@H]1OC(O)[C@H](O)[C@@H](O)[C@@H]1O": 180.16,
    "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1": 493.6,
    "CCO": 46.07,
}
IBUPROFEN, CAFFEINE = "CC(C)Cc1ccc(C(C)C(=O)O)cc1", "Cn1c(=O)c2c(ncn2C)n(C)c1=O"
# A phenol ester, a catechol and a quinone are alerts of Brenk et al. 2008; ibuprofen and caffeine have none
ALERTS = {ASPIRIN: 0, "Oc1ccccc1O": 0, "O=C1C=CC(=O)C=C1": 0, IBUPROFEN: 1, CAFFEINE: 1}
CORNERS = np.array([[0, 0, 0], [1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]])
METHANE = Molecule(np.array([6, 1, 1, 1, 1]), (CORNERS * 0.629118).astype(np.float32))  # C-H 1.090, as measured
LITHIUM = 2 * 1.336  # angstrom, the rest length of Li-Li by UFF (Rappe et al. 1992, Eqs. 1, 2 and 6 and Table I)
STIFFNESS = 664.12 * 1.026**2 / LITHIUM**3  # kcal/(mol square angstrom)


def graphs(values: Mapping[str, float]) -> list[tuple[Molecule, float]]:
    return [(from_smiles(smiles), value) for smiles, value in values.items()]


# By reward: samples, their values, and how far off is still right, which is half of the last digit that was published
TRUTH: dict[str, tuple[list[tuple[Molecule, float]], float]] = {
    "qed": (graphs(QED), 2e-6),
    "sa": (graphs(SA), 6e-4),
    "synthesisability": (graphs({smiles: (10 - score) / 9 for smiles, score in SA.items()}), 1e-4),
    "logp": (graphs(LOGP), 1e-5),
    # Derringer and Suich's window: 1 from 1 to 3, falling to 0 over 2 outside
    "desirable_logp": (
        graphs({smiles: max(0.0, 1 - max(1 - value, 0, value - 3) / 2) for smiles, value in LOGP.items()}),
        1e-5,
    ),
    "descriptor": (graphs(WEIGHTS), 0.02),
    "alerts": (graphs(ALERTS), 0),
    "rings": (graphs({"CCO": 1, "c1ccccc1": 1, "C1CCCCCC1": 1, "C1CC1": 0, "C1CO1": 0, "C1CCCCCCC1": 0}), 0),
    # The target of GuacaMol's first task by another name of it, and a molecule without an environment in common
    "similarity": (graphs({"NS(=O)(=O)c1ccc(cc1)-n1nc(cc1-c1ccc(C)cc1)C(F)(F)F": 1, CELECOXIB: 1, "[Xe]": 0}), 0),
    # The geometric mean of what RDKit 2026.09.1 gives for QED and SA on its own
    "qed_sa": (
        graphs({ASPIRIN: math.sqrt(0.5501 * (10 - 1.5800) / 9), "c1ccccc1": math.sqrt(0.4426 * (10 - 1.0) / 9)}),
        1e-4,
    ),
    # EDM's table: C-H bonds of up to 119 pm; at 125 pm none of the five atoms has a bond
    "stability": ([(METHANE, 1.0), (Molecule(METHANE.numbers, METHANE.positions * np.float32(1.25 / 1.09)), 0.0)], 0),
    # PoseBusters 0.6.5 calls a C-C bond possible from 1.13 to 1.90 angstrom, and an angle at carbon from 74 degrees
    "geometry": (
        [
            (at("CC", [[0, 0, 0], [1.10, 0, 0]]), 0.0),
            (at("CC", [[0, 0, 0], [1.13, 0, 0]]), 1.0),
            (at("CC", [[0, 0, 0], [1.90, 0, 0]]), 1.0),
            (at("CC", [[0, 0, 0], [1.92, 0, 0]]), 0.0),
            (at("CCC", [[1.54, 0, 0], [0, 0, 0], [0.4245, 1.4803, 0]]), 1.0),
        ],
        0,
    ),
    # E = k x^2 / 2 of two atoms; 5 kcal/mol for each are worth nothing
    "strain": (
        [
            (at("[Li][Li]", [[0, 0, 0], [LITHIUM + x, 0, 0]]), max(0.0, 1 - STIFFNESS * x**2 / 4 / 5))
            for x in (-0.1, 0.0, 0.1, 0.5, 0.9)
        ],
        1e-4,
    ),
}
ELSEWHERE = {  # where the published values of the others are tested
    "docking": "test_vina.py",  # Vina's scores of imatinib in its kinase, and test_docking.py
    "docking_qed": "test_docking.py",
    "docking_flexible": "test_flexible_docking.py",
    "pose": "test_pose.py",
    "pose_strain": "test_pose_strain.py",  # gauche butane
    **dict.fromkeys(("selectivity", "selectivity_flexible"), "test_selectivity.py"),
    "docked": "test_docked.py",
    "interactions": "test_interactions.py",
    "predictor": "test_predictor.py",
    "queue": "test_external_queue.py",  # what another program answers
    **dict.fromkeys(("isolated", "admet"), "test_isolated.py"),  # what another interpreter answers
    "vina": "test_vina_docking.py",
    "overlap": "test_overlap.py",  # a molecule with itself, its mirror image and others
    "valence": "test_valence_reward.py",  # atoms that are wrong, counted by hand
    "xtb_force": "test_xtb.py",  # tblite's and CREST's water, methane and caffeine
    "xtb_energy": "test_xtb.py",
}
IMAGES = {  # and those of images
    "scene_alignment": "test_scenes.py",
    "image_class": "test_image_class.py",
    **dict.fromkeys(("compressibility", "incompressibility", "alignment"), "test_image_rewards.py"),
    **dict.fromkeys(("aesthetic", "clip_score", "pick_score"), "test_clip_scores.py"),
    **dict.fromkeys(("remote", "vlm_judge"), "test_remote_rewards.py"),
}


# Vina runs in worker processes only; test_vina_docking.py has the same. The others wait for another program.
HERE = sorted({*TRUTH, *ELSEWHERE} - {"vina", "queue", "isolated", "admet"})


@cache
def reward(name: str) -> Any:
    for package in EXTRAS.get(f"reward={name}", ()):
        pytest.importorskip(package)
    settings = [f"reward={name}", "reward.workers=0", "file=x.sdf", *REQUIRED.get(name, [])]
    return build(compose("score", settings)["reward"], "reward")


def test_every_reward_has_published_values() -> None:
    """Those of shapes have theirs in test_shape_rewards.py, test_shape_class.py and test_drop_test.py."""
    assert {*TRUTH, *ELSEWHERE, *IMAGES} == {name for name in choices("reward") if not name.startswith("shape_")}


@pytest.mark.parametrize("name", TRUTH)
def test_values_are_those_that_were_published(name: str) -> None:
    samples, tolerance = TRUTH[name]
    scores = reward(name).score([sample for sample, _ in samples])
    assert scores.reasons == [""] * len(samples)
    np.testing.assert_allclose(scores.values, [value for _, value in samples], rtol=0, atol=tolerance + 1e-9)


# Abuse

SALT = "CC(=O)[O-].[Na+]"
FLOORS = {"sa": 10.0, "logp": -10.0, "xtb_force": -5.0}  # 0 for the others
FLOORS |= dict.fromkeys(("selectivity", "selectivity_flexible"), -10.0)
GRAPHS = [name for name in TRUTH if name not in ("stability", "geometry", "strain")]


def spread(smiles: str) -> Molecule:
    """Return a graph with its atoms on a line, 1.5 angstrom apart."""
    n = Chem.MolFromSmiles(smiles).GetNumAtoms()
    return at(smiles, np.arange(n, dtype=np.float64)[:, None] * np.array([[1.5, 0.0, 0.0]]))


BAD = {
    "salt": (spread(SALT), "disconnected: 2 fragments"),
    "two molecules": (spread("CCO.CCO"), "disconnected: 2 fragments"),
    "radical": (spread("C[CH2]"), "radical: 1 unpaired electrons"),
    "carbene": (spread("C[C]C"), "radical: 2 unpaired electrons"),
    "metal atom": (spread("[Na]"), "radical: 1 unpaired electrons"),
    "only hydrogen": (Molecule(np.array([1, 1]), np.array([[0, 0, 0], [0.74, 0, 0]], np.float32)), "no heavy atoms"),
    "one hydrogen": (Molecule(np.array([1]), np.zeros((1, 3), np.float32)), "valence"),
    "empty": (Molecule(np.zeros(0, np.int64), np.zeros((0, 3), np.float32)), "no atoms"),
    "nan": (Molecule(np.array([6, 8]), np.array([[0, 0, 0], [math.nan, 0, 0]], np.float32)), "non-finite positions"),
    "infinite": (
        Molecule(np.array([6, 8]), np.array([[0, 0, 0], [math.inf, 0, 0]], np.float32)),
        "non-finite positions",
    ),
    "no such element": (Molecule(np.array([6, 300]), np.eye(2, 3, dtype=np.float32)), "element"),
    "negative element": (Molecule(np.array([6, -3]), np.eye(2, 3, dtype=np.float32)), "element"),
    "dummy atom": (Molecule(np.array([6, 0]), np.eye(2, 3, dtype=np.float32)), "dummy atom"),
    "thousand hydrogens": (Molecule(np.array([6]), np.zeros((1, 3), np.float32), np.array([1000])), "hydrogens"),
    "negative hydrogens": (Molecule(np.array([6]), np.zeros((1, 3), np.float32), np.array([-4])), "hydrogens"),
    "coincident": (Molecule(np.array([6, 8]), np.ones((2, 3), np.float32), np.array([3, 1])), "overlap"),
}
# EDM's metric asks of each atom alone, whatever the whole is
NO_MATTER_FOR_STABILITY = {
    *("salt", "two molecules", "radical", "carbene"),
    *("metal atom", "only hydrogen", "one hydrogen", "coincident"),
}


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_sample_has_the_floor_and_the_same_reason_everywhere(name: str, kind: str) -> None:
    sample, reason = BAD[kind]
    (scored,) = reward(name).score([sample]).scored
    if name == "stability" and kind in NO_MATTER_FOR_STABILITY:
        assert scored.reason == ""
    elif name == "valence" and kind in NO_MATTER_FOR_STABILITY:
        assert math.isnan(scored.value)
        assert scored.reason == "no formal charges"
    else:
        expected = "element" if kind == "dummy atom" and name in ("stability", "valence") else reason
        assert scored == Scored(FLOORS.get(name, 0.0), expected)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize(
    "smiles", ["[NH4+]", "C[N+](C)(C)CC([O-])=O", "[2H]C", "[13CH4]", "C[Hg]C", "[U]", "FS(F)(F)(F)(F)F", "[C-]#[O+]"]
)
def test_odd_but_sound_samples_have_a_number_or_a_reason(name: str, smiles: str) -> None:
    (scored,) = reward(name).score([spread(smiles)]).scored
    assert math.isfinite(scored.value) or scored.reason
    assert not scored.reason.startswith("error")


@pytest.mark.parametrize("name", GRAPHS)
def test_isotopes_and_stereo_marks_change_nothing_but_the_weight_and_the_ease(name: str) -> None:
    plain, marked = reward(name).score([from_smiles("CC(N)C(=O)O"), from_smiles("C[C@H](N)C(=O)O")]).values
    assert marked == pytest.approx(plain, abs=0 if name not in ("sa", "synthesisability", "qed_sa") else 1.0)


@pytest.mark.parametrize("far", [1e3, 1e12, 1e30, 3e38])
def test_a_bond_across_the_universe_is_never_good(far: float, capfd: pytest.CaptureFixture[str]) -> None:
    """At 1e30 angstrom an energy is so large that relaxing it changes no digit, which must not read as no strain."""
    torn = at("CO", [[0, 0, 0], [far, 0, 0]])
    for name in ("strain", "geometry", "stability"):
        assert reward(name).score([torn]).values == [0.0]
    assert Strain(reader=rdkit_bonds, steps=100).score_one(torn) == Scored(100.0)
    assert capfd.readouterr() == ("", "")


def test_atoms_on_top_of_each_other_are_no_molecule_however_few_the_bonds() -> None:
    methanol = Molecule(np.array([6, 8]), np.array([[0, 0, 0], [1.43, 0, 0]], np.float32), np.array([3, 1]))
    assert rdkit_bonds(methanol).reason == ""
    for apart, reason in ((0.0, "overlap"), (0.39, "overlap"), (0.41, "")):
        positions = np.array([[0, 0, 0], [apart, 0, 0]], np.float32)
        assert rdkit_bonds(replace(methanol, positions=positions)).reason == reason
    nitrogen = Molecule(np.array([7, 7]), np.array([[0, 0, 0], [0.1, 0, 0]], np.float32))
    assert (rdkit_bonds(nitrogen).reason, edm_table(nitrogen).reason) == ("overlap", "")  # EDM has no lower bound
