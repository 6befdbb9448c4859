"""A task: a policy, the decoder of its domain, and the reward of finished samples."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molrl.diversity.shaped_reward import ShapedReward
from molrl.gaussian import Context
from molrl.machine.processes import SINGLE_PROCESS, Processes
from molrl.noise import ChainNoise, Key
from molrl.policy import Choose, Policy
from molrl.preferences import RecordStates
from molrl.reward_queue import RewardQueue, parts
from molrl.timing import Stopwatch
from molrl.trajectory import Trajectory, join_trajectories, move_context, select

if TYPE_CHECKING:
    from PIL.Image import Image

    from molrl.exhibit import Counts, Exhibit

Metrics = dict[str, float]
CPU = torch.device("cpu")


class Reward(Protocol):
    """A function of finished samples: one float each, in order; NaN where a sample could not be scored.

    A sample without a reward is never trained on. A reward with `submit(samples) -> Callable[[], Tensor]` is computed
    while other samples are drawn (`molrl.reward_queue`).
    """

    def __call__(self, samples: Sequence[Any], /) -> Float[Tensor, " b"]:
        """Score each sample; a bad one has the reward's stated floor."""
        ...


class Decoder(Protocol):
    """Everything that the trainers know of molecules, shapes or images."""

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        """Draw the conditions of the samples with these indices: sizes, classes, prompts."""
        ...

    def state_shape(self, context: Context) -> tuple[int, ...]:
        """Return the shape of the state of one sample."""
        ...

    def decode(self, x0: Float[Tensor, "b ..."], context: Context) -> Sequence[Any]:
        """Make finished samples of clean states."""
        ...

    def measure(self, samples: Sequence[Any]) -> Mapping[str, float]:
        """Compute held-out metrics, which are logged and never optimised."""
        ...

    def groups(self, context: Context) -> Sequence[int]:
        """Return a number per sample, equal for samples with equal conditions."""
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

    def describe_changes(self, before: Mapping[str, float], after: Mapping[str, float], n: int) -> Sequence[str]:
        """Describe in plain words what changed between two assessments of n samples that a reward does not show."""
        ...

    def exhibit(self, samples: Sequence[Any]) -> "Sequence[Exhibit]":
        """Return each sample as the gallery of a report shows it."""
        ...

    def count_makeup(self, samples: Sequence[Any]) -> "Mapping[str, Counts]":
        """Return distributions of what samples are made of, by title, which a report compares before and after."""
        ...

    def draw(self, samples: Sequence[Any], captions: Sequence[str]) -> "Image":
        """Return one image of the samples in a grid."""
        ...

    def save(self, denoiser: nn.Module, folder: Path) -> None:
        """Write a model folder that the domain can load again."""
        ...


@dataclass(frozen=True)
class Rollouts:
    """A scored rollout of n samples.

    With several processes, each holds the trajectory of its own b samples and the rewards of all n.

    Attributes:
        trajectory: states and log-probabilities.
        samples: finished samples, all n.
        rewards: float32 [n], what algorithms learn from; NaN where a sample could not be scored.
        seconds: "rollout": of sampling; "decode": of making finished samples of states; "reward": of submitting samples
            and waiting for their rewards, without the time that workers computed during the rollout.
        first: index among the n of this process's first sample.
        unshaped: what the reward gave, where a run keeps variety (`molrl.diversity`); None: `rewards` are just that.
    """

    trajectory: Trajectory
    samples: Sequence[Any]
    rewards: Float[Tensor, " n"]
    seconds: Mapping[str, float]
    first: int = 0
    unshaped: Float[Tensor, " n"] | None = None

    @property
    def scores(self) -> Float[Tensor, " n"]:
        """Return what the reward gave, for reports."""
        return self.rewards if self.unshaped is None else self.unshaped

    @property
    def own(self) -> slice:
        """Return the slice of the n samples that this process holds."""
        return slice(self.first, self.first + self.trajectory.log_prob.shape[1])


@dataclass(frozen=True)
class Task:
    """A policy, the decoder of its domain, and a reward.

    Attributes:
        name: of the task in reports.
        device: of the policy and its states.
        value_network: makes a network V(x_t, t, context) -> [b] with the symmetries of the state, for algorithms that
            learn a value function; None: the task has none.
        data: draws clean states and their context, for algorithms that learn from real samples; None: there are none.
        records: reads the states of a file of samples by record, for algorithms that learn from preferences about them;
            None: there is no such file.
        processes: the processes that share the rollouts.
    """

    name: str
    policy: Policy
    decoder: Decoder
    reward: Reward
    device: torch.device = CPU
    value_network: Callable[[], nn.Module] | None = None
    data: Callable[[Sequence[int], Key], tuple[Tensor, Context]] | None = None
    records: Callable[[], RecordStates] | None = None
    processes: Processes = SINGLE_PROCESS

    def rollout(self, samples: Sequence[int], key: Key, group_size: int = 1) -> Rollouts:
        """Sample, decode and score; the result for a sample index does not depend on the others in the batch.

        Samples with the same index // group_size have the same condition, and are drawn by the same process.
        """
        start = time.perf_counter()
        context = self.decoder.draw_context([sample // group_size for sample in samples], key)
        shape = self.decoder.state_shape(context)
        all_contexts = move_context(context, self.device)
        share = self.processes.share(len(samples), group_size)
        samples, context = samples[share], select(all_contexts, share)
        shaped = self.reward if isinstance(self.reward, ShapedReward) else None
        scorer = shaped.reward if shaped else self.reward
        queue, trajectories, decoding = RewardQueue(scorer), list[Trajectory](), Stopwatch()
        for part in parts(len(samples), math.prod(shape), self.device):
            noise = ChainNoise(key, samples[part], shape, self.device)
            trajectories.append(self.policy.rollout(select(context, part), noise))
            with decoding:
                decoded = self.decoder.decode(trajectories[-1].final, trajectories[-1].context)
            queue.submit(decoded)
        rewards = self.processes.gather(queue.results().to(self.device))
        trajectory = join_trajectories(trajectories, context)
        with decoding:
            finished = queue.samples if len(samples) == len(rewards) else self.decode_all(trajectory, all_contexts)
        sampling = time.perf_counter() - start - decoding.seconds - queue.seconds
        seconds = {"rollout": sampling, "decode": decoding.seconds, "reward": queue.seconds}
        if shaped is None:
            return Rollouts(trajectory, finished, rewards, seconds, share.start)
        learned = shaped.shape_round(finished, rewards)
        return Rollouts(trajectory, finished, learned, seconds, share.start, unshaped=rewards)

    def decode_all(self, trajectory: Trajectory, contexts: Context) -> Sequence[Any]:
        """Decode the samples of all processes from their gathered states; samples may be of any type and stay."""
        return self.decoder.decode(self.processes.gather(trajectory.final), contexts)


def sample_chains(
    policy: Policy,
    decoder: Decoder,
    samples: Sequence[int],
    key: Key,
    device: torch.device,
    choose: Choose | None = None,
) -> Trajectory:
    """Draw the conditions of the samples with these indices and run their chains, all in one batch."""
    context = decoder.draw_context(samples, key)
    noise = ChainNoise(key, samples, decoder.state_shape(context), device)
    return policy.rollout(move_context(context, device), noise, choose)


@contextlib.contextmanager
def open_reward(reward: Any) -> Iterator[None]:
    """Start the workers of a reward that has some, and stop them in any case."""
    if hasattr(reward, "start"):
        reward.start()
    try:
        yield
    finally:
        if hasattr(reward, "close"):
            reward.close()
