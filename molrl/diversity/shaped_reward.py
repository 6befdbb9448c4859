"""The reward that algorithms learn from where a run keeps variety."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from molrl.diversity import Described, Diversity


@dataclass(frozen=True)
class ShapedReward:
    """A reward with the factors of `Diversity` on it.

    Called with samples, such as the candidates of a step, it shapes their rewards by what is remembered, also under a
    gradient, in which the factors are constants. Samples of a round are remembered by `shape_round`, which
    `Task.rollout` calls.

    Attributes:
        reward: that is shaped.
        describe: of the decoder: the descriptors of samples.
        diversity: the factors and their memory.
    """

    reward: Callable[[Sequence[Any]], Tensor]
    describe: Callable[[Sequence[Any]], Described]
    diversity: Diversity

    @property
    def differentiable(self) -> bool:
        """Tell whether the reward has a gradient."""
        return bool(getattr(self.reward, "differentiable", False))

    @property
    def submit(self) -> Callable[[Sequence[Any]], Callable[[], Tensor]] | None:
        """Return the function that submits samples, where the reward is computed while others are drawn."""
        submit: Callable[[Sequence[Any]], Callable[[], Tensor]] | None = getattr(self.reward, "submit", None)
        if submit is None:
            return None

        def submit_shaped(samples: Sequence[Any]) -> Callable[[], Tensor]:
            wait = submit(samples)
            return lambda: self.shape(samples, wait())

        return submit_shaped

    def __call__(self, samples: Sequence[Any]) -> Float[Tensor, " n"]:
        """Return the shaped rewards of samples."""
        return self.shape(samples, self.reward(samples))

    def shape(self, samples: Sequence[Any], rewards: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Shape rewards that are known, and remember nothing."""
        return self.diversity.shape(self.describe(samples), rewards)

    def shape_round(self, samples: Sequence[Any], rewards: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Shape the rewards of a round, and remember its samples."""
        return self.diversity.shape_round(self.describe(samples), rewards)
