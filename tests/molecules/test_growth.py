"""Core-fixed rollouts: the law of the free atoms alone, in the frame of the core."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import OF_GRADIENTS
from core_files import core_file
from rdkit import Chem
from torch import Tensor, nn

from molrl.algos import Learner
from molrl.building import build
from molrl.composition import choices, compose
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.perception import perceive_bonds
from molrl.finetune import freeze_copy
from molrl.gaussian import Context, MaskedPoints
from molrl.models.molecules.core_fixed import CoreFixed, centre, whole_context
from molrl.models.molecules.egnn import EGNN
from molrl.models.molecules.growth import Growth
from molrl.models.molecules.growth_decoder import GrowthDecoder
from molrl.models.molecules.model import load
from molrl.models.molecules.pair_network import PairNetwork
from molrl.models.molecules.policy import MoleculePolicy
from molrl.models.molecules.steering import Steering
from molrl.models.molecules.task import molecule_task
from molrl.models.molecules.value import GrowthValue
from molrl.models.precondition import Preconditioned
from molrl.noise import Key
from molrl.rewards.molecules.plausibility import Plausibility
from molrl.schedule import LogLinear, alpha, sigma
from molrl.task import Task
from molrl.testing.laws import random_rotation
from molrl.testing.tasks import check_task

SCHEDULE = LogLinear(0.02, 15.0)
FEATURES, FREE, CORE = 4, 5, 3
SMALL = {"rgdm": ["algo.candidates=2", "algo.states=1", "algo.held=1"]}
OF_IMAGES = ("flow_awm", "flow_grpo", "flow_nft", "grpo_sd")  # settings for pipelines: groups of more samples than here


def task(tmp_path: Path, smiles: tuple[str, ...] = ("C1CCNC1",), attach: Any = 1, **settings: Any) -> Task:
    """Return a task of growing on the shipped small model, in four steps."""
    path = core_file(tmp_path, *smiles)
    policy = MoleculePolicy(weights="qm9_heavy", num_steps=4, grid_power=1.4, eta=1.0)
    given = {"atoms": "1..3", "steer": 30.0, "avoid": None, **settings}
    return molecule_task(
        name="grow",
        policy=policy,
        reader=perceive_bonds,
        data=None,
        records=None,
        fragments="keep",
        reward=Plausibility(reader=perceive_bonds),
        device=torch.device("cpu"),
        core=path,
        attach=attach,
        **given,
    )


def network(kind: str, cores: int) -> Preconditioned:
    """Return a small network with random weights, none of them zero."""
    torch.manual_seed(0)
    size: Mapping[str, int] = {"width": 16, "pair_width": 8, "blocks": 2, "radial": 8, "cores": cores}
    made = EGNN(features=FEATURES, **size) if kind == "egnn" else PairNetwork(features=FEATURES, passes=2, **size)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return Preconditioned(made, SCHEDULE, [1.5] * 3 + [0.2] * FEATURES)


def draw(batch: int = 2, free: int = FREE) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return states of free atoms, times, and the context of a core; the second row has one free atom less."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(batch, free, dtype=torch.bool)
    mask[1, -1] = False
    x = torch.randn(batch, free, 3 + FEATURES, generator=generator) * mask.unsqueeze(-1)
    core, noise = torch.randn(2, batch, CORE, 3 + FEATURES, generator=generator)
    opened = torch.tensor([[1, 0, 0]] * batch)
    core = centre(core, torch.ones(batch, CORE, dtype=torch.bool))
    return x, torch.full((batch,), 0.4), {"mask": mask, "core": core, "core_noise": noise, "open": opened}


DENOISERS = [(kind, cores, steer) for kind in ("egnn", "pair_network") for cores in (0, 1) for steer in (0.0, 5.0)]


def make(kind: str, cores: int, steer: float) -> CoreFixed:
    obstacles = torch.tensor([[1.0, 0.5, 0.0]]) if steer else None
    return CoreFixed(network(kind, cores), SCHEDULE, Steering(steer, 1.5, obstacles) if steer else None).double()


def widened(x: Tensor, context: Context, dtype: torch.dtype = torch.float64) -> tuple[Tensor, dict[str, Tensor]]:
    return x.to(dtype), {k: v.to(dtype) if v.is_floating_point() else v for k, v in context.items()}


def rotated(x: Tensor, rotation: Tensor) -> Tensor:
    return torch.cat([x[..., :3] @ rotation.to(x), x[..., 3:]], -1)


@pytest.mark.parametrize(("kind", "cores", "steer"), DENOISERS)
def test_rotating_the_core_along_rotates_the_prediction(kind: str, cores: int, steer: float) -> None:
    denoiser, (x, t, context) = make(kind, cores, steer), draw()
    x, context = widened(x, context)
    rotation = random_rotation(torch.float64)
    turned = denoiser.steering
    if turned is not None and turned.obstacles is not None:
        turned = replace(turned, obstacles=rotated(turned.obstacles.double(), rotation))
    expected = rotated(denoiser(x, t.double(), context), rotation)
    denoiser.steering = turned
    inputs = {**context, **{name: rotated(context[name], rotation) for name in ("core", "core_noise")}}
    torch.testing.assert_close(denoiser(rotated(x, rotation), t.double(), inputs), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("kind", "cores", "steer"), DENOISERS)
def test_the_order_of_free_atoms_and_the_padding_do_not_matter(kind: str, cores: int, steer: float) -> None:
    denoiser, (x, t, context) = make(kind, cores, steer), draw()
    x, context = widened(x, context)
    expected = denoiser(x, t.double(), context)
    order = torch.tensor([3, 1, 0, 2, 4])
    permuted = denoiser(x[:, order], t.double(), {**context, "mask": context["mask"][:, order]})
    torch.testing.assert_close(permuted, expected[:, order], atol=1e-9, rtol=1e-9)
    wide = nn.functional.pad(x, (0, 0, 0, 2)), nn.functional.pad(context["mask"], (0, 2))
    padded = denoiser(wide[0], t.double(), {**context, "mask": wide[1]})
    torch.testing.assert_close(padded[:, :FREE], expected, atol=1e-9, rtol=1e-9)
    assert not padded[:, FREE:].any()
    core_order = torch.tensor([2, 0, 1])
    shuffled = {name: context[name][:, core_order] for name in ("core", "core_noise", "open")}
    torch.testing.assert_close(denoiser(x, t.double(), {**context, **shuffled}), expected, atol=1e-9, rtol=1e-9)


class KnownMolecule(nn.Module):
    """The exact denoiser of a data set of one molecule, whose positions only matter relative to one another."""

    def __init__(self, x0: Tensor) -> None:
        super().__init__()
        self.x0 = x0

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return the noise in x_t."""
        log_snr = SCHEDULE.log_snr(t).view(-1, 1, 1)
        return (x - alpha(log_snr) * centre(self.x0, context["mask"])) / sigma(log_snr)


def test_the_frame_is_that_of_the_core() -> None:
    """With the exact denoiser of one molecule the noise in its free atoms must come out, whatever its centroid."""
    x, t, context = draw(batch=2)
    context["mask"][:] = True
    x, context = widened(x, context)
    molecule = torch.cat([context["core"], torch.randn_like(x) + 2.0], 1)  # the core at the origin, the rest beside it
    a, s = (f(SCHEDULE.log_snr(t.double())).view(-1, 1, 1) for f in (alpha, sigma))
    noise = torch.randn_like(x)
    got = CoreFixed(KnownMolecule(molecule), SCHEDULE)(a * molecule[:, CORE:] + s * noise, t.double(), context)
    torch.testing.assert_close(got, noise, atol=1e-8, rtol=1e-8)


def test_the_density_is_that_of_the_free_atoms() -> None:
    """Every number of a free atom is a degree of freedom, and no other one is."""
    x, _, context = draw()
    space = MaskedPoints(centred=0)
    assert space.dof(x, context).tolist() == [FREE * (3 + FEATURES), (FREE - 1) * (3 + FEATURES)]
    shifted = x + context["mask"].unsqueeze(-1)  # a shift of all atoms is not projected away
    torch.testing.assert_close(space.project(shifted, context), shifted, atol=0, rtol=0)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("steer", [0.0, 30.0])
def test_a_saved_policy_gives_the_same_density(autocast: torch.dtype | None, steer: float, tmp_path: Path) -> None:
    """The log-probabilities of a rollout, from a table of its steps and a model that was saved and read back."""
    growing = task(tmp_path, steer=steer)
    policy = replace(growing.policy, autocast=autocast)
    rollouts = replace(growing, policy=policy).rollout([0, 1, 2, 3], Key(0))
    growing.decoder.save(policy.denoiser, tmp_path / "model")  # type: ignore[attr-defined]
    read = load(str(tmp_path / "model"))
    assert isinstance(policy.denoiser, CoreFixed)
    again = replace(policy, denoiser=CoreFixed(read.denoiser, read.schedule, policy.denoiser.steering))
    table = rollouts.trajectory.transitions(torch.ones(4))
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
    log_ratio = again.log_prob(table[order]) - table.log_prob[order]
    assert log_ratio.abs().max() < 1e-3
    by_hand = one_density(rollouts.trajectory, policy, sample=1, step=2)
    assert rollouts.trajectory.log_prob[2, 1].item() == pytest.approx(by_hand, abs=0.05 if autocast else 1e-3)


def one_density(trajectory: Any, policy: Any, sample: int, step: int) -> float:
    """Compute the log-density of one step of one sample from its numbers, one by one."""
    states = trajectory.states[step]
    kernel = policy.sampler.transition(
        policy.predict_target, states, torch.full((len(states),), step), trajectory.context
    )  # of all samples: in bfloat16 the network rounds a batch of another size differently
    real = trajectory.context["mask"][sample]
    error = (trajectory.states[step + 1][sample] - kernel.mean[sample].detach())[real].double().flatten()
    std = float(kernel.std[sample])
    return sum(-(float(e) ** 2) / (2 * std**2) - math.log(std) - 0.5 * math.log(2 * math.pi) for e in error)


def test_a_task_of_growing_obeys_the_laws_of_tasks(tmp_path: Path) -> None:
    check_task(task(tmp_path))


def test_the_core_stays_to_the_bit(tmp_path: Path) -> None:
    growing = task(tmp_path, ("c1ccccc1", "CO"), [1, 7], atoms=2)
    samples = growing.rollout(range(6), Key(0)).samples
    decoder = growing.decoder
    assert isinstance(decoder, GrowthDecoder)
    core = decoder.core.molecule
    for sample in samples:
        assert len(sample) == len(core) + 2
        assert (sample.positions[: len(core)] == core.positions).all()
        assert decoder.keeps_core(sample)
    moved = replace(samples[0], positions=samples[0].positions + 1e-4)
    assert not decoder.keeps_core(moved)
    metrics = decoder.measure(samples)
    assert metrics["core_unchanged"] == 1.0
    assert 0 <= metrics["attach_only"] <= 1


def test_stereo_of_the_core_stays(tmp_path: Path) -> None:
    """A chiral core keeps its handedness in whatever is read of samples, here of one built by hand."""
    smiles = "N[C@@H](C)C(=O)O"
    growing = task(tmp_path, (smiles,), 3, atoms=1, steer=1000.0)
    decoder = growing.decoder
    assert isinstance(decoder, GrowthDecoder)
    core = decoder.core.molecule
    methyl = core.positions[2] + 1.53 * unit(core.positions[2] - core.positions[1])
    free = Molecule(np.array([6]), methyl[None], np.array([3]))
    x0, mask = decoder.model.codec.encode([free])
    x0[..., :3] = torch.from_numpy(methyl) - decoder.centroid
    (sample,) = decoder.decode(x0, {"mask": mask})
    mol = perceive_bonds(sample).mol
    assert mol is not None
    assert Chem.MolToSmiles(mol) == Chem.CanonSmiles("CC[C@H](N)C(=O)O")
    assert mol.HasSubstructMatch(Chem.MolFromSmiles(smiles), useChirality=True)


def unit(vector: Any) -> Any:
    return vector / (vector**2).sum() ** 0.5


def test_the_noise_of_a_core_is_that_of_its_sample(tmp_path: Path) -> None:
    decoder = task(tmp_path).decoder
    many, one = decoder.draw_context(range(5), Key(0)), decoder.draw_context([3], Key(0))
    assert torch.equal(many["core_noise"][3], one["core_noise"][0])
    assert not torch.equal(many["core_noise"][3], many["core_noise"][2])
    assert decoder.groups(many) == many["mask"].sum(1).tolist()


def test_steering_brings_an_atom_to_the_open_atom_and_keeps_others_off() -> None:
    """At high noise the estimate is moved to a bond's length from atom 0, and out of reach of atoms 1 and 2."""
    core = torch.zeros(1, 3, 7)
    core[0, 1, 0], core[0, 2, 1] = 1.5, 1.5
    context = {"core": core, "open": torch.tensor([[1, 0, 0]]), "mask": torch.tensor([[True, True]])}
    start = torch.tensor([[[-0.3, -0.3, 0.1], [1.0, 1.0, 0.2]]])
    steering = Steering(100.0, 1.5, obstacles=torch.tensor([[-1.5, -1.5, 0.0]]))
    for _ in range(20):
        start = steering.relax(start, torch.full((1, 1, 1), 100.0), context)
    distance = torch.cdist(start, core[..., :3])[0]
    assert distance[:, 0].min() == pytest.approx(1.5, abs=0.3)
    assert distance[:, 1:].min() > 1.9
    assert (start[0] - torch.tensor([-1.5, -1.5, 0.0])).norm(dim=-1).min() > 1.2
    untouched = steering.relax(start, torch.full((1, 1, 1), 1e-6), context)
    torch.testing.assert_close(untouched, start, atol=1e-4, rtol=0)


def test_the_value_sees_the_core() -> None:
    x, t, context = draw()
    value = GrowthValue(FEATURES)
    for parameter in value.parameters():
        nn.init.normal_(parameter, std=0.3)
    before = value(x, t, context)
    assert not torch.allclose(before, value(x, t, {**context, "core": 2 * context["core"]}))
    rotation = random_rotation()
    turned = value(rotated(x, rotation), t, {**context, "core": rotated(context["core"], rotation)})
    torch.testing.assert_close(turned, before, atol=1e-5, rtol=1e-4)
    assert whole_context(context)["mask"].sum(1).tolist() == [CORE + FREE, CORE + FREE - 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"atoms": "5..9"},
            r"atoms=5..9: no training molecule in this range, they have 1 to 4 .*beside the 5 of the core",
        ),
        ({"steer": -1.0}, "steer: got -1.0, need 0 or more"),
        ({"steer": 0.0, "avoid": "x.pdb"}, "avoid=x.pdb: needs steer above 0"),
        ({"smiles": ("CCS",)}, "core .*element S; this model knows C, N, O"),
        ({"smiles": ("CCCCCCCCCC",), "atoms": None}, "the core has 10 heavy atoms and training molecules up to 9; ask"),
    ],
)
def test_what_cannot_grow_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        task(tmp_path, **settings)


def test_a_model_with_hydrogens_as_atoms_is_refused(tmp_path: Path) -> None:
    settings = Growth(core=core_file(tmp_path, "CC"), attach=1, atoms=2, steer=0.0, avoid=None)
    with pytest.raises(ValueError, match="draws hydrogens as atoms"):
        settings.decoder(load("qm9_all"), perceive_bonds)


@pytest.mark.parametrize("algo", sorted({*choices("algo")} - {*OF_GRADIENTS, *OF_IMAGES, "code"}))
def test_every_algorithm_learns_from_free_atoms(algo: str, tmp_path: Path) -> None:
    """One round has a finite loss with a gradient, and log-ratios of zero where there are any."""
    growing = task(tmp_path, atoms=2)
    growing = replace(growing, reward=lambda samples: torch.arange(len(samples)) * 0.1 + 0.1)
    algorithm = build(compose("train", ["task=qed", f"algo={algo}", *SMALL.get(algo, [])])["algo"], "algo")
    learner = Learner(growing, freeze_copy(growing.policy), algorithm.modules(growing))
    collected = algorithm.collect(learner, list(range(8)), Key(0, 1))
    loss, facts = algorithm.loss(learner, collected.table[torch.arange(min(16, len(collected.table)))])
    assert loss.isfinite()
    assert facts.get("log_ratio", torch.zeros(1)).abs().max() <= 1e-3
    loss.backward()
    gradients = [parameter.grad for parameter in growing.policy.denoiser.parameters()]  # type: ignore[attr-defined]
    assert any(gradient is not None and gradient.any() for gradient in gradients)
