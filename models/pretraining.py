"""Pretraining of any domain's model: fit a design to a data set, train it, and report the quality of its samples.

A domain takes part with a `Design`, which the `model` node of the settings builds, and the `Trainee` that it makes of
a data set. Nothing here names a domain.
"""

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from molrl.config import ConfigError, settings
from molrl.gaussian import Space
from molrl.machine.device import choose_device, computes_bfloat16, warn_of_slow_bfloat16
from molrl.machine.files import read_text, replace_file
from molrl.machine.interruption import defer_interruption
from molrl.machine.memory import enough_memory
from molrl.models.draws import draw_samples
from molrl.policy import Policy
from molrl.pretraining import Bucket, Loss, Pretraining
from molrl.progress import note_output, stage
from molrl.runs.automatic import decide
from molrl.runs.folder import AUTO, claim, refuse_another
from molrl.runs.snapshot import seed_generators
from molrl.runs.tracking import PRETRAINING_FILE, append_row
from molrl.task import Decoder

FREE_SETTINGS = (  # may change on resumption
    *("evaluate", "training.steps", "training.cooldown", "training.save_every"),
    *("data.workers", "data.cache"),
)
MODEL_FOLDER, DESCRIPTION_FILE = "model", "architecture.json"  # in the run's folder
MAX_DESCRIPTION_BYTES = 1 << 22


@dataclass(frozen=True)
class SamplingSettings:
    """The settings of the chain that draws samples for a progress report.

    Attributes:
        num_steps: steps of the chain.
        grid_power: spacing of its times; None for a domain whose grid is not for the user to choose.
        device: device of the denoiser and of its states.
    """

    num_steps: int
    grid_power: float | None
    device: torch.device


class Trainee(Protocol):
    """A model with random weights and its training set, in the form that training needs."""

    @property
    def denoiser(self) -> nn.Module:
        """Return the module to train, whose `state_dict` is averaged."""
        ...

    @property
    def space(self) -> Space:
        """Return the space of its states."""
        ...

    @property
    def batches(self) -> Sequence[Bucket]:
        """Return the training set as clean states; asked for after `prepare`."""
        ...

    @property
    def loss(self) -> Loss:
        """Return the loss to minimise."""
        ...

    @property
    def summary(self) -> str:
        """Return the size of the training set and of the model, for the first line that is printed."""
        ...

    @property
    def description(self) -> Mapping[str, Any]:
        """Return plain data that tells this model and data set from others, so that no folder mixes two of them."""
        ...

    @property
    def progress_metrics(self) -> Mapping[str, str]:
        """Return the measured figures of the progress line: label -> name of the metric."""
        ...

    @property
    def sample_batch(self) -> int:
        """Return the number of samples to draw at a time."""
        ...

    def warm_start(self, init: str) -> None:
        """Take over the weights of another model: a shipped one by name, or a folder."""
        ...

    def check_sampling(self, sampling: SamplingSettings) -> None:
        """Raise ValueError where no chain of this model has such settings."""
        ...

    def prepare(
        self, training: Pretraining, folder: Path, device: torch.device, should_stop: Callable[[], bool]
    ) -> None:
        """Do what comes before the training of the denoiser, continuing from the run's folder."""
        ...

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write the model with these weights of its denoiser into a folder of its own."""
        ...

    def load(self, folder: Path, sampling: SamplingSettings) -> tuple[Policy, Decoder]:
        """Load a model that `save` wrote, ready to draw samples and to measure them."""
        ...


class Design(Protocol):
    """A model that has not met its data set yet: what the `model` node of the settings builds."""

    domain: ClassVar[str]
    """Noun, in the plural, of what the model draws and learns from, for messages."""
    data_argument: ClassVar[str]
    """The keyword argument that a data set of this domain takes, and no other does."""

    def load_data(self, data: Callable[..., Any], init: str | None) -> Any:
        """Call the data set with the argument that this model needs, and drop what it cannot learn from.

        Args:
            init: model whose weights training starts from, which may know what the data alone would not teach.
        """
        ...

    def fit(self, examples: Any) -> Trainee:
        """Take the statistics of what `load_data` returned, and build the model with random weights."""
        ...


def pretrain(
    *,
    model: Design,
    data: Callable[..., Any],
    training: Pretraining,
    run: str,
    init: str | None,
    device: str,
    evaluate: int,
    num_steps: int,
    grid_power: float | None,
    config: Mapping[str, Any],
) -> int:
    """Train a model, report the quality of its samples along the way, and return the exit code of `molrl pretrain`.

    Args:
        run: folder of the run; the model is its `model`.
        init: model whose weights training starts from; None: random weights.
        evaluate: number of samples drawn at every report.
        config: the settings that all this was composed from; the folder keeps them.
    """
    folder, place = Path(run), choose_device(device)
    if training.bf16 == AUTO:
        config = decide(config, "training.bf16", lambda: computes_bfloat16(place))
        training = replace(training, bf16=config["training"]["bf16"])
    if training.bf16:
        warn_of_slow_bfloat16("training.bf16=true", place)
    refuse_another(config, FREE_SETTINGS)
    refuse_other_data(data, model)
    with stage("reading the data set"):
        examples = model.load_data(data, init)
    seed_generators(training.seed)  # last thing before weights are drawn
    with stage("fitting the model to the statistics of the data set"):
        trainee = model.fit(examples)
    if init is not None:
        trainee.warm_start(init)
    sampling = SamplingSettings(num_steps, grid_power, place)
    with settings():
        trainee.check_sampling(sampling)
    trainee.denoiser.to(place)
    print(f"{folder}: {trainee.summary}, {training.steps} steps", flush=True)
    report = Report(trainee, folder, training, sampling, evaluate)
    with (
        claim(config, FREE_SETTINGS),
        defer_interruption("this step") as request,
        enough_memory("training.batch or evaluate"),
    ):
        refuse_other_model(folder, trainee.description)
        with stage("preparing the training set"):
            trainee.prepare(training, folder, place, request.is_set)
        request.raise_if_requested()
        training.run(trainee.denoiser, trainee.space, trainee.batches, folder, report, request.is_set, trainee.loss)
    request.raise_if_requested()
    print(f"model: {folder / MODEL_FOLDER}")
    return 0


@dataclass(frozen=True)
class Report:
    """A progress report: save the averaged weights, load them afresh, draw samples and measure them.

    Attributes:
        count: number of samples.
    """

    trainee: Trainee
    folder: Path
    training: Pretraining
    sampling: SamplingSettings
    count: int

    def __call__(self, metrics: Mapping[str, float], average: Mapping[str, Tensor]) -> None:
        """Append a row to the run's pretrain.jsonl and print one line."""
        self.trainee.save(self.folder / MODEL_FOLDER, average)
        measured = self.measure()
        figures = {name: None if math.isnan(value) else value for name, value in measured.items()}
        append_row(self.folder / PRETRAINING_FILE, {**metrics, **figures}, "step")
        progress = f"step {metrics['step']:.0f}/{self.training.steps} loss {metrics['loss']:.4f}"
        labelled = [f"{label} {measured[name]:.4f}" for label, name in self.trainee.progress_metrics.items()]
        print(", ".join([progress, *labelled, f"{metrics['seconds']:.0f} s"]), flush=True)
        note_output()

    def measure(self) -> Mapping[str, float]:
        """Return the metrics of samples that are drawn from the saved model."""
        policy, decoder = self.trainee.load(self.folder / MODEL_FOLDER, self.sampling)
        samples = draw_samples(
            policy,
            decoder,
            self.count,
            seed=self.training.seed,
            batch=self.trainee.sample_batch,
            device=self.sampling.device,
        )
        with stage("measuring the samples"):
            return decoder.measure(samples)


def count_parameters(*modules: nn.Module) -> int:
    """Return the number of parameters of some modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def require_grid_power(sampling: SamplingSettings) -> float:
    """Return the grid power of a domain that needs one.

    Raises:
        ValueError: there is none.
    """
    if sampling.grid_power is None:
        raise ValueError("grid_power: got null, need a number")
    return sampling.grid_power


def refuse_other_data(data: Callable[..., Any], design: Design) -> None:
    """Raise ConfigError for a data set of another domain, which does not take what this one asks for."""
    if design.data_argument not in inspect.signature(data).parameters:
        name = getattr(getattr(data, "func", data), "__name__", type(data).__name__)
        raise ConfigError(f"data: {name} has no {design.domain}, and this model learns from {design.domain}")


def refuse_other_model(folder: Path, description: Mapping[str, Any]) -> None:
    """Raise ConfigError where the folder holds the training of another model; else note this one's description."""
    path = folder / DESCRIPTION_FILE
    text = json.dumps(description, indent=1) + "\n"
    if path.exists() and read_text(path, MAX_DESCRIPTION_BYTES, errors="replace") != text:
        raise ConfigError(
            f"run={folder} holds the training of another model or of another data set; name another folder"
        )
    replace_file(path, text.encode())
