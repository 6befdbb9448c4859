"""The docking reward has the gradient of its best pose, and training follows it."""

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import complaint, molrl
from numpy.typing import NDArray
from test_docking import CENTRE, RECEPTOR, SIZE, embedded, reward
from torch import Tensor
from torch.testing import assert_close

from molrl.building import build
from molrl.composition import compose
from molrl.data.molecules.molecule import count_hydrogens
from molrl.data.molecules.pdbqt import Structure
from molrl.finetune import finetune, freeze_copy
from molrl.noise import Key
from molrl.rewards.molecules.docking.atom_types import graph_ligand
from molrl.rewards.molecules.docking.gradient import remove_rigid_motion, rotation_between, score_gradient
from molrl.rewards.molecules.docking.placement import Placement, place, skew
from molrl.rewards.molecules.docking.scoring_function import Box, Ligands, Pocket
from molrl.rewards.scores import Traced, gradient_of
from molrl.rewards.workers.pooled import Pooled
from molrl.run import prepare
from molrl.testing.laws import random_rotation

scipy_optimize: Any = import_module("scipy.optimize")
F64 = torch.float64
PHENOL = "Oc1ccccc1"
SETTINGS = [f"reward.site.receptor={RECEPTOR}", f"reward.site.centre={CENTRE}", f"reward.site.size={SIZE}"]
Array = NDArray[np.float64]


class Docked:
    """A molecule of heavy atoms, in float64, at a pose in a shell of atoms that are never beyond the cutoff.

    The shell neither is hydrophobic nor binds hydrogens, so that the score has no kinks and no jumps.
    """

    def __init__(self, smiles: str) -> None:
        docking, sample = reward(), count_hydrogens(embedded(smiles))
        mol = docking.reader(sample).mol
        assert mol is not None
        self.ligand = graph_ligand(mol)
        shell = np.random.default_rng(0).normal(size=(14, 3))
        shell *= 4.0 / np.linalg.norm(shell, axis=1, keepdims=True)
        structure = Structure(("N",) * 14, shell, np.zeros(14), np.zeros((0, 2), np.int64))
        self.pocket = Pocket(structure, Box((0.0, 0.0, 0.0), (7.0, 7.0, 7.0)), dtype=F64)
        self.x = torch.from_numpy(sample.positions.astype(np.float64))
        found = place(self.pocket, self.ligand, self.x, starts=8, steps=40, seed=0)
        assert found is not None
        self.centre = found.positions.mean(0)
        self.turn = rotation_between(self.x, found.positions)

    def pose(self, x: Tensor, move: Tensor) -> Tensor:
        """Return positions at the pose, turned by a rotation vector and shifted by `move` [6]."""
        turned: Tensor = (x - x.mean(0)) @ self.turn @ torch.linalg.matrix_exp(skew(move[None, :3])[0])
        return turned + self.centre + move[3:]

    def score(self, pose: Tensor) -> Tensor:
        return self.pocket.score(pose[None], Ligands([self.ligand], dtype=F64)).sum()

    def best(self, x: Tensor) -> tuple[float, Tensor]:
        """Return the lowest score near the pose over position and orientation, and its pose."""

        def slope(move: Array) -> tuple[float, Array]:
            at = torch.from_numpy(move).requires_grad_()
            value = self.score(self.pose(x, at))
            return value.item(), torch.autograd.grad(value, at)[0].numpy()

        done = scipy_optimize.minimize(slope, np.zeros(6), jac=True, method="BFGS", options={"gtol": 1e-7})
        return float(done.fun), self.pose(x, torch.from_numpy(done.x))


@pytest.fixture(scope="module")
def docked() -> Docked:
    return Docked("CC(O)CN")


def test_the_gradient_is_that_of_a_score_whose_pose_is_searched_again(docked: Docked) -> None:
    """Central differences along random directions, with the best pose found anew at both ends."""
    _, pose = docked.best(docked.x)
    found = score_gradient(docked.pocket, docked.ligand, docked.x, Placement(0.0, pose))
    for seed in range(3):
        direction = torch.randn(docked.x.shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
        ends = [docked.best(docked.x + sign * 1e-4 * direction)[0] for sign in (1, -1)]
        assert (ends[0] - ends[1]) / 2e-4 == pytest.approx((found * direction).sum().item(), abs=1e-6)
    assert found.norm() > 0.1


def test_away_from_the_best_pose_it_is_the_slope_without_rigid_motion(docked: Docked) -> None:
    """Central differences at a pose that is held, and the least squares of numpy for what is removed."""
    x, turn, shift = docked.x.numpy(), random_rotation(dtype=F64), docked.centre + torch.tensor([0.3, -0.2, 0.1])

    def held(moved: Tensor) -> Tensor:
        return (moved - docked.x.mean(0)) @ turn + shift

    found = score_gradient(docked.pocket, docked.ligand, docked.x, Placement(0.0, held(docked.x)))
    slopes = np.zeros(x.size)
    for place_, one in enumerate(torch.eye(x.size, dtype=F64) * 1e-6):
        ends = [docked.score(held(docked.x + sign * one.view(-1, 3))).item() for sign in (1, -1)]
        slopes[place_] = (ends[0] - ends[1]) / 2e-6
    arms = x - x.mean(0)
    rigid = [np.tile(axis, len(x)) for axis in np.eye(3)] + [np.cross(axis, arms).ravel() for axis in np.eye(3)]
    removed = np.stack(rigid, 1) @ np.linalg.lstsq(np.stack(rigid, 1), slopes)[0]
    assert np.abs(removed).max() > 0.1
    np.testing.assert_allclose(found.numpy().ravel(), slopes - removed, atol=1e-6 * np.abs(slopes).max())


def test_the_gradient_turns_with_the_molecule(docked: Docked) -> None:
    placement = Placement(0.0, docked.pose(docked.x, torch.zeros(6, dtype=F64)))
    turn = random_rotation(dtype=F64)
    first, second = (
        score_gradient(docked.pocket, docked.ligand, x, placement) for x in (docked.x, docked.x @ turn + 2.0)
    )
    assert_close(second, first @ turn, atol=1e-9, rtol=0)


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (5, 3)])
def test_a_rigid_motion_is_removed_and_a_stretch_is_not(shape: tuple[int, int]) -> None:
    """Also of one atom, of two, and of a straight row of five."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=F64)
    if shape[0] == 5:
        x = x[:1] * torch.arange(5, dtype=F64)[:, None]
    a, w = torch.randn(2, 3, generator=generator, dtype=F64)
    stretch = x - x.mean(0)
    rigid = a + torch.linalg.cross(w.expand_as(x), stretch)
    assert_close(remove_rigid_motion(x, rigid + stretch), stretch, atol=1e-10, rtol=0)


def test_a_traced_sample_has_the_value_and_the_gradient_of_the_plain_one() -> None:
    """Hydrogens have none, a bad sample has zeros, and worker processes give the same."""
    good, bad = embedded(PHENOL), embedded("OB(O)C")
    docking, numbers = reward(), [torch.from_numpy(one.positions).requires_grad_() for one in (good, bad)]
    traced = [Traced(one, x) for one, x in zip((good, bad), numbers, strict=True)]
    values = docking(traced)
    assert values.tolist() == docking([good, bad]).tolist()
    first, second = torch.autograd.grad(values.sum(), numbers)
    assert_close(first.double().numpy(), gradient_of(docking.score_one(good)), atol=1e-6, rtol=0)
    assert (first[torch.from_numpy(good.numbers) == 1] == 0).all()
    assert first.abs().max() > 0.05
    assert (second == 0).all()
    with Pooled(docking, workers=1, timeout=60.0) as pooled:
        again = pooled(traced)
    assert_close(torch.autograd.grad(again.sum(), numbers)[0], first, atol=1e-4, rtol=0)


def small_run(algo: str, *settings: str) -> Any:
    search = [f"reward.scorer.{name}=8" for name in ("starts", "steps")]
    small = ["rollouts=6", "minibatch=24", "policy.num_steps=12", "reward.workers=0", "iterations=1", "device=cpu"]
    chosen = ["task=docking", "reward=docking", f"algo={algo}", *SETTINGS, *search, *small, *settings]
    return prepare(compose("train", chosen))


@pytest.mark.parametrize("algo", [("draft", "algo.steps=2"), ("adjoint", "algo.kl_weight=1.0")], ids=lambda one: one[0])
def test_a_round_improves_the_proxy(algo: Sequence[str]) -> None:
    """On the noise of the round, of samples that are molecules before and after."""
    run = small_run(*algo, "optimizer.lr=1e-5")
    reference, rows = freeze_copy(run.task.policy), list(range(6))
    key = Key(3, 1)
    before = run.task.rollout(rows, key).rewards
    seen: list[Mapping[str, float]] = []
    finetune(run.finetuning, run.task, run.algorithm, reference, None, seen.append)
    after = run.task.rollout(rows, key).rewards
    both = (before > 0) & (after > 0)
    assert seen[0]["gradient_lost"] == 0
    assert both.sum() >= 2
    assert (after - before)[both].mean() > 0


def test_the_geometric_mean_of_docking_and_qed_has_a_gradient_through_docking_alone() -> None:
    """The chain rule by hand: the ramp from 2 to 8 kcal/mol, a square root, and QED held."""
    config = compose("train", ["task=docking", "reward.workers=0", *SETTINGS])
    combined = build(config["reward"], "reward")
    sample = embedded("CC(=O)Nc1ccccc1")
    scored = combined.scorer.score_one(sample)
    docking = combined.scorer.terms["docking"].scorer.scorer.score_one(sample)
    share, qed = (docking.value - 2.0) / 6.0, scored.parts["qed"]
    assert scored.value == pytest.approx((share * qed) ** 0.5)
    found, factor = gradient_of(scored), 0.5 * (qed / share) ** 0.5 / 6.0
    assert found is not None
    np.testing.assert_allclose(found, factor * docking.gradient, atol=1e-12)
    assert combined.differentiable


@pytest.mark.parametrize(("reward_name", "has"), [("docking", True), ("docking_qed", True), ("qed", False)])
def test_rewards_say_whether_they_have_a_gradient(reward_name: str, has: bool) -> None:
    settings = SETTINGS if has else []
    built = build(compose("train", [f"reward={reward_name}", "reward.workers=0", *settings])["reward"], "reward")
    assert built.differentiable is has


def test_a_molecule_reward_without_a_gradient_is_refused(tmp_path: Path) -> None:
    words = complaint(["train", "task=qed", "algo=draft", "iterations=1", f"run={tmp_path / 'run'}"], 2)
    assert "no gradient" in words
    assert "docking, docking_qed" in words


def test_draft_trains_in_a_pocket_with_a_judge_beside_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    search = [f"reward.scorer.terms.docking.scorer.scorer.{name}=2" for name in ("starts", "steps")]
    small = ["iterations=1", "rollouts=4", "evaluate=2", "policy.num_steps=4", "threads=1", "reward.workers=1"]
    judge = ["+reward@algo.held_out.reward=strain", "algo.held_out.reward.workers=1"]
    done = molrl("train", "task=docking", "algo=draft", *SETTINGS, *small, *search, *judge, f"run={run}")
    assert done.code == 0, done.err
    (row,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert row["gradient_lost"] == 0
    assert 0 <= row["held_out"] <= 1
