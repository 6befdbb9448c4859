"""A task: a policy, what it is asked for, and how its finished samples are judged."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.gaussian import Context
from molrl.machine.processes import ALONE, Processes
from molrl.noise import Key
from molrl.policy import Policy
from molrl.reward_queue import RewardQueue, parts
from molrl.trajectory import Trajectory, joined

if TYPE_CHECKING:
    from PIL.Image import Image

Metrics = dict[str, float]
CPU = torch.device("cpu")


class Reward(Protocol):
    """Finished samples in, one float each, in order; NaN: this one could not be scored (it is never trained on).

    One with `submit(samples) -> Callable[[], Tensor]` is worked on while other samples are drawn
    (`molrl.reward_queue`).
    """

    def __call__(self, samples: Sequence[Any], /) -> Float[Tensor, " b"]:
        """A bad sample has the reward's stated floor."""
        ...


class Decoder(Protocol):
    """What the trainers need to know of molecules, shapes or images: nothing but this."""

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """Conditions of the samples with these indices: sizes, classes, prompts."""
        ...

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """Shape of one sample's state."""
        ...

    def decode(self, x0: Float[Tensor, "b ..."], context: Context) -> Sequence[Any]:
        """Finished samples from clean states."""
        ...

    def measure(self, samples: Sequence[Any]) -> Mapping[str, float]:
        """Held-out metrics: shown and logged, never optimised."""
        ...

    def groups(self, context: Context) -> Sequence[int]:
        """A number per sample; samples with equal numbers were asked for the same thing."""
        ...


class SampleDecoder(Decoder, Protocol):
    """A decoder whose samples can be written and drawn and whose models can be kept: what a run in a folder needs.

    Attributes:
        suffixes: of the files that `write` makes, the default first.
    """

    suffixes: ClassVar[tuple[str, ...]]

    def write(self, samples: Sequence[Any], path: Path, values: Mapping[str, Sequence[float]]) -> int:
        """Write a file of finished samples, each with its values; return the number of those that are sound."""
        ...

    def assess(self, samples: Sequence[Any]) -> Mapping[str, float]:
        """Return the metrics before and after a run: those of `measure`, where that leaves nothing out for speed."""
        ...

    def draw(self, samples: Sequence[Any], captions: Sequence[str]) -> "Image":
        """Return one image of the samples in a grid."""
        ...

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """Write a model folder that the domain can load again."""
        ...


@dataclass(frozen=True)
class Rollouts:
    """A scored rollout.

    Of several processes, each has the trajectory of its own b samples and, to compare them, the rewards of all n.

    Attributes:
        trajectory: states and log-probabilities.
        samples: finished samples, all n.
        rewards: float32 [n], NaN where a sample could not be scored.
        seconds: "rollout": of sampling and decoding; "reward": of handing out samples and waiting for their rewards,
            without what workers did during the rollout.
        first: where among the n this process's samples begin.
    """

    trajectory: Trajectory
    samples: Sequence[Any]
    rewards: Float[Tensor, " n"]
    seconds: Mapping[str, float]
    first: int = 0

    @property
    def own(self) -> slice:
        """Where among the n this process's samples are."""
        return slice(self.first, self.first + self.trajectory.log_prob.shape[1])


@dataclass(frozen=True)
class Task:
    """Policy, decoder and reward.

    Attributes:
        name: what reports call it.
        device: of the policy and its states.
        value_network: makes a network V(x_t, t, context) -> [b] of the state's symmetries, for the algorithms that
            learn a value function; None: the task has none to offer.
        data: draws clean states and their context, for the algorithms that learn from real samples as well.
        processes: that share the rollouts.
    """

    name: str
    policy: Policy
    decoder: Decoder
    reward: Reward
    device: torch.device = CPU
    value_network: Callable[[], nn.Module] | None = None
    data: Callable[[Sequence[int], Key], tuple[Tensor, Context]] | None = None
    processes: Processes = ALONE

    def rollout(self, samples: Sequence[int], key: Key, group_size: int = 1) -> Rollouts:
        """Sample, decode and score; the result for a sample index does not depend on the others in the batch.

        Samples i with the same i // group_size are asked for the same thing, by the same process.
        """
        start = time.perf_counter()
        context = self.decoder.draw_context([sample // group_size for sample in samples], key)
        shape = self.decoder.state_shape(context)
        whole = {name: value.to(self.device) for name, value in context.items()}
        share = self.processes.share(len(samples), group_size)
        samples, context = samples[share], {name: value[share] for name, value in whole.items()}
        queue, trajectories = RewardQueue(self.reward), list[Trajectory]()
        for part in parts(len(samples), math.prod(shape), self.device):
            own = {name: value[part] for name, value in context.items()}
            trajectories.append(self.policy.rollout(own, partial(self.noise, samples[part], key, shape)))
            queue.submit(self.decoder.decode(trajectories[-1].final, own))
        rewards = self.processes.gather(queue.results().to(self.device))
        trajectory = joined(trajectories, context)
        finished = queue.samples if len(samples) == len(rewards) else self.decoded(trajectory, whole)
        seconds = {"rollout": time.perf_counter() - start - queue.seconds, "reward": queue.seconds}
        return Rollouts(trajectory, finished, rewards, seconds, share.start)

    def decoded(self, trajectory: Trajectory, whole: Context) -> Sequence[Any]:
        """The finished samples of all processes. States travel, samples do not: they may be anything."""
        return self.decoder.decode(self.processes.gather(trajectory.final), whole)

    def noise(self, samples: Sequence[int], key: Key, shape: Sequence[int], draw: int) -> Tensor:
        """Noise of the samples with these indices: draw 0 is for the prior, k + 1 for step k."""
        return key.normal(samples, draw + 1, shape).to(self.device)


@contextlib.contextmanager
def opened(reward: Any) -> Iterator[None]:
    """Start a reward that has workers, and stop them whatever happens."""
    if hasattr(reward, "start"):
        reward.start()
    try:
        yield
    finally:
        if hasattr(reward, "close"):
            reward.close()
