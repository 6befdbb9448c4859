"""Training targets of point clouds without the noise of single points.

Points of a cloud are drawn from a surface one by one, so where exactly each one lies is noise that no network can
predict: nearly all of the usual loss. But whoever makes the data has the surface, here as a pool of points drawn from
it, and can say where the point that became y = x_t / alpha_t is to be expected:

    E[x_0 | y, pool] = sum_j w_j p_j,    w_j ~ exp(-|y - p_j|^2 / (2 s^2)),    s = sigma_t / alpha_t.

A network that is asked for this mean instead of x_0 has the same optimum, as E[E[x_0 | y, pool] | all y] is
E[x_0 | all y], and what is left of its loss is what it does not yet know of the shape. This is the stable target of
Xu, Tong and Jaakkola 2023 (arXiv:2302.00670) with the surface of one shape for its reference batch. It is exact for
each point by itself; that no two points of a cloud are the same one of the pool is left out of account.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from molrl.gaussian import Context, Space, sum_per_sample
from molrl.pretrain import Bucket
from molrl.schedule import alpha, sigma


@dataclass(frozen=True)
class Pools(Bucket):
    """Shapes as pools of points: x0 [N, pool, 3]. Each is good for pool // points clouds that share no point.

    Attributes:
        points: of a cloud.
    """

    points: int

    def __len__(self) -> int:
        return len(self.x0) * self.clouds

    @property
    def clouds(self) -> int:
        """How many of one pool."""
        return self.x0.shape[1] // self.points

    def rows(self, index: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b pool 3"], Context]:
        """The pools of some clouds, with the points of the cloud in front."""
        pool, first = index // self.clouds, index % self.clouds * self.points
        order = (torch.arange(self.x0.shape[1]) + first[:, None]) % self.x0.shape[1]
        return self.x0[pool[:, None], order], {name: value[pool] for name, value in self.context.items()}


@dataclass(frozen=True)
class StableLoss:
    """|F(x_t) - stable target|^2 per degree of freedom of clouds that are the first `points` of their pools."""

    points: int

    def __call__(
        self,
        model: Any,
        space: Space,
        pool: Float[Tensor, "b pool 3"],
        t: Float[Tensor, " b"],
        noise: Float[Tensor, "b pool 3"],
        context: Context,
    ) -> Float[Tensor, " b"]:
        """One number per sample; `model` is a Preconditioner."""
        x0, log_snr = pool[:, : self.points], model.schedule.log_snr(t).view(-1, 1, 1)
        a, s = alpha(log_snr), sigma(log_snr)
        x_t = a * x0 + s * space.project(noise[:, : self.points], context)
        expected = posterior_mean(x_t / a, pool, s / a)
        error = model.raw(x_t, t, context).float() - model.target(expected, (x_t - a * expected) / s, t)
        return sum_per_sample(space.project(error, context).square()) / space.dof(x0, context)


@torch.no_grad()
def posterior_mean(
    y: Float[Tensor, "b n 3"], pool: Float[Tensor, "b p 3"], s: Float[Tensor, "b 1 1"]
) -> Float[Tensor, "b n 3"]:
    """E[x_0 | y, pool]: attention of the noisy points to the pool, where |p|^2 / 2 is a fourth coordinate."""
    with torch.autocast(y.device.type, enabled=False):
        query = pad(y, (0, 1), value=1.0) / s.square()
        key = torch.cat([pool, -pool.square().sum(-1, keepdim=True) / 2], -1)
        query, key, value = (part.unsqueeze(1) for part in (query, key, pad(pool, (0, 1))))  # fast kernels want heads
        mean: Tensor = scaled_dot_product_attention(query, key, value, scale=1.0)
        return mean.squeeze(1)[..., :3]
