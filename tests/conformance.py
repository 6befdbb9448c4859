"""The laws that every denoiser of molecules or of point clouds obeys, as a battery to run over each implementation.

`check_denoiser(denoiser, context, features=6, dtype=torch.float64)` runs those of molecules; `LAWS` lists them for
parametrised tests, and `CLOUD_LAWS` those of point clouds [b, n, 3], whose context has no mask: a chair upside down is
no chair, so nothing is said of rotations. A law takes a `Case` and raises AssertionError where it is broken.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from molrl.gaussian import Context

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}  # of the largest output


class Case(NamedTuple):
    """A denoiser and a batch of centred, padded molecules, or of point clouds, at times of their own."""

    denoiser: nn.Module
    x: Tensor  # [b, n, 3 + features]
    t: Tensor  # [b]
    context: Context

    def output(self) -> Tensor:
        """Predicted noise, no gradient."""
        with torch.no_grad():
            out: Tensor = self.denoiser(self.x, self.t, self.context)
        return out

    @property
    def mask(self) -> Tensor:
        """True for real atoms, [b, n]; all points of a cloud are."""
        return self.context.get("mask", torch.ones(self.x.shape[:2], dtype=torch.bool))


def example(denoiser: nn.Module, context: Context, *, features: int, dtype: torch.dtype) -> Case:
    """Draw positions, features and times for the molecules that the mask describes."""
    mask = context["mask"]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*mask.shape, 3 + features, generator=generator, dtype=dtype) * mask[..., None]
    t = torch.linspace(0.1, 0.9, len(mask), dtype=dtype)
    return Case(denoiser, torch.cat([centred(x[..., :3], mask), x[..., 3:]], dim=-1), t, context)


def cloud_example(denoiser: nn.Module, context: Context, *, points: int, dtype: torch.dtype) -> Case:
    """Draw clouds and times for the classes that `context["class"]` asks for."""
    count = len(context["class"])
    x = torch.randn(count, points, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return Case(denoiser, x + 0.3, torch.linspace(0.1, 0.9, count, dtype=dtype), context)


def check_denoiser(denoiser: nn.Module, context: Context, *, features: int, dtype: torch.dtype) -> None:
    """Run every law; parameters that start at zero should have been moved away from it (see `awake`)."""
    case = example(denoiser, context, features=features, dtype=dtype)
    for law in LAWS:
        law(case)


def awake(network: nn.Module) -> nn.Module:
    """Move all parameters a little: layers that start at zero would obey most laws for no merit of the code."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise * 0.2 / parameter.shape[-1] ** 0.5)
    return network


def rotating_the_input_rotates_the_output(case: Case) -> None:
    """eps(x R, h) = (eps_x R, eps_h) for proper rotations."""
    _same(_turned(case, _rotation(case.x.dtype)).output(), _turn(case.output(), _rotation(case.x.dtype)))


def reflecting_the_input_reflects_the_output(case: Case) -> None:
    """The same for a mirror image: molecules and their mirror images are equally likely."""
    mirror = _rotation(case.x.dtype) @ torch.diag(torch.tensor([1, 1, -1], dtype=case.x.dtype))
    _same(_turned(case, mirror).output(), _turn(case.output(), mirror))


def shifting_the_input_shifts_at_most_the_mean(case: Case) -> None:
    """Only relative positions matter; a common shift is no information."""
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=case.x.dtype) * case.mask[..., None]
    shifted = case._replace(x=torch.cat([case.x[..., :3] + shift, case.x[..., 3:]], dim=-1)).output()
    _same(torch.cat([centred(shifted[..., :3], case.mask), shifted[..., 3:]], dim=-1), case.output())


def reordering_the_atoms_reorders_the_output(case: Case) -> None:
    """Atoms have no order, padding included."""
    order = torch.randperm(case.x.shape[1], generator=torch.Generator().manual_seed(2))
    reordered = case._replace(x=case.x[:, order], context={**case.context, "mask": case.mask[:, order]})
    _same(reordered.output(), case.output()[:, order])


def more_padding_changes_nothing(case: Case) -> None:
    """Padding is a matter of storage."""
    n = case.x.shape[1]
    x = torch.cat([case.x, torch.zeros_like(case.x[:, :4])], dim=1)
    mask = torch.cat([case.mask, torch.zeros_like(case.mask[:, :4])], dim=1)
    _same(case._replace(x=x, context={**case.context, "mask": mask}).output()[:, :n], case.output())


def the_output_is_zero_on_padding(case: Case) -> None:
    """Exactly zero, so that plain sums over a sample are right."""
    assert not case.mask.all(), "the example needs padding"
    assert (case.output()[~case.mask] == 0).all()


def the_position_output_is_centred(case: Case) -> None:
    """Predicted noise lies in the subspace that noise is drawn from."""
    out = case.output()[..., :3]
    _same(centred(out, case.mask), out)


def batching_equals_looping(case: Case) -> None:
    """A molecule's neighbours in the batch, and their times, are no information."""
    out = case.output()
    for k, real in enumerate(case.mask):
        alone = {key: value[k : k + 1] for key, value in case.context.items()} | {"mask": real[real][None]}
        _same(Case(case.denoiser, case.x[k, real][None], case.t[k : k + 1], alone).output()[0], out[k, real])


def every_noise_level_has_its_own_output(case: Case) -> None:
    """The time is read, row by row."""
    later = case._replace(t=case.t + 0.05).output()
    assert ((later - case.output()).abs().flatten(1).amax(1) > 1e-6).all()


def the_gradient_reaches_every_parameter(case: Case) -> None:
    """No parameter is dead weight."""
    named = {name: p for name, p in case.denoiser.named_parameters() if p.requires_grad}
    assert named
    out = case.denoiser(case.x, case.t, case.context)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=out.dtype)
    gradients = torch.autograd.grad((out * weight).sum(), list(named.values()), allow_unused=True)
    silent = [name for name, g in zip(named, gradients, strict=True) if g is None or not g.any()]
    assert not silent, f"no gradient: {silent}"
    assert all(g.isfinite().all() for g in gradients)


def coinciding_atoms_have_a_finite_gradient(case: Case) -> None:
    """Distances are differentiable at zero."""
    x = torch.zeros_like(case.x).requires_grad_()
    out = case.denoiser(x, case.t, case.context)
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    assert out.isfinite().all()
    assert gradient.isfinite().all()


def not_a_number_is_passed_on_and_stays_in_its_molecule(case: Case) -> None:
    """A NaN is never replaced by a number, in the first channel (a position) or in the last."""
    broken = int(case.mask.sum(1).argmax())
    others = torch.arange(len(case.x)) != broken
    for channel in (0, case.x.shape[-1] - 1):
        x = case.x.clone()
        x[broken, case.mask[broken].nonzero()[0], channel] = torch.nan
        out = case._replace(x=x).output()
        assert out[broken, case.mask[broken]].isnan().all()
        _same(out[others], case.output()[others])


def a_copy_computes_the_same(case: Case) -> None:
    """References and averages are deep copies."""
    assert_close(case._replace(denoiser=copy.deepcopy(case.denoiser)).output(), case.output(), rtol=0, atol=0)


CLOUD_LAWS: tuple[Callable[[Case], None], ...] = (
    reordering_the_atoms_reorders_the_output,
    batching_equals_looping,
    every_noise_level_has_its_own_output,
    the_gradient_reaches_every_parameter,
    coinciding_atoms_have_a_finite_gradient,
    not_a_number_is_passed_on_and_stays_in_its_molecule,
    a_copy_computes_the_same,
)

LAWS: tuple[Callable[[Case], None], ...] = (
    rotating_the_input_rotates_the_output,
    reflecting_the_input_reflects_the_output,
    shifting_the_input_shifts_at_most_the_mean,
    more_padding_changes_nothing,
    the_output_is_zero_on_padding,
    the_position_output_is_centred,
    *CLOUD_LAWS,
)


def centred(positions: Tensor, mask: Tensor) -> Tensor:
    """Remove the mean over real atoms from positions [b, n, 3]; padding stays zero."""
    real = mask[..., None].to(positions.dtype)
    return (positions - (positions * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)) * real


def _same(got: Tensor, expected: Tensor) -> None:
    assert_close(got, expected, rtol=0, atol=TOLERANCE[expected.dtype] * max(1.0, expected.abs().max().item()))


def _rotation(dtype: torch.dtype) -> Tensor:
    matrix: Tensor = torch.linalg.qr(
        torch.randn(3, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    ).Q
    return (matrix * matrix.det()).to(dtype)


def _turn(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.cat([x[..., :3] @ matrix, x[..., 3:]], dim=-1)


def _turned(case: Case, matrix: Tensor) -> Case:
    return case._replace(x=_turn(case.x, matrix))
