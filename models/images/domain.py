"""Images as a domain: what the commands need to know of them. Heavy packages are imported when they are used."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molrl.domains import Sampling
from molrl.models.images.glossary import METRICS
from molrl.models.shipped import find_model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from molrl.models.images.policy import ImagePolicy
    from molrl.rewards.images.files import ImageFiles
    from molrl.task import Reward, Task

HUB_ID = re.compile(r"hub:[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
INDEX = "model_index.json"  # of a pipeline in diffusers' own format
LORA = "pytorch_lora_weights.safetensors"  # recognised so that loading it says what is missing

HEADLINE = (
    "validity",
    "bytes_per_pixel",
    "colour_entropy",
    "diversity",
)  # metrics that a line on the screen tells, the first one first


class ImageDomain:
    """Images of prompts, drawn by text-to-image pipelines."""

    name = "images"
    suffixes = (".zip",)
    glossary = METRICS
    headline: Mapping[str, str] = {name: METRICS[name].label for name in HEADLINE}

    def claims(self, path: Path) -> bool:
        """Tell whether a file is one of images: an archive with captions. Of a folder say domain=images."""
        return path.suffix.lower() in self.suffixes

    def recognises(self, source: str) -> bool:
        """Tell whether a model is a pipeline in diffusers' format, here or on the Hub, or a single file."""
        folder = find_model(source)
        if folder is None:
            single = source.endswith(".safetensors") and Path(source).is_file()
            return single or HUB_ID.fullmatch(source) is not None
        return any((folder / name).is_file() for name in (INDEX, LORA))

    def policy(self, **settings: Any) -> "ImagePolicy":
        """Return the settings of a policy."""
        from molrl.models.images.policy import ImagePolicy

        return ImagePolicy(**settings)

    def task(
        self,
        *,
        name: str,
        policy: "ImagePolicy",
        reward: "Reward",
        device: "torch.device",
        prompts: str | None = None,
    ) -> "Task":
        """Return the task of fine-tuning a policy toward a reward."""
        from molrl.models.images.task import image_task

        return image_task(name=name, policy=policy, prompts=prompts, reward=reward, device=device)

    def sampling(self, *, policy: "ImagePolicy", condition: Mapping[str, Any], device: "torch.device") -> Sampling:
        """Return what to draw images from, asked for a prompt or for a list of prompts, by default its own."""
        from molrl.data.images.prompts import prompt_list
        from molrl.models.images.decoder import ImageDecoder
        from molrl.models.images.own_prompts import own_prompts

        if unknown := condition.keys() - {"prompt", "prompts"}:
            raise ValueError(f"condition.{min(unknown)}: a model of images takes condition.prompt and prompts only")
        if "prompt" in condition:
            texts: tuple[str, ...] = (str(condition["prompt"]),)
        else:
            texts = prompt_list(str(condition["prompts"])) if "prompts" in condition else own_prompts(policy.loaded[1])
        pipeline, source = policy.loaded
        built, note = policy.build(texts, device, trained=False)
        decoder = ImageDecoder(pipeline=pipeline, source=source, texts=texts, batch=policy.batch, size=policy.pixels)
        return Sampling(built, decoder, [f"scheduler: {note}"] if note else [], batch=policy.batch)

    def source(self) -> "ImageFiles":
        """Return the reader of records for `molrl score`."""
        from molrl.rewards.images.files import ImageFiles

        return ImageFiles()

    def evaluate(self, *, file: str, reference: str | None, out: str | None, **settings: Any) -> int:
        """Print the metrics of a folder or archive of captioned images and return the exit code."""
        from molrl.config import check_arguments
        from molrl.models.images.evaluation import evaluate_images

        own = {"file": file, "reference": reference, "out": out, **settings}
        check_arguments(evaluate_images, own, "", partial=False)
        return evaluate_images(**own)

    def export(self, *, policy: "ImagePolicy", folder: Path) -> str:
        """Write the pipeline of a policy into an empty folder, and return the line that loads it in diffusers."""
        from molrl.models.images.export import write_merged

        return write_merged(policy, folder)

    def upgrade(
        self, description: Mapping[str, Any], weights: Mapping[str, "Tensor"]
    ) -> "tuple[dict[str, Any], dict[str, Tensor]] | None":
        """Return description and weights of format 2 for those of format 1; None for a model of another domain."""
        from molrl.models.images.migration import upgrade

        return upgrade(description, weights)


IMAGES = ImageDomain()
