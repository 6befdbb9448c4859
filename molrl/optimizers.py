"""Optimisers of pretraining: AdamW for all parameters, or Muon for hidden matrices and AdamW for the rest.

Muon orthogonalises the momentum of a matrix (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon); here its
updates are scaled to the root mean square of AdamW's, so that one learning rate serves both (Liu et al. 2025,
arXiv:2502.16982, Eq. 4).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from molrl.runs import checkpoint

Kind: TypeAlias = Literal["adamw", "muon"]
KINDS = ("adamw", "muon")
BETAS = (0.9, 0.99)
MIN_SIDE = 32  # of a matrix that Muon optimises: smaller ones are inputs, gates and heads


def make_optimizers(kind: Kind, model: nn.Module, *, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Return the optimisers that together have every parameter of a model."""
    hidden = [
        parameter for name, parameter in model.named_parameters() if kind == "muon" and is_hidden(name, parameter)
    ]
    chosen = set(map(id, hidden))
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay, betas=BETAS)]
    if hidden:
        optimizers.append(torch.optim.Muon(hidden, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Tell whether a parameter is a hidden matrix: of a repeated block, and no modulation by a condition."""
    repeated = any(part.isdigit() for part in name.split(".")[:-2])  # blocks.0.sender.weight, but not out.3.weight
    return repeated and ".modulation." not in name and parameter.dim() == 2 and min(parameter.shape) >= MIN_SIDE


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], lr: float) -> None:
    """Set the learning rate of all parameters."""
    for group in groups(optimizers):
        group["lr"] = lr


def groups(optimizers: Sequence[torch.optim.Optimizer]) -> Iterator[dict[str, object]]:
    """Yield the parameter groups of all optimisers."""
    for optimizer in optimizers:
        yield from optimizer.param_groups


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer], names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """Return the moments of all optimisers by parameter name."""
    return {
        key: value for optimizer in optimizers for key, value in checkpoint.optimizer_tensors(optimizer, names).items()
    }


def load_optimizers(
    optimizers: Sequence[torch.optim.Optimizer], names: Mapping[Tensor, str], saved: Mapping[str, Tensor]
) -> None:
    """Put the moments of `optimizer_tensors` back.

    Raises:
        CheckpointError: they have an unknown parameter.
    """
    owner = {names[parameter]: optimizer for optimizer in optimizers for parameter in parameters(optimizer)}
    for optimizer in optimizers:
        own = {
            entry: value
            for entry, value in saved.items()
            if owner.get(entry.rpartition("/")[0], optimizer) is optimizer
        }
        checkpoint.load_optimizer(optimizer, names, own)


def parameters(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """Yield the parameters of an optimiser."""
    for group in optimizer.param_groups:
        yield from group["params"]
