"""The transformer of a flow-matching pipeline as a denoiser with classifier-free guidance.

The guided velocity is what the policy predicts, in the rollout as in training.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.models.images.families.family import Conditions, Family
from molrl.models.images.guided_network import GuidedNetwork, WithAdapter


@dataclass(frozen=True, eq=False)
class FlowPrompts:
    """Prompts as inputs of a network.

    Attributes:
        texts: the prompts; `context["prompt"]` has the row of each sample.
        conditions: inputs of the network by name, a row for each prompt, and one more for the negative prompt.
    """

    texts: tuple[str, ...]
    conditions: Conditions


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
        prompts: FlowPrompts,
        family: Family,
        *,
        distilled_guidance: float,
        **settings: Any,
    ) -> None:
        super().__init__(transformer, prompts.texts, **settings)
        self.family, self.distilled_guidance, self.names = family, distilled_guidance, tuple(prompts.conditions)
        for name, rows in prompts.conditions.items():
            kept = rows.to(self.dtype) if rows.is_floating_point() else rows
            self.register_buffer(f"prompt_{name}", kept, persistent=False)

    def guided_output(
        self, x: Float[Tensor, "b c h w"], level: Float[Tensor, " b"], prompt: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the guided velocity, float32."""
        if self.guidance_scale == 1:
            return self.velocity(x, level, prompt)
        negative = torch.full_like(prompt, len(self.texts))
        both = self.velocity(torch.cat([x, x]), torch.cat([level, level]), torch.cat([negative, prompt]))
        unconditional, conditional = both.chunk(2)
        return self.family.guide(unconditional, conditional, self.guidance_scale)

    def velocity(self, x: Tensor, t: Tensor, rows: Int[Tensor, " b"]) -> Tensor:
        """Return the velocity for these rows of the prompts, from one network call, float32."""
        conditions = {name: getattr(self, f"prompt_{name}")[rows] for name in self.names}
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.family.velocity(self.network, x, t, conditions, self.distilled_guidance).float()


class AdaptedFlow(WithAdapter, GuidedFlow):
    """A guided flow of which an adapter is trained."""
