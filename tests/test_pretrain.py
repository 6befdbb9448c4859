"""Pretraining minimises the denoising loss, whose value is known where the denoiser is, and can be continued."""

import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from toy import unheard

from molrl.gaussian import Context, MaskedPoints
from molrl.models.precondition import Preconditioned
from molrl.noise import Key, Stream
from molrl.pretraining import (
    Average,
    Bucket,
    Pretraining,
    denoising_loss,
    draw_batches,
    learning_rate,
    normal_times,
    stratified_times,
)
from molrl.runs.checkpoints import CHECKPOINTS, Series
from molrl.schedule import LogLinear, alpha, sigma

F64 = torch.float64
SCHEDULE = LogLinear(0.02, 20.0)
STD = [1.5, 1.5, 1.5, 0.4]


class Constant(nn.Module):
    """A network of constant output: F = value / sqrt(s^2 + d^2) * s / d is the exact answer for N(value, d^2)."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor, log_noise: Tensor, context: Context) -> Tensor:
        s, d = log_noise.exp().view(-1, 1, 1).to(x.dtype), torch.tensor(STD, dtype=x.dtype)
        return self.value.to(x.dtype) * s / d / (s**2 + d**2).sqrt() * context["mask"][..., None]


def randn(seed: int, *shape: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gaussian_data(count: int, atoms: int, mean: float, dtype: torch.dtype = torch.float32) -> Bucket:
    """Return centred positions and one feature of the stated mean; the last atom is padding."""
    mask = (torch.arange(atoms + 1) < atoms).expand(count, -1)
    x = randn(atoms, count, atoms + 1, 4) * torch.tensor(STD) + torch.tensor([0, 0, 0, mean])
    return Bucket(MaskedPoints().project(x, {"mask": mask}).to(dtype), {"mask": mask})


def model() -> Preconditioned:
    return Preconditioned(Constant(), SCHEDULE, STD)


def test_the_right_answer_of_the_network_is_the_true_noise() -> None:
    """F = target makes the predicted noise exact, at every noise level."""
    x0, eps, t = randn(0, 9, 5, 4), randn(1, 9, 5, 4), torch.linspace(0, 1, 9, dtype=F64)
    log_snr = SCHEDULE.log_snr(t).view(-1, 1, 1)
    target: list[Tensor] = []

    class Right(nn.Module):
        def forward(self, x: Tensor, log_noise: Tensor, context: Context) -> Tensor:
            return target[0]

    denoiser = Preconditioned(Right(), SCHEDULE, STD).double()
    target.append(denoiser.target(x0, eps, t))
    assert_close(denoiser(alpha(log_snr) * x0 + sigma(log_snr) * eps, t, {}), eps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.7, 1.0])
def test_input_and_target_of_the_network_have_unit_variance(t: float) -> None:
    x0, eps = randn(0, 4000, 5, 4) * torch.tensor(STD, dtype=F64), randn(1, 4000, 5, 4)
    times = torch.full((4000,), t, dtype=F64)
    denoiser = model().double()
    log_snr = SCHEDULE.log_snr(times).view(-1, 1, 1)
    seen: list[Tensor] = []

    class Look(nn.Module):
        def forward(self, x: Tensor, log_noise: Tensor, context: Context) -> Tensor:
            seen.append(x)
            return x

    Preconditioned(Look(), SCHEDULE, STD).double().raw(alpha(log_snr) * x0 + sigma(log_snr) * eps, times, {})
    ones = torch.ones(4, dtype=F64)
    assert_close(denoiser.target(x0, eps, times).var((0, 1)), ones, rtol=0.05, atol=0)
    assert_close(seen[0].var((0, 1)), ones, rtol=0.05, atol=0)


@pytest.mark.parametrize(("mean", "right"), [(0.0, True), (2.0, True), (2.0, False)])
def test_the_loss_of_the_exact_denoiser_of_a_gaussian_is_one(mean: float, right: bool) -> None:
    """The target of Gaussian data is independent of x_t and of variance one; a wrong mean adds its square."""
    bucket, denoiser = gaussian_data(4000, 3, mean, F64), model().double()
    if right:
        with torch.no_grad():
            denoiser.network.get_parameter("value")[3] = mean
    t = torch.linspace(0, 1, 4000, dtype=F64)
    loss = denoising_loss(denoiser, MaskedPoints(), bucket.x0, t, randn(9, 4000, 4, 4), bucket.context).mean()
    noise = (-SCHEDULE.log_snr(t) / 2).exp()
    wrong = 0.0 if right else ((mean * noise / STD[3]) ** 2 / (noise**2 + STD[3] ** 2)).mean().item() * 3 / 9
    assert loss.item() == pytest.approx(1 + wrong, rel=0.03)  # three features among nine degrees of freedom


def test_padding_does_not_change_the_loss() -> None:
    bucket, denoiser = gaussian_data(10, 3, 1.0, F64), model().double()
    t, noise = torch.linspace(0, 1, 10, dtype=F64), randn(9, 10, 6, 4)
    wide = torch.cat([bucket.x0, torch.zeros(10, 2, 4, dtype=F64)], 1)
    padded = {"mask": torch.cat([bucket.context["mask"], torch.zeros(10, 2, dtype=torch.bool)], 1)}
    losses = (
        denoising_loss(denoiser, MaskedPoints(), bucket.x0, t, noise[:, :4], bucket.context),
        denoising_loss(denoiser, MaskedPoints(), wide, t, noise, padded),
    )
    assert_close(losses[0], losses[1], rtol=1e-12, atol=0)


def test_batch_i_depends_on_the_key_and_i_alone() -> None:
    buckets = [gaussian_data(20, 2, 0.0), gaussian_data(40, 5, 0.0)]
    all_of_them = list(islice(draw_batches(buckets, 8, Key(3)), 6))
    later = list(islice(draw_batches(buckets, 8, Key(3), start=4), 2))
    for (x, context), (other, other_context) in zip(later, all_of_them[4:], strict=True):
        assert (x == other).all()
        assert (context["mask"] == other_context["mask"]).all()


def test_every_sample_is_drawn_equally_often_whatever_its_size() -> None:
    """A third of the samples is small; so is a third of what is drawn, in steps of equal cost."""
    buckets = [gaussian_data(500, 2, 0.0), gaussian_data(1000, 5, 0.0)]
    drawn = [x.shape[:2] for x, _ in islice(draw_batches(buckets, 60, Key(0)), 1500)]
    small, large = (sum(b for b, n in drawn if n == width) for width in (3, 6))
    assert small / (small + large) == pytest.approx(1 / 3, abs=0.03)
    assert (small + large) / len(drawn) == pytest.approx(60, rel=0.06)
    costs = {b * n**2 for b, n in drawn}
    assert max(costs) / min(costs) < 1.05


def test_times_are_spread_over_equal_parts() -> None:
    times = stratified_times(Key(0).generator(0, 0), 16)
    assert ((times >= 0) & (times <= 1)).all()
    # Shifted together by less than a part: one in each part, or two around the seam of the ring.
    assert_close(times.double().sort().values.diff(), torch.full((15,), 1 / 16, dtype=F64), rtol=1e-5, atol=0)
    assert (times != stratified_times(Key(0).generator(0, 1), 16)).all()


def test_the_learning_rate_rises_stays_and_falls() -> None:
    rates = [learning_rate(i, peak=2.0, warmup=4, cooldown=4, steps=20) for i in range(20)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4:17] == [2.0] * 13
    assert rates[17:] == pytest.approx([2 * (1 - math.sqrt(k / 4)) for k in (1, 2, 3)])
    assert [learning_rate(i, peak=2.0, warmup=0, cooldown=0, steps=3) for i in range(3)] == [2.0] * 3


def test_the_average_follows_the_weights() -> None:
    module, average = nn.Linear(1, 1, bias=False), Average(0.5)
    for step, value in enumerate((1.0, 2.0, 4.0), start=1):
        nn.init.constant_(module.weight, value)
        average.update(module, step)
    # decays min(0.5, (1 + step) / (10 + step)) of 1/4 and 4/13 after the first weights
    second = 1.0 / 4 + 2.0 * 3 / 4
    assert average.shadow["weight"].item() == pytest.approx(second * 4 / 13 + 4.0 * 9 / 13)


def pretraining(**changes: Any) -> Pretraining:
    settings: dict[str, Any] = {
        "steps": 6,
        "batch": 16,
        "lr": 0.05,
        "warmup": 2,
        "cooldown": 2,
        "ema": 0.9,
        "weight_decay": 0.0,
        "clip_norm": 10.0,
        "optimizer": "adamw",
        "time_mean": None,
        "time_std": None,
        "save_every": 3,
        "bf16": False,
        "compile": False,
        "seed": 0,
    }
    return Pretraining(**{**settings, **changes})


def test_training_finds_the_mean_of_the_data(tmp_path: Path) -> None:
    buckets, losses = [gaussian_data(200, 3, 2.0), gaussian_data(200, 5, 2.0)], []
    settings = pretraining(steps=120, batch=32, save_every=20, lr=0.1, cooldown=60)
    average = settings.run(model(), MaskedPoints(), buckets, tmp_path, lambda seen, _: losses.append(seen["loss"]))
    assert average["network.value"][3].item() == pytest.approx(2.0, abs=0.2)
    assert losses[0] > 1.5
    assert losses[-1] == pytest.approx(1.0, abs=0.1)


class Stop(Exception):
    """An exception that a report raises."""


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    buckets = [gaussian_data(30, 3, 2.0), gaussian_data(30, 5, 2.0)]
    whole, broken, resumed = model(), model(), model()
    expected = pretraining().run(whole, MaskedPoints(), buckets, tmp_path / "whole", unheard)

    def stop(seen: Mapping[str, float], average: object) -> None:
        if seen["step"] == 6:
            raise Stop

    with pytest.raises(Stop):
        pretraining().run(broken, MaskedPoints(), buckets, tmp_path / "broken", stop)
    steps: list[float] = []
    got = pretraining().run(
        resumed, MaskedPoints(), buckets, tmp_path / "broken", lambda seen, _: steps.append(seen["step"])
    )
    assert steps == [6]
    assert_close(got, expected, rtol=0, atol=0)
    assert_close(dict(resumed.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)


def test_asked_to_stop_at_any_step_it_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """Also between two reports: the means that a report gives are those of all its steps."""
    buckets = [gaussian_data(30, 3, 2.0)]
    expected: list[Mapping[str, float]] = []
    whole = pretraining().run(model(), MaskedPoints(), buckets, tmp_path / "whole", lambda row, _: expected.append(row))
    for step in range(1, 6):
        folder, seen = tmp_path / f"{step}", list[Mapping[str, float]]()
        answers = iter([False] * (step - 1) + [True])

        def keep(row: Mapping[str, float], _: object, seen: list[Mapping[str, float]] = seen) -> None:
            seen.append(row)

        pretraining().run(model(), MaskedPoints(), buckets, folder, keep, answers.__next__)
        assert Series(folder / CHECKPOINTS).steps()[-1] == step
        assert_close(pretraining().run(model(), MaskedPoints(), buckets, folder, keep), whole, rtol=0, atol=0)
        untimed = {"seconds": 0, "core_seconds": 0}
        assert [{**row, **untimed} for row in seen] == [{**row, **untimed} for row in expected]


def test_a_finished_run_gives_its_average_back(tmp_path: Path) -> None:
    buckets = [gaussian_data(30, 3, 2.0)]
    expected = pretraining().run(model(), MaskedPoints(), buckets, tmp_path, unheard)
    got = pretraining().run(model(), MaskedPoints(), buckets, tmp_path, unheard)
    assert_close(got, expected, rtol=0, atol=0)


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    buckets = [gaussian_data(30, 3, 2.0)]
    one, two, other = (
        pretraining(seed=seed).run(model(), MaskedPoints(), buckets, tmp_path / name, unheard)
        for name, seed in (("one", 0), ("two", 0), ("other", 1))
    )
    assert_close(one, two, rtol=0, atol=0)
    assert (one["network.value"] != other["network.value"]).any()


def test_normal_times_have_the_quantiles_of_a_truncated_normal_distribution() -> None:
    """Against a numerical integral of the density exp(-(t - m)^2 / (2 s^2)) over [0, 1]."""
    mean, std = 0.4, 0.22
    grid = torch.linspace(0, 1, 20001, dtype=F64)
    density = (-((grid - mean) ** 2) / (2 * std**2)).exp()
    below = torch.cat([torch.zeros(1, dtype=F64), torch.cumulative_trapezoid(density, grid)])
    uniform = torch.tensor([0.0, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0], dtype=F64)
    t = normal_times(uniform, mean, std)
    expected = [float(grid[torch.searchsorted(below / below[-1], value).clamp(max=20000)]) for value in uniform]
    assert_close(t, torch.tensor(expected, dtype=F64), atol=2e-4, rtol=0)


def test_times_of_training_are_those_that_are_asked_for() -> None:
    generator = Key(0, Stream.SAMPLING).generator(0, 0)
    t = pretraining(time_mean=0.7, time_std=0.05).times(generator, 400)
    assert t.mean().item() == pytest.approx(0.7, abs=0.005)
    assert t.std().item() == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize(
    "wrong",
    [{"optimizer": "sgd"}, {"time_mean": 0.5}, {"time_std": 0.5}, {"time_mean": 0.5, "time_std": 0.0}],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"optimizer: got|time_mean, time_std: got"):
        pretraining(**wrong)
