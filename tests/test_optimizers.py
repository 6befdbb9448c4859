"""Muon has the hidden matrices and AdamW the rest; both go on where they were."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from molrl.models.molecules.pair_network import PairNetwork
from molrl.optimizers import Kind, load_optimizers, make_optimizers, optimizer_tensors, parameters, set_learning_rate
from molrl.runs import checkpoint
from molrl.runs.errors import CheckpointError


def network() -> PairNetwork:
    torch.manual_seed(0)
    return PairNetwork(features=8, width=64, pair_width=32, blocks=2, radial=8)


def optimizers(kind: Kind, model: nn.Module) -> list[torch.optim.Optimizer]:
    return make_optimizers(kind, model, lr=1e-2, weight_decay=0.01)


def step(model: nn.Module, both: list[torch.optim.Optimizer], seed: int) -> None:
    """Make one step with gradients that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    for optimizer in both:
        optimizer.step()


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_parameter_has_one_optimizer(kind: Kind) -> None:
    model = network()
    found = [id(parameter) for optimizer in optimizers(kind, model) for parameter in parameters(optimizer)]
    assert sorted(found) == sorted(map(id, model.parameters()))


def test_muon_has_the_matrices_between_hidden_states() -> None:
    model = network()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    (_, muon) = optimizers("muon", model)
    assert {names[id(parameter)].removesuffix(".weight") for parameter in parameters(muon)} == {
        f"blocks.{block}.{part}"
        for block in range(2)
        for part in ("receiver", "sender", "pair", "pair_out", "atom_mlp.0", "atom_mlp.2")
    }


def test_a_step_of_muon_has_nearly_equal_singular_values_and_the_size_of_one_of_adamw() -> None:
    """An orthogonal 64 x 32 matrix times 0.2 sqrt(64) has entries of root mean square 0.2."""
    model = network()
    both = make_optimizers("muon", model, lr=1e-2, weight_decay=0.0)
    weight = model.blocks[0].receiver.weight  # type: ignore[union-attr]
    before = weight.detach().clone()  # type: ignore[operator]
    step(model, both, 1)
    update = (weight - before) / 1e-2  # type: ignore[operator]
    values = torch.linalg.svdvals(update)
    assert values.max() / values.min() < 2
    assert update.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.3)


def test_the_learning_rate_is_that_of_all_parameters() -> None:
    both = optimizers("muon", network())
    set_learning_rate(both, 0.125)
    assert {group["lr"] for optimizer in both for group in optimizer.param_groups} == {0.125}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_moments_travel_through_a_checkpoint(kind: Kind, tmp_path: Path) -> None:
    whole, resumed = network(), network()
    one, two = optimizers(kind, whole), optimizers(kind, resumed)
    for seed in (1, 2):
        step(whole, one, seed)
    names: dict[Tensor, str] = {parameter: name for name, parameter in whole.named_parameters()}
    checkpoint.save(tmp_path / "x", {"optimizer": optimizer_tensors(one, names), "model": whole.state_dict()}, {})
    tensors, _ = checkpoint.load(tmp_path / "x")
    resumed.load_state_dict(tensors["model"])
    load_optimizers(two, {parameter: name for name, parameter in resumed.named_parameters()}, tensors["optimizer"])
    step(whole, one, 3)
    step(resumed, two, 3)
    assert_close(dict(resumed.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)


def test_moments_of_an_unknown_parameter_are_refused() -> None:
    model = network()
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    with pytest.raises(CheckpointError, match=r"nothing\.weight"):
        load_optimizers(optimizers("muon", model), names, {"nothing.weight/step": torch.tensor(1.0)})
