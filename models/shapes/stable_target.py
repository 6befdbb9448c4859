"""Training targets of point clouds without the sampling noise of single points.

The points of a cloud are drawn from a surface independently. Where exactly each one lies is noise that no network can
predict, and it is nearly all of the usual loss. At training time the surface is known, here as a pool of points drawn
from it, and so is the expected position of the point that became y = x_t / alpha_t:

    E[x_0 | y, pool] = sum_j w_j p_j,    w_j ~ exp(-|y - p_j|^2 / (2 s^2)),    s = sigma_t / alpha_t.

A network trained toward this mean instead of x_0 has the same optimum, as E[E[x_0 | y, pool] | all y] is
E[x_0 | all y], and the rest of its loss is what it has not yet learned of the shape. This is the stable target of
Xu, Tong and Jaakkola 2023 (arXiv:2302.00670) with the surface of one shape as the reference batch. It is exact for
each point by itself; it neglects that no two points of a cloud are the same point of the pool.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from molrl.gaussian import Context, Space, sum_per_sample
from molrl.pretraining import Bucket
from molrl.schedule import alpha, sigma


@dataclass(frozen=True)
class Pools(Bucket):
    """Shapes as pools of points: x0 [N, pool, 3]. Each pool makes pool // points point clouds that share no point.

    Attributes:
        points: number of points of a point cloud.
    """

    points: int

    def __len__(self) -> int:
        return len(self.x0) * self.point_clouds_per_pool

    @property
    def point_clouds_per_pool(self) -> int:
        """Return the number of point clouds that one pool makes."""
        return self.x0.shape[1] // self.points

    def rows(self, index: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b pool 3"], Context]:
        """Return the pools of some point clouds, each with the points of its point cloud in front."""
        pool, first = index // self.point_clouds_per_pool, index % self.point_clouds_per_pool * self.points
        order = (torch.arange(self.x0.shape[1]) + first[:, None]) % self.x0.shape[1]
        return self.x0[pool[:, None], order], {name: value[pool] for name, value in self.context.items()}


@dataclass(frozen=True)
class StableLoss:
    """The squared error |F(x_t) - stable target|^2 per degree of freedom.

    Attributes:
        points: number of points of a point cloud, which are the first ones of its pool.
        written: number of points that the loss is the mean of, the first ones, for a network that reads more points
            than it writes; None: all.
    """

    points: int
    written: int | None = None

    def __call__(
        self,
        model: Any,
        space: Space,
        pool: Float[Tensor, "b pool 3"],
        t: Float[Tensor, " b"],
        noise: Float[Tensor, "b pool 3"],
        context: Context,
    ) -> Float[Tensor, " b"]:
        """Return one loss per sample, of a Preconditioner."""
        x0, log_snr = pool[:, : self.points], model.schedule.log_snr(t).view(-1, 1, 1)
        a, s = alpha(log_snr), sigma(log_snr)
        x_t = a * x0 + s * space.project(noise[:, : self.points], context)
        own = x_t[:, : self.written]
        expected = posterior_mean(own / a, pool, s / a)
        raw = model.raw(x_t, t, context, written=self.written)
        error = raw.float() - model.target(expected, (own - a * expected) / s, t)
        return sum_per_sample(space.project(error, context).square()) / space.dof(own, context)


@torch.no_grad()
def posterior_mean(
    y: Float[Tensor, "b n 3"], pool: Float[Tensor, "b p 3"], s: Float[Tensor, "b 1 1"]
) -> Float[Tensor, "b n 3"]:
    """Return E[x_0 | y, pool]: attention of the noisy points to the pool, where |p|^2 / 2 is a fourth coordinate."""
    with torch.autocast(y.device.type, enabled=False):
        query = pad(y, (0, 1), value=1.0) / s.square()
        key = torch.cat([pool, -pool.square().sum(-1, keepdim=True) / 2], -1)
        query, key, value = (
            part.unsqueeze(1) for part in (query, key, pad(pool, (0, 1)))
        )  # fast kernels need a dimension of heads
        mean: Tensor = scaled_dot_product_attention(query, key, value, scale=1.0)
        return mean.squeeze(1)[..., :3]
