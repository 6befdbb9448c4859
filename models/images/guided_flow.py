"""The transformer of a flow-matching pipeline as a denoiser with classifier-free guidance.

The guided velocity is what the policy predicts, in the rollout as in training.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.models.images.families.family import Conditions, Family
from molrl.models.images.guided_network import GuidedNetwork, Prompts, WithAdapter


class GuidedFlow(GuidedNetwork):
    """A transformer with classifier-free guidance, which predicts the velocity.

    Args:
        transformer: of a pipeline of the family.
        prompts: all prompts that a context may name.
        family: how the transformer is called.
        distilled_guidance: for networks that take a scale of guidance as an input.
        settings: the others of `GuidedNetwork`.
    """

    def __init__(
        self,
        transformer: nn.Module,
        prompts: Prompts,
        family: Family,
        *,
        distilled_guidance: float,
        **settings: Any,
    ) -> None:
        super().__init__(transformer, prompts, **settings)
        self.family, self.distilled_guidance = family, distilled_guidance

    def call(self, x: Float[Tensor, "b c h w"], level: Float[Tensor, " b"], conditions: Conditions) -> Tensor:
        """Return the velocity from one network call, in the dtype of x."""
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            velocity = self.family.velocity(self.network, x, level, conditions, self.distilled_guidance)
        return velocity.to(x.dtype)

    def guide(self, unconditional: Tensor, conditional: Tensor) -> Tensor:
        """Combine the velocities as the family does."""
        return self.family.guide(unconditional, conditional, self.guidance_scale)


class AdaptedFlow(WithAdapter, GuidedFlow):
    """A guided flow of which an adapter is trained."""
