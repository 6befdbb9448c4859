"""The loop raises a reward, repeats itself bit for bit, and stops when it cannot learn."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from toy import UNMEASURED, always, last_state, lifted, number_task, quadratic, scored, unheard

from molrl.advantages import Regressed, Standardised, Tracker
from molrl.algos import Algorithm
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
from molrl.diagnostics import chain_kl
from molrl.finetune import FinetuneConfig, finetune, freeze_copy, minibatches
from molrl.noise import Key
from molrl.oracle.chain import Moments
from molrl.oracle.linear_gaussian import QUADRATIC, AffineDenoiser, Points, Values, make_sampler
from molrl.policy import Policy
from molrl.runs.checkpoints import CheckpointPolicy
from molrl.task import Metrics, Task
from molrl.trainable_parameters import trainable_module
from molrl.training_state import TrainingError

NAN = float("nan")
STEPS: dict[str, Any] = {"train_steps": 4, "first": 0.0, "last": 1.0}
CANDIDATES: dict[str, Any] = {
    **{"candidates": 2, "radius": 0.5, "temperature": 1.0, "states": 4, "first": 0.0, "last": 1.0},
    **{"lookahead": 1, "held": 1, "kl_weight": 0.1},
}
VALUES: dict[str, Any] = {"reward_weight": 1.0, "kl_weight": 0.1, "clip": 0.2, "critic_lr": 0.01, **STEPS}
MATCHING: dict[str, Any] = {
    **{"advantage": Standardised(), "advantage_clip": 2.0, "noisings": 8, "first": 0.0, "last": 1.0},
    **{"held": 0, "decay": 0.0, "old_weight": 0.0, "reference_weight": 0.1, "data_weight": 0.0},
}
GROUPS: dict[str, Any] = {
    **{"group_size": 4, "scale": "global", "advantage_clip": 5.0, "clip": 0.2, "kl_weight": 0.1, "window": 4},
    **{"first": 0.0, "last": 1.0, "schedule": "moving", "stride": 2, "every": 1, "shared_start": False},
}
PREFERENCES: dict[str, Any] = {
    **{"source": "policy", "preferences": None, "column": None, "group_size": 4, "pairs": 1},
    **{"margin": 0.0, "noisings": 8, "beta": 0.5, "likelihood": "joint"},
}
ALGORITHMS: dict[str, Algorithm] = {
    "DDPO": DDPO(clip=0.2, advantage_clip=5.0, advantage=Standardised(), kl_weight=0.1, **STEPS),
    "DDPO-SF": DDPOSF(advantage_clip=5.0, advantage=Tracker(buffer_size=32, min_count=16), **STEPS),
    "RGDM": RGDM(source="policy", guidance="candidates", **CANDIDATES),
    "RGDM-replay": RGDM(source="replay", guidance="candidates", **CANDIDATES),
    "RWR": RWR(temperature=0.5, noisings=8),
    "RWR-sparse": RWRSparse(quantile=0.5, noisings=8),
    "DPOK": DPOK(kl_mode="local", clip_mode="ppo", critic=True, **VALUES),
    "DPOK-full": DPOK(kl_mode="return_to_go", clip_mode="dpok", critic=False, **VALUES),
    "GRPO": GRPO(**GROUPS),
    "DRaFT": DRaFT(steps=3, kl_weight=0.1, held_out=UNMEASURED),
    "ReFL": ReFL(first=0.5, last=1.0, ceiling=None, anchor=0.1, held_out=UNMEASURED),
    "Adjoint": AdjointMatching(kl_weight=0.5, early=2, late=2, split=0.6, held_out=UNMEASURED),
    "DPO": DiffusionDPO(**PREFERENCES),
    "KL-D": SupervisedKLD(gamma=0.0, noisings=8),
    "KL-O": SupervisedKLO(gamma=0.5, noisings=8),
    "NFT": NFT(mixing=1.0, **{**MATCHING, "decay": 0.5}),
    "AWM": AWM(clip=0.5, **{**MATCHING, "advantage": Tracker(buffer_size=32, min_count=16), "old_weight": 1.0}),
    "EPG": EPG(**{**MATCHING, "old_weight": 1.0}),
    "PEPG": PEPG(**MATCHING),
    "RAM": RAM(temperature=2.0, **MATCHING),
    "Tilt": Tilt(tilt_step=0.5, implicit=True, **MATCHING),
}
SUPERVISED = ("KL-D", "KL-O")


def finetuning(**changes: Any) -> FinetuneConfig:
    settings: dict[str, Any] = {
        "iterations": 3,
        "rollouts": 16,
        "minibatch": 32,
        "epochs": 1,
        "optimizer": partial(torch.optim.AdamW, lr=0.03),
        "clip_norm": 1.0,
        "ratio_tolerance": 1e-3,
        "lost_limit": 0.5,
        "seed": 0,
        "save_every": 2,
        "fresh_optimizer": False,
        "keep": CheckpointPolicy(newest=3, best="reward", highest=True),
    }
    return FinetuneConfig(**{**settings, **changes})


def run(task: Task, algorithm: Algorithm, folder: Path | None = None, **changes: Any) -> list[Metrics]:
    seen: list[Metrics] = []
    start = number_task().policy  # the reference is where training began, not where it goes on
    finetune(finetuning(**changes), task, algorithm, freeze_copy(start), folder, seen.append)
    return seen


def weights(task: Task) -> dict[str, Tensor]:
    return dict(trainable_module(task.policy).state_dict())


def untimed(rounds: Sequence[Metrics]) -> list[Metrics]:
    return [{name: value for name, value in seen.items() if "seconds" not in name} for seen in rounds]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_reward_rises(name: str) -> None:
    """The supervised methods imitate the reference's samples, most of them: they move less."""
    task = number_task(lifted)
    seen = run(task, ALGORITHMS[name], iterations=12, rollouts=40)
    denoiser = task.policy.denoiser
    assert isinstance(denoiser, AffineDenoiser)
    gain = QUADRATIC.expected(last_state(task.policy)) - QUADRATIC.expected(Moments(0.5, 0.318))
    assert gain > (0.05 if name in SUPERVISED else 0.2)
    assert seen[-1]["kl"] > seen[0]["kl"] == 0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_same_seed_gives_the_same_run(name: str) -> None:
    one, two, other = number_task(lifted), number_task(lifted), number_task(lifted)
    assert untimed(run(one, ALGORITHMS[name])) == untimed(run(two, ALGORITHMS[name]))
    assert_close(weights(one), weights(two), rtol=0, atol=0)
    run(other, ALGORITHMS[name], seed=1)
    assert (weights(other)["shift"] != weights(one)["shift"]).any()


def test_a_run_that_broke_off_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    class Broke(Exception):
        pass

    def breaking(metrics: Metrics) -> None:
        if metrics["iteration"] == 2:
            raise Broke

    whole, broken, resumed = number_task(), number_task(), number_task()
    expected = run(whole, ALGORITHMS["DDPO"], iterations=5)
    with pytest.raises(Broke):
        finetune(finetuning(iterations=5), broken, ALGORITHMS["DDPO"], freeze_copy(broken.policy), tmp_path, breaking)
    seen = run(resumed, ALGORITHMS["DDPO"], tmp_path, iterations=5)
    assert untimed(seen) == untimed(expected[2:])
    assert_close(weights(resumed), weights(whole), rtol=0, atol=0)


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    first, again = number_task(), number_task()
    run(first, ALGORITHMS["DDPO"], tmp_path)
    assert run(again, ALGORITHMS["DDPO"], tmp_path) == []
    assert_close(weights(again), weights(first), rtol=0, atol=0)


def test_the_reference_stays_where_it_is() -> None:
    task = number_task()
    reference = freeze_copy(task.policy)
    finetune(finetuning(), task, ALGORITHMS["DDPO"], reference, None, unheard)
    assert all((value == 0).all() for value in trainable_module(reference).state_dict().values())
    assert not any(parameter.requires_grad for parameter in trainable_module(reference).parameters())
    assert (weights(task)["shift"] != 0).any()


def test_a_few_missing_rewards_are_reported_and_left_out() -> None:
    def some(samples: Sequence[Tensor]) -> Tensor:
        rewards = quadratic(samples)
        rewards[::4] = NAN
        return rewards

    task = number_task(some)
    for seen in run(task, ALGORITHMS["DDPO"]):
        assert seen["reward_lost"] == pytest.approx(0.25)
        assert seen["reward"] == seen["reward"]  # a number
    assert all(value.isfinite().all() for value in weights(task).values())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_too_many_missing_rewards_stop_the_run(name: str) -> None:
    def lost(samples: Sequence[Any]) -> Tensor:
        return torch.full((len(samples),), NAN)

    lost.differentiable = True  # type: ignore[attr-defined]
    task = number_task(lost)
    with pytest.raises(TrainingError, match="100% of 16 samples could not be scored, more than the 50% allowed: the"):
        run(task, ALGORITHMS[name])


@pytest.mark.parametrize(
    "rewards", [torch.zeros(3), torch.zeros(16, 1), torch.tensor(0.0), [0.0] * 16], ids=["few", "column", "one", "list"]
)
def test_rewards_of_another_shape_stop_the_run(rewards: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a tensor of shape \(16,\), one number per sample"):
        run(number_task(scored(rewards)), ALGORITHMS["DDPO"])


class Forgetful(nn.Module):
    """The toy's denoiser, with a part of its output dropped at random while it is in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.denoiser = AffineDenoiser(make_sampler())
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, t: Tensor, context: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.dropout(self.denoiser(x, t, context))
        return out


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in SUPERVISED])
def test_a_denoiser_that_is_not_the_same_twice_stops_the_run(name: str) -> None:
    torch.manual_seed(0)
    task = Task("forgetful", Policy(Forgetful(), make_sampler()), Points(), quadratic, value_network=Values)
    with pytest.raises(TrainingError, match="do not evaluate the same policy"):
        finetune(finetuning(), task, ALGORITHMS[name], freeze_copy(task.policy), None, unheard)
    assert all((parameter == 0).all() for parameter in trainable_module(task.policy).parameters())


def test_a_gradient_that_is_no_number_updates_nothing() -> None:
    task = number_task()
    parameter = trainable_module(task.policy).get_parameter("shift")
    parameter.register_hook(lambda gradient: gradient * NAN)
    with pytest.raises(TrainingError, match="gradient norm is nan"):
        run(task, ALGORITHMS["DDPO"])
    assert (parameter == 0).all()


def test_a_flat_reward_leaves_the_policy_where_it_is() -> None:
    for algorithm in (ALGORITHMS["DDPO-SF"], ALGORITHMS["RGDM"]):
        task = number_task(lambda samples: torch.ones(len(samples)))
        run(task, algorithm, iterations=1)
        assert all((value == 0).all() for value in weights(task).values())


def test_each_round_has_as_many_updates_as_minibatches() -> None:
    seen = run(number_task(), ALGORITHMS["DDPO"], iterations=1, epochs=3, minibatch=24)
    assert seen[0]["updates"] == 3 * 3  # 16 rollouts of 4 steps make 64 rows
    assert seen[0]["max_abs_log_ratio_first"] <= 1e-3


def test_every_row_is_in_one_minibatch_of_an_epoch() -> None:
    batches = list(minibatches(finetuning(epochs=2, minibatch=4), 10, Key(0, 1)))
    assert [len(rows) for rows in batches] == [4, 3, 3] * 2
    epochs = [torch.cat(batches[:3]), torch.cat(batches[3:])]
    assert all(sorted(rows.tolist()) == list(range(10)) for rows in epochs)
    assert (epochs[0] != epochs[1]).any()


def test_the_kl_of_a_chain_is_the_sum_over_its_steps() -> None:
    """Every mean moved by 0.3 of its std: ten steps of 0.3^2 / 2."""
    task = number_task()
    reference = freeze_copy(task.policy)
    table = task.policy.rollout({}, lambda _: torch.randn(8, 1)).transitions(torch.zeros(8))
    assert chain_kl(task.policy, reference, table) == 0
    with torch.no_grad():
        trainable_module(task.policy).get_parameter("shift").add_(0.3)
    assert chain_kl(task.policy, reference, table) == pytest.approx(10 * 0.3**2 / 2, rel=1e-3)


def test_a_denoiser_without_parameters_cannot_be_trained() -> None:
    policy = Policy(always(torch.zeros(16, 1)), make_sampler())
    with pytest.raises(TypeError, match="torch module"):
        run(Task("fixed", policy, Points(), quadratic), ALGORITHMS["DDPO"])


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("patterns", ["shift", ["s*t", "shift"]])
def test_parameters_that_are_not_asked_for_stay_as_they_are(name: str, patterns: Any) -> None:
    task = number_task(lifted)
    before = {name: value.clone() for name, value in weights(task).items()}
    run(task, ALGORITHMS[name], trainable_parameters=patterns)
    assert [name for name, value in weights(task).items() if not value.equal(before[name])] == ["shift"]


def test_a_run_of_some_parameters_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    tasks = [number_task(lifted), number_task(lifted), number_task(lifted)]
    run(tasks[0], ALGORITHMS["DDPO"], iterations=4, trainable_parameters="shift")
    run(tasks[1], ALGORITHMS["DDPO"], tmp_path, iterations=2, trainable_parameters="shift")
    run(tasks[2], ALGORITHMS["DDPO"], tmp_path, iterations=4, trainable_parameters="shift")
    assert_close(weights(tasks[2]), weights(tasks[0]), rtol=0, atol=0)


@pytest.mark.parametrize("patterns", ["shaft", ["shift", "layers.*"], "", []])
def test_a_name_that_no_parameter_has_is_refused(patterns: Any) -> None:
    with pytest.raises(
        ValueError, match=r"trainable_parameters: got \[.*no parameter that can learn is so called; some are "
    ):
        run(number_task(quadratic), ALGORITHMS["DDPO"], trainable_parameters=patterns)


def test_a_line_over_conditions_that_are_no_amounts_is_refused() -> None:
    task = number_task(quadratic)
    algorithm = DDPO(clip=0.2, advantage_clip=5.0, advantage=Regressed(), kl_weight=0.1, **STEPS)
    with pytest.raises(ValueError, match=r"advantage.kind: got linear, .*those of Points are not"):
        run(task, algorithm)


@pytest.mark.parametrize("name", ["iterations", "rollouts", "minibatch", "epochs", "save_every"])
def test_numbers_below_one_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        finetuning(**{name: 0})
