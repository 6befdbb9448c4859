"""The task of fine-tuning a text-to-image pipeline toward a reward: the group `task=` for images."""

import torch

from molrl.data.images.prompts import prompt_list
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.families import family_of
from molrl.models.images.memory import describe_memory
from molrl.models.images.own_prompts import own_prompts
from molrl.models.images.pipeline import DTYPE_BY_NAME
from molrl.models.images.policy import ImagePolicy
from molrl.models.images.value import ImageValue
from molrl.task import Reward, Task


def image_task(*, name: str, policy: ImagePolicy, prompts: str | None, reward: Reward, device: torch.device) -> Task:
    """Return the task of fine-tuning a text-to-image pipeline toward a reward.

    Args:
        name: what reports call it.
        policy: the pipeline, how it is sampled, and what of it is trained.
        prompts: a list by name (`molrl.data.images.prompts`), or a text file with one in each line; None: those that
            come with the pipeline.
        reward: of finished images.
        device: of the networks and their states.
    """
    texts = prompt_list(prompts) if prompts else own_prompts(policy.loaded[1])
    network = policy.trainable()
    pipeline, source = policy.loaded
    built, note = policy.build(texts, device, trained=True)
    decoder = ImageDecoder(pipeline=pipeline, source=source, texts=texts, batch=policy.batch, size=policy.pixels)
    size, guided = DTYPE_BY_NAME[policy.dtype].itemsize, policy.guidance_scale != 1
    shape, family = decoder.state_shape({}), family_of(pipeline)
    tokens = 0 if family is None else family.tokens(shape) + family.max_tokens
    memory = describe_memory(
        network,
        shape,
        tokens=tokens,
        batch=policy.batch,
        guided=guided,
        size=size,
        text_encoders=list(policy.text_encoders().values()),
    )
    print(memory)
    if note:
        print(f"scheduler: {note}")
    return Task(
        name=name,
        policy=built,
        decoder=decoder,
        reward=reward,
        device=device,
        value_network=lambda: ImageValue(shape[0], len(texts)),
    )
