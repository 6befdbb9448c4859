"""A diffusers UNet as a denoiser with classifier-free guidance: e = e_null + w (e_prompt - e_null)."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molrl.models.images.families.family import Conditions
from molrl.models.images.guided_network import GuidedNetwork, Prompts, WithAdapter
from molrl.samplers import per_row
from molrl.schedule import Tabulated


class GuidedUNet(GuidedNetwork):
    """A UNet2DConditionModel with classifier-free guidance, which predicts the noise.

    Args:
        unet: a UNet2DConditionModel.
        prompts: all prompts that a context may name.
        schedule: noise levels of the model.
        prediction: "epsilon", "sample" or "v_prediction".
        settings: the others of `GuidedNetwork`.
    """

    def __init__(
        self, unet: nn.Module, prompts: Prompts, schedule: Tabulated, *, prediction: str, **settings: Any
    ) -> None:
        super().__init__(unet, prompts, **settings)
        self.schedule, self.prediction = schedule, prediction

    @property
    def unet(self) -> Any:
        """Return the UNet, which is no submodule."""
        return self.network

    def level(self, t: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Return the number of the noise level."""
        return self.schedule.level(t)

    def call(self, x: Float[Tensor, "b c h w"], level: Int[Tensor, " b"], conditions: Conditions) -> Tensor:
        """Return the output of one network call, in the dtype of x; SDXL is told more than tokens."""
        tokens = conditions["encoder_hidden_states"]
        added = {name: value for name, value in conditions.items() if name != "encoder_hidden_states"} or None
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output: Tensor = self.network(x, level, tokens, added_cond_kwargs=added, return_dict=False)[0]
        return output.to(x.dtype)

    def to_prediction(
        self, output: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h w"], level: Int[Tensor, " b"]
    ) -> Tensor:
        """Return the noise that an output of noise, of a clean sample or of a velocity stands for.

        (Salimans and Ho 2022, arXiv:2202.00512, App. D.)
        """
        if self.prediction == "epsilon":
            return output
        signal = self.schedule.alpha_squared
        alpha, sigma = (per_row(table, level, x) for table in (signal.sqrt(), (1 - signal).sqrt()))
        if self.prediction == "sample":
            return (x - alpha * output) / sigma
        return alpha * output + sigma * x


class AdaptedUNet(WithAdapter, GuidedUNet):
    """A guided UNet of which an adapter is trained."""
