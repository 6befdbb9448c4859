"""A domain that is no part of the package is pretrained with a design of its own, and nothing else."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from molrl.config import ConfigError
from molrl.gaussian import Context, Euclidean, Space
from molrl.models.precondition import Preconditioned
from molrl.models.pretraining import SamplingSettings, count_parameters, pretrain, require_grid_power
from molrl.noise import Key
from molrl.policy import Policy
from molrl.pretraining import Bucket, Loss, Pretraining, denoising_loss
from molrl.samplers import DDIM, PowerGrid
from molrl.schedule import LogLinear
from molrl.task import Decoder

SCHEDULE = LogLinear(0.05, 10.0)


class Perceptron(nn.Module):
    """A network for single points of the plane."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x: Tensor, log_noise: Tensor, context: Context) -> Tensor:
        out: Tensor = self.layers(torch.cat([x, log_noise.view(-1, 1, 1).to(x).expand(len(x), 1, 1)], -1))
        return out


class CircleDecoder:
    """Points [2], measured by their distance from the origin."""

    def draw_context(self, samples: Sequence[int], key: Key) -> Context:
        return {}

    def state_shape(self, context: Context) -> tuple[int, ...]:
        return (1, 2)

    def decode(self, x0: Tensor, context: Context) -> Sequence[Any]:
        return list(x0[:, 0])

    def measure(self, samples: Sequence[Any]) -> Mapping[str, float]:
        return {"mean_radius": torch.stack([*samples]).norm(dim=1).mean().item(), "unknown": float("nan")}

    def groups(self, context: Context) -> Sequence[int]:
        return []


@dataclass
class CircleTrainee:
    denoiser: nn.Module
    batches: Sequence[Bucket]
    description: Mapping[str, Any]
    prepared: list[Path] = field(default_factory=list)
    space: Space = field(default_factory=Euclidean)
    sample_batch: int = 2
    progress_metrics: Mapping[str, str] = field(default_factory=lambda: {"radius": "mean_radius"})

    @property
    def loss(self) -> Loss:
        return cast(Loss, denoising_loss)

    @property
    def summary(self) -> str:
        return f"{len(self.batches[0])} points, {count_parameters(self.denoiser)} parameters"

    def warm_start(self, init: str) -> None:
        self.denoiser.load_state_dict(load_file(Path(init) / "weights.safetensors"))

    def check_sampling(self, sampling: SamplingSettings) -> None:
        self.policy(self.denoiser, sampling)

    def prepare(
        self, training: Pretraining, folder: Path, device: torch.device, should_stop: Callable[[], bool]
    ) -> None:
        self.prepared.append(folder)

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        folder.mkdir(exist_ok=True)
        save_file(dict(state), folder / "weights.safetensors")

    def load(self, folder: Path, sampling: SamplingSettings) -> tuple[Policy, Decoder]:
        denoiser = Preconditioned(Perceptron(self.description["width"]), SCHEDULE, [1.0, 1.0])
        denoiser.load_state_dict(load_file(folder / "weights.safetensors"))
        return self.policy(denoiser, sampling), CircleDecoder()

    @staticmethod
    def policy(denoiser: nn.Module, sampling: SamplingSettings) -> Policy:
        grid = PowerGrid(require_grid_power(sampling))
        sampler = DDIM(schedule=SCHEDULE, num_steps=sampling.num_steps, space=Euclidean(), eta=1.0, grid=grid)
        return Policy(denoiser, sampler)


@dataclass(frozen=True)
class CircleDesign:
    width: int
    domain: ClassVar[str] = "points of circles"
    data_argument: ClassVar[str] = "radius"

    def load_data(self, data: Callable[..., Any], init: str | None) -> Tensor:
        points: Tensor = data(radius=1.0)
        return points

    def fit(self, examples: Tensor) -> CircleTrainee:
        denoiser = Preconditioned(Perceptron(self.width), SCHEDULE, [1.0, 1.0])
        return CircleTrainee(denoiser, [Bucket(examples[:, None], {})], {"width": self.width})


def circle(*, radius: float) -> Tensor:
    """Return eight points of a circle around the origin."""
    angle = torch.arange(8) * torch.pi / 4
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def run(folder: Path, design: CircleDesign, data: Callable[..., Any] = circle, **changes: Any) -> int:
    numbers: dict[str, Any] = {
        **{"steps": 4, "batch": 8, "lr": 1e-2, "warmup": 1, "cooldown": 1, "ema": 0.9, "weight_decay": 0.0},
        **{"optimizer": "adamw", "time_mean": None, "time_std": None},
        **{"clip_norm": 1.0, "save_every": 2, "bf16": False, "compile": False, "seed": 0},
    }
    settings: dict[str, Any] = {
        **{"run": str(folder), "init": None, "device": "cpu", "evaluate": 3, "num_steps": 4, "grid_power": 1.0},
        **changes,
    }
    return pretrain(model=design, data=data, training=Pretraining(**numbers), config=settings, **settings)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model/weights.safetensors")


def test_a_design_is_all_that_a_domain_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run", CircleDesign(4)) == 0
    first, *steps, last = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path / 'run'}: 8 points, 26 parameters, 4 steps"
    assert [line.partition("/")[0] for line in steps] == ["step 2", "step 4"]
    assert all(", radius " in line for line in steps)
    assert last == f"model: {tmp_path / 'run/model'}"
    rows = [json.loads(line) for line in (tmp_path / "run/pretrain.jsonl").read_text().splitlines()]
    assert [(row["step"], row["unknown"]) for row in rows] == [(2, None), (4, None)]
    assert all(row["mean_radius"] > 0 for row in rows)


def test_random_numbers_of_the_data_set_do_not_reach_the_weights(tmp_path: Path) -> None:
    def data(*, radius: float) -> Tensor:
        torch.rand(5)
        return circle(radius=radius)

    for name, each in (("plain", circle), ("drawing", data)):
        run(tmp_path / name, CircleDesign(4), each)
    one, two = weights(tmp_path / "plain"), weights(tmp_path / "drawing")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_warm_start_takes_the_weights_over(tmp_path: Path) -> None:
    run(tmp_path / "one", CircleDesign(4))
    run(tmp_path / "cold", CircleDesign(4))
    run(tmp_path / "warm", CircleDesign(4), init=str(tmp_path / "one/model"))
    one, cold, warm = (weights(tmp_path / name) for name in ("one", "cold", "warm"))
    assert all(torch.equal(one[name], cold[name]) for name in one)
    assert not any(torch.equal(one[name], warm[name]) for name in one)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": lambda *, hydrogens: hydrogens}, "has no points of circles, and this model learns from points of"),
        ({"num_steps": 0}, "num_steps"),
        ({"grid_power": None}, "grid_power: got null"),
    ],
    ids=["data", "num_steps", "grid_power"],
)
def test_what_does_not_fit_is_refused_before_there_is_a_folder(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path / "run", CircleDesign(4), **changes)
    assert not (tmp_path / "run").exists()


def test_the_folder_of_another_model_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path / "run", CircleDesign(4))
    before = weights(tmp_path / "run")
    with pytest.raises(ConfigError, match="training of another model"):
        run(tmp_path / "run", CircleDesign(8))
    assert weights(tmp_path / "run").keys() == before.keys()
