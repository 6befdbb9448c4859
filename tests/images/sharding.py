"""Short runs of a text-to-image model whose frozen weights the processes share, and the script that launchers start.

`python sharding.py FOLDER PIPELINE` leaves samples, rewards, weights and metrics of every case in FOLDER, by process;
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
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
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
from molrl.machine.processes import SINGLE_PROCESS, Processes, connect_processes
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.guided_unet import GuidedUNet
from molrl.noise import Key
from molrl.samplers import DDIM
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


class WideDecoder(ImageDecoder):
    """A decoder of images with an autoencoder of float64."""

    def decode_latents(self, x0: Tensor) -> Tensor:
        vae = self.pipeline.vae
        drawn: Tensor = vae.decode(x0.double() / vae.config.scaling_factor, return_dict=False)[0]
        return (drawn / 2 + 0.5).clamp(0, 1)


def wide(task: Task) -> Task:
    """Return the task in float64; draws, rewards and outputs of a UNet stay float32."""
    decoder, policy, values = task.decoder, task.policy, task.value_network
    assert isinstance(decoder, ImageDecoder)
    assert isinstance(policy.denoiser, GuidedUNet)
    assert isinstance(policy.sampler, DDIM)
    assert values is not None
    policy.denoiser.unet.double().register_forward_pre_hook(in_double, with_kwargs=True)
    decoder.pipeline.vae.double()
    settings = {field.name: getattr(decoder, field.name) for field in fields(decoder)}
    return replace(
        task,
        policy=replace(policy, sampler=widened(policy.sampler)),
        decoder=WideDecoder(**settings),
        value_network=lambda: values().double(),
    )


def in_double(_: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    """Return the inputs of a network in float64."""
    return tree_map_only(Tensor, as_double, inputs), tree_map_only(Tensor, as_double, named)


def as_double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def outcome(case: Case, pipeline: Path, world: Processes = SINGLE_PROCESS) -> Result:
    """Return the samples before training, and the adapter after two rounds."""
    settings = {"num_steps": 4, "guidance_scale": 2.0, **case.task, "shard": world.size > 1}
    task = wide(tiny_task(pipeline, reward=some_lost if case.lost else brightness, **settings))
    task = replace(task, processes=replace(world, lockstep=world.size > 1))
    drawn = task.rollout(list(range(8)), Key(5))
    seen: list[Metrics] = []
    loop = {"iterations": 2, "rollouts": 8, "ratio_tolerance": 0.01, "optimizer": partial(torch.optim.SGD, lr=0.1)}
    finetune(finetuning(**loop, **case.settings), task, case.algorithm, freeze_copy(task.policy), None, seen.append)
    pixels = torch.stack([torch.from_numpy(image.pixels) for image in drawn.samples])
    tensors = {"samples": pixels, "rewards": drawn.rewards, **trainable_module(task.policy).state_dict()}
    return Result(tensors, untimed(seen))


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
    with connect_processes(WAIT) as world:
        for name, case in CASES.items():
            tensors, metrics = outcome(case, pipeline, world)
            save_file(tensors, Path(what) / f"{name}.{world.rank}.safetensors")
            (Path(what) / f"{name}.{world.rank}.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except (RuntimeError, ValueError) as error:
        sys.exit(complain(error, exit_code_of(error)))
