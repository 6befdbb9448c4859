"""The batteries of `molrl.testing` accept what is right and name the law that something breaks."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import UNMEASURED, Clouds, cloud_task, number_task

import molrl.testing
from molrl.advantages import Standardised
from molrl.algos import Algorithm, Learner, RowMetrics
from molrl.algos.adjoint import AdjointMatching
from molrl.algos.awm import AWM
from molrl.algos.ddpo import DDPO, DDPOSF
from molrl.algos.dpo import DiffusionDPO
from molrl.algos.dpok import DPOK
from molrl.algos.draft import DRaFT
from molrl.algos.epg import EPG, PEPG
from molrl.algos.grpo import GRPO
from molrl.algos.nft import NFT
from molrl.algos.ram import RAM
from molrl.algos.refl import ReFL
from molrl.algos.rgdm import RGDM
from molrl.algos.rwr import RWR, RWRSparse
from molrl.algos.sft import SupervisedKLD, SupervisedKLO
from molrl.algos.tilt import Tilt
from molrl.gaussian import Context
from molrl.noise import Key
from molrl.oracle.control import optimal_control
from molrl.oracle.linear_gaussian import QUADRATIC, Points
from molrl.task import Rollouts, Task
from molrl.testing import check_algorithm, check_denoiser, check_reward, check_task
from molrl.testing.denoisers import EUCLIDEAN_LAWS, GENERAL_LAWS, SET_LAWS, Law, random_point_sets
from molrl.testing.laws import random_rotation
from molrl.testing.rewards import equal
from molrl.trajectory import Transitions

F64 = torch.float64
CONTEXT: Context = {"mask": torch.arange(6) < torch.tensor([4, 2, 5])[:, None]}
ALL_STEPS: dict[str, Any] = {"train_steps": 1000, "first": 0.0, "last": 1.0}
POINTS = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (3, 5, 8)]


class Pairwise(nn.Module):
    """A denoiser that moves each point along its differences to the others; the smallest equivariant denoiser."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, dtype=F64))

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        mask = context["mask"].to(x.dtype)
        square = (x[:, :, None] - x[:, None]).square().sum(-1)  # [b, i, j]
        pair = (
            torch.exp(-square) * mask[:, :, None] * mask[:, None] * (self.weight[0] + self.weight[1] * t.view(-1, 1, 1))
        )
        return ((x[:, :, None] - x[:, None]) * pair[..., None]).sum(2) + 0 * x.sum((1, 2), keepdim=True) * mask[
            ..., None
        ]


class Skewed(Pairwise):
    """A denoiser that treats one direction of space unlike the others."""

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        return super().forward(x, t, context) * torch.tensor([1.0, 1.0, 1.1], dtype=F64)


class Ordered(Pairwise):
    """A denoiser that treats the first point unlike the others."""

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        return super().forward(x, t, context) * (1 + (torch.arange(x.shape[1]) == 0).to(x.dtype)[:, None])


class Timeless(Pairwise):
    """A denoiser that does not read the time."""

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        return super().forward(x, 0 * t, context)


class Neighbourly(Pairwise):
    """A denoiser that depends on the rest of the batch."""

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        return super().forward(x, t, context) * x.square().mean().sqrt()


class Idle(Pairwise):
    """A denoiser that has a parameter without influence."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.ones(3, dtype=F64))


def check_points(denoiser: nn.Module, laws: Sequence[Law] = EUCLIDEAN_LAWS) -> None:
    check_denoiser(denoiser, *random_point_sets(CONTEXT, channels=3, dtype=F64), CONTEXT, laws=laws)


def test_an_equivariant_denoiser_passes() -> None:
    check_points(Pairwise())


@pytest.mark.parametrize(
    ("broken", "laws", "law"),
    [
        (Skewed, EUCLIDEAN_LAWS, "rotating the input rotates the output"),
        (Ordered, SET_LAWS, "reordering the points reorders the output"),
        (Timeless, EUCLIDEAN_LAWS, "every noise level has its own output"),
        (Neighbourly, GENERAL_LAWS, "batching equals looping"),
        (Idle, EUCLIDEAN_LAWS, r"the gradient reaches every parameter: no gradient for \['idle'\]"),
    ],
)
def test_a_broken_denoiser_is_told_its_law(broken: type[nn.Module], laws: Sequence[Law], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_points(broken(), laws)


def test_a_denoiser_is_left_as_it_is() -> None:
    denoiser = Pairwise()
    check_points(denoiser)
    assert denoiser.weight.tolist() == [1, 1]


class Pixels(nn.Module):
    """A convolution of images that reads the time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 3, 3, padding=1, dtype=F64)

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        time = t.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        out: Tensor = self.layer(torch.cat([x, time], 1))
        return out


def test_states_of_any_shape_have_the_general_laws() -> None:
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=F64)
    t, context = torch.linspace(0.1, 0.9, 3, dtype=F64), {"class": torch.tensor([0, 1, 2])}
    check_denoiser(Pixels(), x, t, context)
    with pytest.raises(AssertionError, match="reordering the points"):
        check_denoiser(Pixels(), x, t, context, laws=SET_LAWS)
    assert set(GENERAL_LAWS) < set(SET_LAWS)


@dataclass(frozen=True)
class Extent:
    """Minus the mean distance to the centre; too few points get the floor."""

    floor: float = -9.0

    def __call__(self, samples: Sequence[Tensor]) -> Tensor:
        return torch.tensor([self.value(sample) for sample in samples])

    def value(self, sample: Tensor) -> float:
        return self.floor if len(sample) < 2 else -(sample - sample.mean(0)).norm(dim=1).mean().item()


class Indexed(Extent):
    def __call__(self, samples: Sequence[Tensor]) -> Tensor:
        return super().__call__(samples) + torch.arange(len(samples))


class Relative(Extent):
    def __call__(self, samples: Sequence[Tensor]) -> Tensor:
        values = super().__call__(samples)
        return values - values.mean()


class Destructive(Extent):
    def __call__(self, samples: Sequence[Tensor]) -> Tensor:
        values = super().__call__(samples)
        for sample in samples:
            sample.add_(1)
        return values


class Height(Extent):
    def value(self, sample: Tensor) -> float:
        return self.floor if len(sample) < 2 else sample[:, 2].max().item()


class Column(Extent):
    def __call__(self, samples: Sequence[Tensor]) -> Tensor:
        return super().__call__(samples)[:, None]


class Generous(Extent):
    def value(self, sample: Tensor) -> float:
        return 0.0 if len(sample) < 2 else super().value(sample)


class Infinite(Extent):
    def value(self, sample: Tensor) -> float:
        return float("inf")


def check_extent(reward: Extent) -> None:
    rotation = random_rotation(torch.float32)
    invariances: dict[str, Callable[[Tensor], Tensor]] = {
        "rotation": lambda points: points @ rotation,
        "order of the points": lambda points: points.flip(0),
    }
    samples = [points.clone() for points in POINTS]
    check_reward(reward, samples, bad_samples=[torch.zeros(1, 3)], invariances=invariances)


def test_a_reward_passes() -> None:
    check_extent(Extent())


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Column, "each sample has one value: got shape"),
        (Infinite, "a value is finite or nan"),
        (Destructive, r"samples are not changed: got changes of the samples \[0, 1, 2, 3\]"),
        (Indexed, "permuting the batch permutes the values"),
        (Relative, "a sample has the same value in any batch"),
        (Height, "invariances do not change the value: rotation"),
        (Generous, "bad samples get the floor: got .* need the floor -9"),
    ],
)
def test_a_broken_reward_is_told_its_law(broken: type[Extent], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_extent(broken())


def test_objects_are_compared_by_what_they_hold() -> None:
    @dataclass
    class Box:
        points: Tensor
        names: dict[str, float]

    box = Box(torch.tensor([1.0, float("nan")]), {"a": float("nan")})
    assert equal(box, Box(box.points.clone(), {"a": float("nan")}))
    assert not equal(box, Box(box.points.clone(), {"a": 1.0}))
    assert not equal(box, Box(torch.tensor([2.0, float("nan")]), {"a": float("nan")}))


MATCHING: dict[str, Any] = {
    **{"advantage": Standardised(), "advantage_clip": 2.0, "noisings": 11, "first": 0.0, "last": 1.0},
    **{"held": 0, "decay": 0.0, "old_weight": 0.0, "reference_weight": 0.1, "data_weight": 0.0},
}
ALGORITHMS: dict[str, tuple[Algorithm, dict[str, Any]]] = {
    "ddpo_sf": (DDPOSF(advantage=Standardised(), advantage_clip=5.0, **ALL_STEPS), {}),
    "ddpo": (DDPO(advantage=Standardised(), advantage_clip=5.0, clip=0.2, kl_weight=0.1, **ALL_STEPS), {}),
    "dpok": (
        DPOK(
            **{"reward_weight": 1.0, "kl_weight": 0.1, "kl_mode": "local", "clip": 0.2, "clip_mode": "ppo"},  # type: ignore[arg-type]
            critic=True,
            critic_lr=0.01,
            **ALL_STEPS,
        ),
        {},
    ),
    "grpo": (
        GRPO(
            **{"group_size": 8, "scale": "group", "advantage_clip": 5.0, "clip": 0.2, "kl_weight": 0.1, "window": 5},  # type: ignore[arg-type]
            **{"first": 0.2, "last": 1.0, "schedule": "random", "stride": 1, "every": 1, "shared_start": True},  # type: ignore[arg-type]
        ),
        {},
    ),
    "draft": (DRaFT(steps=3, kl_weight=0.05, held_out=UNMEASURED), {"rollouts": 64}),
    "refl": (ReFL(first=0.5, last=1.0, ceiling=None, anchor=0.1, held_out=UNMEASURED), {"rollouts": 64}),
    "adjoint": (
        AdjointMatching(kl_weight=0.5, early=2, late=2, split=0.6, held_out=UNMEASURED),
        {"rollouts": 64},
    ),
    "dpo": (
        DiffusionDPO(
            **{"source": "policy", "preferences": None, "column": None, "group_size": 4, "pairs": 1},  # type: ignore[arg-type]
            **{"margin": 0.0, "noisings": 11, "beta": 0.5, "likelihood": "joint"},  # type: ignore[arg-type]
        ),
        {"rollouts": 128},
    ),
    "rwr": (RWR(temperature=1.0, noisings=11), {}),
    "rwr_sparse": (RWRSparse(quantile=0.5, noisings=11), {}),
    "sft_kl_d": (SupervisedKLD(gamma=0.0, noisings=11), {}),
    "sft_kl_o": (SupervisedKLO(gamma=0.1, noisings=11), {}),
    "nft": (NFT(mixing=1.0, **MATCHING), {}),
    "awm": (AWM(clip=0.2, **{**MATCHING, "old_weight": 2.0}), {}),
    "epg": (EPG(**{**MATCHING, "old_weight": 2.0}), {}),
    "pepg": (PEPG(**MATCHING), {}),
    "ram": (RAM(temperature=2.0, **MATCHING), {}),
    "tilt": (Tilt(tilt_step=0.3, implicit=True, **MATCHING), {}),
    **{
        f"rgdm {guidance}": (
            RGDM(
                **{"source": "policy", "guidance": guidance, "candidates": 4, "radius": 0.5, "temperature": 1.0},  # type: ignore[arg-type]
                **{"states": 1000, "first": 0.0, "last": 1.0, "lookahead": 0, "held": 0, "kl_weight": 0.05},  # type: ignore[arg-type]
            ),
            {"rollouts": 64},
        )
        for guidance in ("candidates", "gradient")
    },
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_passes(name: str) -> None:
    algorithm, loop = ALGORITHMS[name]
    check_algorithm(algorithm, **loop)


class Downhill(DDPOSF):
    def loss(self, learner: Learner, batch: Transitions) -> tuple[Tensor, RowMetrics]:
        loss, metrics = super().loss(learner, batch)
        return -loss, metrics


class Misread(DDPOSF):
    def loss(self, learner: Learner, batch: Transitions) -> tuple[Tensor, RowMetrics]:
        return super().loss(learner, replace(batch, log_prob=batch.log_prob + 0.1))


class Unbounded(DDPOSF):
    def loss(self, learner: Learner, batch: Transitions) -> tuple[Tensor, RowMetrics]:
        loss, metrics = super().loss(learner, batch)
        return loss / 0, metrics


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Unbounded, "the loss and its gradient are finite"),
        (Misread, "the log ratio is zero before any update: got 0.1 nats"),
        (Downhill, "training raises the expected reward"),
    ],
)
def test_a_broken_algorithm_is_told_its_law(broken: type[DDPOSF], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_algorithm(broken(advantage=Standardised(), advantage_clip=5.0, **ALL_STEPS), iterations=2)


def test_the_fixed_point_of_another_algorithm_is_not_reached() -> None:
    algorithm = DDPOSF(advantage=Standardised(), advantage_clip=5.0, **ALL_STEPS)
    with pytest.raises(AssertionError, match=r"training ends at the fixed point: got .* need 0.831 / 0.254"):
        check_algorithm(
            algorithm,
            fixed_point=lambda _, reference: optimal_control(reference, QUADRATIC, 1.0, "local"),
            iterations=15,
            rollouts=512,
        )


def length(samples: Sequence[Tensor]) -> Tensor:
    return torch.stack([sample.square().mean() for sample in samples])


@pytest.mark.parametrize("task", [number_task(), cloud_task(length)], ids=["numbers", "clouds"])
def test_a_task_passes(task: Task) -> None:
    check_task(task)


class Placed(Clouds):
    """The size of a cloud depends on its place in the batch."""

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        return super().draw_context(range(len(samples)), key)


class Wordy(Points):
    def measure(self, samples: Sequence[Tensor]) -> dict[str, float]:
        return {"verdict": "good"}  # type: ignore[dict-item]


class Deaf(Task):
    def rollout(self, samples: Sequence[int], key: Key, group_size: int = 1) -> Rollouts:
        return super().rollout(samples, Key(0), group_size)


def test_a_broken_task_is_told_its_law() -> None:
    clouds, numbers = cloud_task(length), number_task()
    with pytest.raises(AssertionError, match="a sample is the same in any batch"):
        check_task(replace(clouds, decoder=Placed((4, 2, 3), 4, 5)))
    with pytest.raises(AssertionError, match=r"metrics are numbers: got no number for \['verdict'\]"):
        check_task(replace(numbers, decoder=Wordy()))
    with pytest.raises(AssertionError, match="another key draws other samples"):
        check_task(Deaf("deaf", numbers.policy, numbers.decoder, numbers.reward))


def test_the_batteries_know_no_domain_and_no_test_runner() -> None:
    folder = Path(molrl.testing.__file__).parent
    source = "\n".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    assert not re.search(r"molrl\.(models|rewards|data)|^\s*(import|from) pytest", source, re.MULTILINE)
