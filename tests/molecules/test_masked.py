"""Pretraining with random cores: the loss of free atoms beside exact ones, and where cores come from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from command import QUICK_PRETRAINING, complaint, molrl
from core_files import core_file
from rdkit import Chem
from torch import Tensor, nn

from molrl.gaussian import Context, MaskedPoints, sum_per_sample
from molrl.models.molecules.core_fixed import CoreFixed
from molrl.models.molecules.egnn import EGNN
from molrl.models.molecules.masked import choose_cores, masked_loss, random_cores
from molrl.models.molecules.model import load
from molrl.models.precondition import Preconditioned
from molrl.pretraining import denoising_loss
from molrl.schedule import LogLinear, alpha, sigma

SCHEDULE, STD = LogLinear(0.02, 15.0), [1.5, 1.5, 1.5, 0.2, 0.3]


def network() -> Preconditioned:
    """Return a small network that reads which atoms are exact, all weights random."""
    torch.manual_seed(0)
    made = EGNN(features=2, width=16, pair_width=8, blocks=2, radial=8, cores=1)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return Preconditioned(made, SCHEDULE, STD).double()


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return clean states of six atoms (five in the second row), their mask, times and noise."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, -1] = False
    x0, noise = torch.randn(2, 2, 6, 5, generator=generator, dtype=torch.float64)
    return MaskedPoints().project(x0, {"mask": mask}), mask, torch.tensor([0.3, 0.8]).double(), noise


def test_without_a_core_the_loss_is_the_usual_one() -> None:
    model, (x0, mask, t, noise) = network(), batch()
    context = {"mask": mask, "fixed": torch.zeros_like(mask), "open": torch.zeros_like(mask, dtype=torch.int8)}
    usual = denoising_loss(model, MaskedPoints(), x0, t, noise, {"mask": mask})
    torch.testing.assert_close(masked_loss(model, model.data_std, x0, t, noise, context), usual, atol=1e-9, rtol=1e-9)


def test_the_loss_is_the_error_of_the_noise_that_growing_uses() -> None:
    """|F - target|^2 is |eps_hat - eps|^2 (s^2 + d^2) / d^2, with the eps_hat of CoreFixed, the core listed first."""
    model, (x0, mask, t, noise) = network(), batch()
    fixed = torch.zeros_like(mask)
    fixed[:, :3] = True
    opened = torch.tensor([[0, 2, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    marks: Context = {"mask": mask, "fixed": fixed, "open": opened}
    loss = masked_loss(model, model.data_std, x0, t, noise, marks)
    assert (loss != masked_loss(model, model.data_std, x0, t, noise, {**marks, "open": opened.flip(0)})).all()
    shift = torch.zeros_like(x0[:, :1])
    shift[..., :3] = x0[:, :3, :3].mean(1, keepdim=True)
    core, free = (x0 - shift)[:, :3], (x0 - shift)[:, 3:]
    log_snr = SCHEDULE.log_snr(t).view(-1, 1, 1)
    a, s = alpha(log_snr), sigma(log_snr)
    x = (a * free + s * noise[:, 3:]) * mask[:, 3:].unsqueeze(-1)
    context: Context = {"mask": mask[:, 3:], "core": core, "core_noise": torch.randn_like(core), "open": opened[:, :3]}
    eps = CoreFixed(model, SCHEDULE)(x, t, context)
    ratio = ((s / a).square() + torch.tensor(STD).double().square()).sqrt() / torch.tensor(STD).double()
    error = (eps - noise[:, 3:]) * ratio * mask[:, 3:].unsqueeze(-1)
    expected = sum_per_sample(error.square()) / (mask[:, 3:].sum(1) * 5)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)


def test_cores_are_chosen_by_the_time_with_the_given_probability() -> None:
    t = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    cores = (2 * torch.eye(4, dtype=torch.int8) - 1).expand(len(t), 4, 4)  # core k is atom k, with one new bond
    chosen = choose_cores(t, cores, 0.7) == 1
    assert chosen.any(1).float().mean() == pytest.approx(0.7, abs=0.02)
    assert chosen.float().mean(0).tolist() == pytest.approx([0.175] * 4, abs=0.02)
    assert (choose_cores(t, cores, 0.0) == -1).all()
    assert (choose_cores(t, cores, 1.0) == 1).any(1).all()


def test_only_single_bonds_outside_rings_are_cut() -> None:
    """Toluene has one such bond, so that its cores are the ring, open at one atom; benzene has none, butadiene one."""
    rng = np.random.default_rng(0)
    toluene = random_cores(Chem.MolFromSmiles("Cc1ccccc1"), rng)
    assert {tuple(row) for row in toluene.tolist()} == {(-1, 1, 0, 0, 0, 0, 0), (-1,) * 7}
    assert (random_cores(Chem.MolFromSmiles("c1ccccc1"), rng) == -1).all()
    assert (random_cores(Chem.MolFromSmiles("C=CC=C"), rng) == -1).all()  # halves of two atoms are too small


def test_cores_have_one_piece_or_two_ends() -> None:
    """Of pentan-3-one, cut at one or two of its four single bonds, at least one atom is free and three are not."""
    mol, rng = Chem.MolFromSmiles("CCC(=O)CC"), np.random.default_rng(1)
    cores = np.concatenate([random_cores(mol, rng) for _ in range(50)])
    cores = cores[(cores >= 0).any(1)]
    given = cores >= 0
    assert ((given.sum(1) >= 3) & (given.sum(1) < 6)).all()
    assert all(row[2] == row[3] for row in given)  # the double bond is never cut
    assert any(row[0] and row[5] and not row[2] for row in given)  # two ends to be linked


def test_open_atoms_are_those_with_a_bond_to_a_free_one() -> None:
    """Between neighbours of diethyl ether there are four bonds, all of which may be cut; n new bonds leave the core."""
    mol, rng = Chem.MolFromSmiles("CCOCC"), np.random.default_rng(4)
    cores = np.concatenate([random_cores(mol, rng) for _ in range(50)])
    for core in cores[(cores >= 0).any(1)]:
        leaving = [(core[i] >= 0) != (core[i + 1] >= 0) for i in range(4)]
        expected = [sum([i > 0 and leaving[i - 1], i < 4 and leaving[i]]) for i in range(5)]
        assert core[core >= 0].tolist() == [n for n, one in zip(expected, core, strict=True) if one >= 0]


def test_a_model_is_pretrained_with_cores_and_grows_molecules(tmp_path: Path) -> None:
    small = [setting for setting in QUICK_PRETRAINING if not setting.startswith("model.network")]
    network = "model.network={kind: egnn, width: 8, pair_width: 8, blocks: 1, radial: 4}"
    run = f"run={tmp_path / 'run'}"
    done = molrl("pretrain", *small, network, "model.core_probability=0.7", run)
    assert done.code == 0, done.err
    assert load(str(tmp_path / "run" / "model")).architecture.network["cores"] == 1  # type: ignore[union-attr]
    drawn = molrl(
        *("sample", f"policy={tmp_path / 'run'}", f"core={core_file(tmp_path, 'CO')}", "attach=1", "atoms=2", "n=4"),
        *(f"out={tmp_path / 'out.sdf'}", "threads=1", "policy.num_steps=3"),
    )
    assert "the model was trained with cores" in drawn.out
    assert "core unchanged 1.000" in drawn.out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.core_probability=1.5"], "core_probability: got 1.5, allowed 0 to 1"),
        (["model=all_atoms", "model.core_probability=0.5"], "cores need implicit hydrogens"),
        (["model=tensor_field", "model.core_probability=0.5"], "this network knows no cores; egnn, pair_network do"),
    ],
)
def test_impossible_training_with_cores_is_refused(settings: list[str], message: str, tmp_path: Path) -> None:
    assert message in complaint(["pretrain", *settings, f"run={tmp_path / 'run'}"], 2)
