"""The task of fine-tuning a text-to-image pipeline toward a reward: the group `task=` for images."""

import torch

from molrl.data.images.prompts import prompt_list
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.memory import describe_memory
from molrl.models.images.pipeline import DTYPE_BY_NAME
from molrl.models.images.policy import ImagePolicy
from molrl.models.images.value import ImageValue
from molrl.task import Reward, Task


def image_task(*, name: str, policy: ImagePolicy, prompts: str, reward: Reward, device: torch.device) -> Task:
    """Return the task of fine-tuning a Stable Diffusion pipeline toward a reward.

    Args:
        name: what reports call it.
        policy: the pipeline, how it is sampled, and what of it is trained.
        prompts: a list by name (`molrl.data.images.prompts`), or a text file with one in each line.
        reward: of finished images.
        device: of the networks and their states.
    """
    texts = prompt_list(prompts)
    unet = policy.trainable()
    pipeline, source = policy.loaded
    built, note = policy.build(texts, device, trained=True)
    decoder = ImageDecoder(pipeline=pipeline, source=source, texts=texts, batch=policy.batch)
    size, guided = DTYPE_BY_NAME[policy.dtype].itemsize, policy.guidance_scale != 1
    print(describe_memory(unet, decoder.state_shape({}), batch=policy.batch, guided=guided, size=size))
    if note:
        print(f"scheduler: {note}")
    return Task(
        name=name,
        policy=built,
        decoder=decoder,
        reward=reward,
        device=device,
        value_network=lambda: ImageValue(unet.config.in_channels, len(texts)),
    )
