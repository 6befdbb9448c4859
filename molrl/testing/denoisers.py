"""The laws of denoisers: of any, of those of point sets, and of those with the symmetries of space.

`GENERAL_LAWS` hold for states of any shape. `SET_LAWS` add that the points of a set [b, n, channels] have no order.
`EUCLIDEAN_LAWS` add rotations, reflections, translations and padding, for points whose first three channels are
positions and whose context has a bool `mask` [b, n], True for real points.
"""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context
from molrl.testing.laws import check_law, random_order, random_rotation, require, require_close

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}  # of the largest output


class Case(NamedTuple):
    """A denoiser and a batch of states, each at a time of its own."""

    denoiser: nn.Module
    x: Tensor  # [b, ...]
    t: Tensor  # [b]
    context: Context

    def output(self) -> Tensor:
        """Return the predicted noise, without a gradient."""
        with torch.no_grad():
            out: Tensor = self.denoiser(self.x, self.t, self.context)
        return out

    @property
    def mask(self) -> Tensor:
        """Return the mask of the context [b, n]; all True where there is none."""
        return self.context.get("mask", torch.ones(self.x.shape[:2], dtype=torch.bool))

    def with_mask(self, mask: Tensor) -> Context:
        """Return the context with another mask, if it has one at all."""
        return {**self.context, "mask": mask} if "mask" in self.context else self.context


Law = Callable[[Case], None]


def check_denoiser(
    denoiser: nn.Module,
    x: Tensor,
    t: Float[Tensor, " b"],
    context: Context,
    *,
    laws: Sequence[Law] | None = None,
    perturb: bool = True,
) -> None:
    """Raise AssertionError with the name of the first law that the denoiser breaks.

    Args:
        denoiser: called as (x, t, context); it is copied and stays as it is.
        x: at least two states [b, ...]; padding is zero, and positions are centred over the real points.
        t: times in [0.1, 0.9], in the dtype of x.
        context: batch-first, as in training.
        laws: those that are to hold; by default `EUCLIDEAN_LAWS` for a context with a mask, else `GENERAL_LAWS`.
        perturb: first move all parameters of the copy a little: layers that start at zero obey most laws for free.
    """
    network = perturb_parameters(copy.deepcopy(denoiser)) if perturb else denoiser
    case = Case(network, x, t, context)
    for law in laws or (EUCLIDEAN_LAWS if "mask" in context else GENERAL_LAWS):
        check_law(law, case)


def random_point_sets(
    context: Context, *, channels: int, dtype: torch.dtype, points: int = 0
) -> tuple[Float[Tensor, "b n c"], Float[Tensor, " b"]]:
    """Draw point sets and times for a context.

    With a mask, padding is zero and the first three channels are centred; without one, each set has `points` points.
    """
    generator, mask = torch.Generator().manual_seed(0), context.get("mask")
    count = len(next(iter(context.values())))
    t = torch.linspace(0.1, 0.9, count, dtype=dtype)
    if mask is None:
        return torch.randn(count, points, channels, generator=generator, dtype=dtype) + 0.3, t
    x = torch.randn(*mask.shape, channels, generator=generator, dtype=dtype) * mask[..., None]
    return torch.cat([centre(x[..., :3], mask), x[..., 3:]], dim=-1), t


def perturb_parameters(network: nn.Module) -> nn.Module:
    """Move all parameters a little, in place, and return the network."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise * 0.2 / parameter.shape[-1] ** 0.5 if parameter.dim() else noise * 0.2)
    return network


def rotating_the_input_rotates_the_output(case: Case) -> None:
    """Check eps(x R, h) = (eps_x R, eps_h) for proper rotations."""
    rotation = random_rotation(case.x.dtype)
    _same(_transformed(case, rotation).output(), _transform(case.output(), rotation))


def reflecting_the_input_reflects_the_output(case: Case) -> None:
    """Check the same for a mirror image, which is as likely as the set itself."""
    mirror = random_rotation(case.x.dtype) @ torch.diag(torch.tensor([1, 1, -1], dtype=case.x.dtype))
    _same(_transformed(case, mirror).output(), _transform(case.output(), mirror))


def shifting_the_input_shifts_at_most_the_mean(case: Case) -> None:
    """Check that only relative positions matter."""
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=case.x.dtype) * case.mask[..., None]
    shifted = case._replace(x=torch.cat([case.x[..., :3] + shift, case.x[..., 3:]], dim=-1)).output()
    _same(torch.cat([centre(shifted[..., :3], case.mask), shifted[..., 3:]], dim=-1), case.output())


def reordering_the_points_reorders_the_output(case: Case) -> None:
    """Check that points have no order, padding included."""
    order = random_order(case.x.shape[1])
    reordered = case._replace(x=case.x[:, order], context=case.with_mask(case.mask[:, order]))
    _same(reordered.output(), case.output()[:, order])


def more_padding_changes_nothing(case: Case) -> None:
    """Check that the width of the padding has no influence."""
    n = case.x.shape[1]
    x = torch.cat([case.x, torch.zeros_like(case.x[:, :4])], dim=1)
    mask = torch.cat([case.mask, torch.zeros_like(case.mask[:, :4])], dim=1)
    _same(case._replace(x=x, context=case.with_mask(mask)).output()[:, :n], case.output())


def the_output_is_zero_on_padding(case: Case) -> None:
    """Check for exact zeros, so that plain sums over a sample are right."""
    require(not case.mask.all(), "the example needs padding")
    require((case.output()[~case.mask] == 0).all(), "got other numbers than zero on padding")


def the_position_output_is_centred(case: Case) -> None:
    """Check that the predicted noise lies in the subspace that noise is drawn from."""
    out = case.output()[..., :3]
    _same(centre(out, case.mask), out)


def batching_equals_looping(case: Case) -> None:
    """Check that a sample's neighbours in the batch, and their times, have no influence."""
    out = case.output()
    for k, real in enumerate(case.mask):
        single = Case(case.denoiser, case.x[k, real][None], case.t[k : k + 1], {})
        context = {name: value[k : k + 1] for name, value in case.context.items()}
        context |= {"mask": real[real][None]} if "mask" in context else {}
        _same(single._replace(context=context).output()[0], out[k, real])


def every_noise_level_has_its_own_output(case: Case) -> None:
    """Check that the time is read, row by row."""
    later = case._replace(t=case.t + 0.05).output()
    change = (later - case.output()).abs().flatten(1).amax(1)
    require((change > 1e-6).all(), f"got changes of {change.tolist()} for other times")


def the_gradient_reaches_every_parameter(case: Case) -> None:
    """Check that no parameter is without influence."""
    named = {name: p for name, p in case.denoiser.named_parameters() if p.requires_grad}
    require(bool(named), "there is no parameter to train")
    out = case.denoiser(case.x, case.t, case.context)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=out.dtype)
    gradients = torch.autograd.grad((out * weight).sum(), list(named.values()), allow_unused=True)
    unused = [name for name, g in zip(named, gradients, strict=True) if g is None or not g.any()]
    require(not unused, f"no gradient for {unused}")
    require(all(g.isfinite().all() for g in gradients), "got a gradient that is not finite")


def coinciding_points_have_a_finite_gradient(case: Case) -> None:
    """Check that distances are differentiable at zero."""
    x = torch.zeros_like(case.x).requires_grad_()
    out = case.denoiser(x, case.t, case.context)
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    require(out.isfinite().all(), "got an output that is not finite")
    require(gradient.isfinite().all(), "got a gradient that is not finite")


def not_a_number_is_passed_on_and_stays_in_its_sample(case: Case) -> None:
    """Check that a NaN in the first or the last channel is never replaced by a number."""
    broken = int(case.mask.sum(1).argmax())
    others = torch.arange(len(case.x)) != broken
    for channel in (0, case.x.shape[-1] - 1):
        x = case.x.clone()
        x[broken, case.mask[broken].nonzero()[0], channel] = torch.nan
        out = case._replace(x=x).output()
        require(out[broken, case.mask[broken]].isnan().all(), f"NaN in channel {channel} became a number")
        _same(out[others], case.output()[others])


def a_copy_computes_the_same(case: Case) -> None:
    """Check deep copies, which references and averages of weights are."""
    require_close(case._replace(denoiser=copy.deepcopy(case.denoiser)).output(), case.output(), atol=0)


GENERAL_LAWS: tuple[Law, ...] = (
    batching_equals_looping,
    every_noise_level_has_its_own_output,
    the_gradient_reaches_every_parameter,
    a_copy_computes_the_same,
)

SET_LAWS: tuple[Law, ...] = (
    reordering_the_points_reorders_the_output,
    coinciding_points_have_a_finite_gradient,
    not_a_number_is_passed_on_and_stays_in_its_sample,
    *GENERAL_LAWS,
)

EUCLIDEAN_LAWS: tuple[Law, ...] = (
    rotating_the_input_rotates_the_output,
    reflecting_the_input_reflects_the_output,
    shifting_the_input_shifts_at_most_the_mean,
    more_padding_changes_nothing,
    the_output_is_zero_on_padding,
    the_position_output_is_centred,
    *SET_LAWS,
)


def centre(positions: Tensor, mask: Tensor) -> Tensor:
    """Remove the mean over real points from positions [b, n, 3]; padding stays zero."""
    real = mask[..., None].to(positions.dtype)
    return (positions - (positions * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)) * real


def _same(got: Tensor, expected: Tensor) -> None:
    require_close(got, expected, atol=TOLERANCE[expected.dtype] * max(1.0, expected.abs().max().item()))


def _transform(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.cat([x[..., :3] @ matrix, x[..., 3:]], dim=-1)


def _transformed(case: Case, matrix: Tensor) -> Case:
    return case._replace(x=_transform(case.x, matrix))
