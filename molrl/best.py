"""The best model of a run: the checkpoints that its rounds praise most, measured again.

The mean reward of a round is noisy, and the largest of many such means is larger than what the model is worth. So the
best few checkpoints and the last one are measured again, all on the same fresh samples; the best of these is kept, and
its value is that on the samples of before and after, which have chosen nothing.
"""

import json
import math
import sys
from dataclasses import dataclass
from typing import Any, cast

from molrl.measurement import Measurement, measure
from molrl.noise import Key, Stream
from molrl.policy import Policy
from molrl.runs.checkpoints import CheckpointPolicy, Series
from molrl.runs.errors import CheckpointError
from molrl.task import SampleDecoder, Task
from molrl.trainable_parameters import trainable_module
from molrl.training_state import Candidates, read_candidates

BEST = "best"  # folder of the best model, beside the last one's model/


@dataclass(frozen=True)
class BestModel:
    """The choice among the checkpoints of a run.

    Attributes:
        task: whose denoiser takes the weights of one checkpoint after the other.
        reference: the policy before training.
        series: the checkpoints.
        keep: the metric, and whether higher is better.
        count: samples that each candidate is measured on.
        seed: of the run.
    """

    task: Task
    reference: Policy
    series: Series
    keep: CheckpointPolicy
    count: int
    seed: int

    def save(self, after: Measurement | None) -> dict[str, Any] | None:
        """Write the best model; return its round, the metric and its value, or None where nothing tells of any.

        All processes call it together, or with `after` None only the main one. The task's denoiser is changed.

        Args:
            after: the measurement of the last weights; None: there is none, and the values of the rounds decide.
        """
        if (choice := self.choose(after)) is None:
            return None
        best, value = choice
        self.load(best)
        if self.task.processes.is_main:
            decoder = cast(SampleDecoder, self.task.decoder)
            decoder.save(trainable_module(self.task.policy), self.series.folder.parent / BEST)
        return {"iteration": best, "metric": self.keep.best, "value": value}

    def choose(self, after: Measurement | None) -> tuple[int, float] | None:
        """Return the number of rounds behind the best checkpoint, and what it is worth."""
        world = self.task.processes
        candidates = self.candidates() if world.is_main else []
        final = math.nan if after is None else after.metric(self.keep.best)
        if after is not None:
            candidates = json.loads(world.gather_strings(json.dumps(candidates))[0])
        if math.isnan(final) or not candidates:  # no metric of finished samples: rounds alone tell of it
            return next(((step, value) for step, value in candidates if not math.isnan(value)), None)
        *steps, last = (step for step, _ in candidates)
        return self.measured_best(steps, last, final)

    def candidates(self) -> Candidates:
        """Return the candidates that can be read, best first by their rounds, and the last checkpoint at the end."""
        if (last := self.series.latest()) is None:
            return []
        found = Candidates()
        for step, value in read_candidates(last.values):
            try:
                self.series.read(step)
            except CheckpointError as error:
                print(f"molrl: a checkpoint that may be the best is lost: {error}", file=sys.stderr)
            else:
                found.append((step, value))
        return [*found, (last.step, math.nan)]

    def measured_best(self, steps: list[int], last: int, final: float) -> tuple[int, float]:
        """Return the best of these checkpoints and the last one by a new measurement, and its value.

        Args:
            steps: the candidates.
            last: the last checkpoint.
            final: its value on the samples of before and after.
        """
        best, value = last, math.nan
        for step in dict.fromkeys([*steps, last]) if set(steps) - {last} else ():
            new = self.measure(step, Stream.SELECTION)
            if self.keep.improves(new, value):
                best, value = step, new
        return best, final if best == last else self.measure(best, Stream.MEASUREMENT)

    def measure(self, step: int, stream: Stream) -> float:
        """Return the metric of a checkpoint on samples of their own noise."""
        self.load(step)
        label = f"best: the model after {step} iterations"
        found = measure(self.task, self.reference, None, label, count=self.count, key=Key(self.seed, stream))
        return found.metric(self.keep.best)

    def load(self, step: int) -> None:
        """Load the weights of a checkpoint into the denoiser of the task."""
        trainable_module(self.task.policy).load_state_dict(self.series.read(step).tensors["denoiser"])
