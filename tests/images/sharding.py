"""Short runs of a text-to-image model whose frozen weights the processes share, and the script that launchers start.

`python sharding.py FOLDER PIPELINE` leaves samples, rewards, weights and metrics of every case in FOLDER, by process,
those of flows for a pipeline that is one; `python sharding.py calls FOLDER` leaves one call of every family's network;
`python sharding.py leave PIPELINE` is a run that its last process leaves.

The network and the decoder compute in float64 (see `sharing`), so that a pixel is rounded to the same of 256 values
whatever the kernels, and rewards, which are means of pixels, do not jump by a 255th of one.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from sharing import WAIT, Result, widened
from test_finetune import ALGORITHMS, finetuning, untimed
from tiny_images import PROMPTS, brightness, tiny_task
from torch import Tensor
from torch.utils._pytree import tree_map_only

from molrl.algos import Algorithm
from molrl.cli import complain
from molrl.data.images.image import CaptionedImage
from molrl.exit_codes import exit_code_of
from molrl.finetune import finetune, freeze_copy
from molrl.flow import FlowSDE
from molrl.gaussian import Context
from molrl.machine.processes import SINGLE_PROCESS, Processes, connect_processes
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.families import family_of
from molrl.models.images.guided_network import GuidedNetwork
from molrl.models.images.lora import LORA
from molrl.noise import Key
from molrl.task import Metrics, Task
from molrl.trainable_parameters import trainable_module


class Case(NamedTuple):
    """An algorithm, settings of the loop and of the task, and whether images of one prompt lose their reward."""

    algorithm: Algorithm
    settings: Mapping[str, Any] = {}
    task: Mapping[str, Any] = {}
    lost: bool = False


SHORT = {"num_steps": 2}
CASES = {
    "DDPO": Case(ALGORITHMS["DDPO"]),
    "parts of a batch": Case(ALGORITHMS["DDPO"], {"microbatch": 5}, {**SHORT, "batch": 2, "checkpointing": True}),
    "few rows": Case(ALGORITHMS["DDPO"], {"minibatch": 3, "microbatch": 1}, SHORT, lost=True),  # some of one process
    "DPOK": Case(ALGORITHMS["DPOK"], {"minibatch": 7}, SHORT),
    "RWR": Case(ALGORITHMS["RWR"], {"minibatch": 20}, SHORT),
    "RGDM": Case(ALGORITHMS["RGDM"]),
}


def some_lost(samples: Sequence[CaptionedImage]) -> Tensor:
    values = brightness(samples)
    return values.masked_fill(torch.tensor([sample.prompt == PROMPTS[0] for sample in samples]), torch.nan)


FLOW = {"num_steps": 3, "eta": 0.7, "size": [16, 16], "guidance_scale": 2.0}
FLOW_CASES = {
    "DDPO": Case(ALGORITHMS["DDPO"], {}, FLOW),
    "DPOK, text encoders": Case(ALGORITHMS["DPOK"], {"minibatch": 7}, {**FLOW, "text_rank": 2, "negative_prompt": "a"}),
    "lost": Case(
        ALGORITHMS["DDPO"], {"minibatch": 3, "microbatch": 1}, {**FLOW, "text_rank": 2, "batch": 2}, lost=True
    ),
}


def cases_of(pipeline: Path) -> dict[str, Case]:
    """Return the cases of a kind of pipeline."""
    return FLOW_CASES if (pipeline / "transformer").is_dir() else CASES


class WideDecoder(ImageDecoder):
    """A decoder of images with an autoencoder of float64."""

    def decode_latents(self, x0: Tensor) -> Tensor:
        vae, family = self.pipeline.vae, family_of(self.pipeline)
        scaled = x0.double() / vae.config.scaling_factor if family is None else family.to_vae(vae, x0.double())
        drawn: Tensor = vae.decode(scaled, return_dict=False)[0]
        return (drawn / 2 + 0.5).clamp(0, 1)


class WideFlow(FlowSDE):
    """A flow's chain on states of float64."""

    def prior(self, noise: Tensor, context: Context) -> Tensor:
        return super().prior(noise.double(), context)


def wide_sampler(sampler: Any) -> Any:
    if not isinstance(sampler, FlowSDE):
        return widened(sampler)
    return WideFlow(**{field.name: getattr(sampler, field.name) for field in fields(sampler) if field.init})


def wide(task: Task) -> Task:
    """Return the task in float64; draws and rewards stay float32."""
    decoder, policy, values = task.decoder, task.policy, task.value_network
    assert isinstance(decoder, ImageDecoder)
    assert isinstance(policy.denoiser, GuidedNetwork)
    assert values is not None
    policy.denoiser.double().network.double().register_forward_pre_hook(in_double, with_kwargs=True)
    for encoder in policy.denoiser.text.encoders.values() if policy.denoiser.text else ():
        encoder.double()
    decoder.pipeline.vae.double()
    settings = {field.name: getattr(decoder, field.name) for field in fields(decoder)}
    return replace(
        task,
        policy=replace(policy, sampler=wide_sampler(policy.sampler)),
        decoder=WideDecoder(**settings),
        value_network=lambda: values().double(),
    )


def in_double(_: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    """Return the inputs of a network in float64."""
    return tree_map_only(Tensor, as_double, inputs), tree_map_only(Tensor, as_double, named)


def as_double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def outcome(case: Case, pipeline: Path, world: Processes = SINGLE_PROCESS) -> Result:
    """Return samples before training, the adapter after two rounds, and, of the first process, what is saved of it."""
    settings = {"num_steps": 4, "guidance_scale": 2.0, **case.task, "shard": world.size > 1}
    task = wide(tiny_task(pipeline, reward=some_lost if case.lost else brightness, **settings))
    task = replace(task, processes=replace(world, lockstep=world.size > 1))
    drawn = task.rollout(list(range(8)), Key(5))
    seen: list[Metrics] = []
    loop = {"iterations": 2, "rollouts": 8, "ratio_tolerance": 0.01, "optimizer": partial(torch.optim.SGD, lr=0.1)}
    finetune(finetuning(**loop, **case.settings), task, case.algorithm, freeze_copy(task.policy), None, seen.append)
    pixels = torch.stack([torch.from_numpy(image.pixels) for image in drawn.samples])
    tensors = {"samples": pixels, "rewards": drawn.rewards, **trainable_module(task.policy).state_dict()}
    return Result({**tensors, **(saved(task) if world.is_main else {})}, untimed(seen))


def saved(task: Task) -> dict[str, Tensor]:
    """Return the LoRA that a run leaves."""
    with TemporaryDirectory() as folder:
        assert isinstance(task.decoder, ImageDecoder)
        task.decoder.save(trainable_module(task.policy), Path(folder))
        return {f"saved {name}": value for name, value in load_file(Path(folder) / LORA).items()}


def call(pipeline: Path, *, shard: bool) -> dict[str, Tensor]:
    """Return what a flow's network predicts for some states, and the gradient of a sum of it by the adapter."""
    task = tiny_task(pipeline, **{**FLOW, "guidance_scale": 1.0}, checkpointing=True, shard=shard)
    denoiser, generator = trainable_module(task.policy), torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    x, signal = (torch.randn(3, *task.decoder.state_shape({}), generator=generator) for _ in range(2))
    output = denoiser(x, torch.tensor([0.3, 0.6, 0.9]), {"prompt": torch.tensor([0, 1, 0])})
    (signal * output).sum().backward()
    gradients = {name: p.grad for name, p in denoiser.named_parameters() if p.grad is not None}
    return {"output": output.detach(), **gradients}


def leave(pipeline: Path) -> None:
    """End the last process at the second call of its reward."""
    with connect_processes(WAIT) as world:
        calls = 0

        def reward(samples: Sequence[CaptionedImage]) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 2 and world.rank == world.size - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return brightness(samples)

        task = tiny_task(pipeline, reward=reward, shard=True)
        task = replace(task, processes=replace(world, lockstep=True))
        loop = finetuning(iterations=2, rollouts=8, ratio_tolerance=0.01)
        finetune(loop, task, ALGORITHMS["DDPO"], freeze_copy(task.policy), None, lambda _: None)


def main(what: str, pipeline: Path) -> None:
    """Run every case, or the run that fails, in the processes that a launcher started."""
    if what == "leave":
        leave(pipeline)
        return
    if what == "calls":
        with connect_processes(WAIT) as world:
            for folder in sorted(path.parent for path in pipeline.glob("*/transformer")):
                save_file(call(folder, shard=True), pipeline / f"{folder.name}.{world.rank}.safetensors")
        return
    with connect_processes(WAIT) as world:
        for name, case in cases_of(pipeline).items():
            tensors, metrics = outcome(case, pipeline, world)
            save_file(tensors, Path(what) / f"{name}.{world.rank}.safetensors")
            (Path(what) / f"{name}.{world.rank}.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except (RuntimeError, ValueError) as error:
        sys.exit(complain(error, exit_code_of(error)))
