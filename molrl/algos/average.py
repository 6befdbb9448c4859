"""A moving average of the parameters in training, for methods whose samples come from a slower policy."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from molrl.gaussian import Context
from molrl.policy import Policy
from molrl.trainable_parameters import trainable_module


class MovingAverage(nn.Module):
    """average <- decay average + (1 - decay) parameter, of every parameter that is trained, once per round.

    The averages are buffers: no optimiser moves them, and checkpoints hold them bit for bit.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay, self.names = decay, tuple(trained_parameters(network))
        for name, parameter in trained_parameters(network).items():
            self.register_buffer(name.replace(".", "/"), parameter.detach().clone())

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move every average toward its parameter."""
        for name, parameter in trained_parameters(network).items():
            self.get_buffer(name.replace(".", "/")).lerp_(parameter, 1 - self.decay)

    def policy(self, policy: Policy) -> Policy:
        """Return the policy with the averages, as they are now, in the place of its trained parameters."""
        weights = {name: self.get_buffer(name.replace(".", "/")).clone() for name in self.names}
        return replace(policy, denoiser=Reweighted(trainable_module(policy), weights))


@dataclass(frozen=True)
class Reweighted:
    """A denoiser that computes with other weights than its network has."""

    network: nn.Module
    weights: dict[str, Tensor]

    def __call__(self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], context: Context) -> Float[Tensor, "b ..."]:
        """Predict the noise in x_t with these weights."""
        predicted: Tensor = functional_call(self.network, self.weights, (x, t, context))
        return predicted


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that need a gradient, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
