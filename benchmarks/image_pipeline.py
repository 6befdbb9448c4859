"""Measure a pipeline of scenes: captions that are all right by kind, the autoencoder's PSNR, and memorisation.

`python benchmarks/image_pipeline.py MODEL [PICTURES] [n=64] [steps=20] [guidance=1,3,5]` draws n images for each kind
of caption, trained with and held out, and prints tables in Markdown. PICTURES is the folder or archive of captioned
images that the model was also trained with; the fraction that `conf/data/images/scenes.yaml` holds out is compared with
samples of the other captions: a model that copies is nearer to its training images than images it has not seen.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from molrl.data.images.image import CaptionedImage
from molrl.data.images.memorisation import nearest_distances
from molrl.data.images.metrics import scene_metrics
from molrl.data.images.prompts import prompt_list
from molrl.data.images.scenes import KINDS, Scenes
from molrl.data.images.sets import captioned_set
from molrl.models.draws import draw_samples
from molrl.models.images.decoder import ImageDecoder
from molrl.models.images.pipeline import load_pipeline
from molrl.models.images.policy import image_policy
from molrl.models.images.pretraining import mean_psnr
from molrl.models.images.source import Source

SEED = 1
BATCH = 32
HELD_OUT = 0.05  # as in conf/data/images/scenes.yaml
TRAINED_SCENES = 4000  # of the 30,000, which distances are taken from
TESTED_SCENES = 256
CPU = torch.device("cpu")


def draw(loaded: tuple[Any, Source], texts: Sequence[str], n: int, steps: int, guidance: float) -> list[CaptionedImage]:
    """Draw n images of these captions, each equally likely."""
    pipeline, source = loaded
    policy, _ = image_policy(
        pipeline,
        texts,
        num_steps=steps,
        eta=1.0,
        guidance_scale=guidance,
        batch=BATCH,
        dtype=torch.float32,
        device=CPU,
    )
    decoder = ImageDecoder(pipeline=pipeline, source=source, texts=tuple(texts), batch=BATCH)
    return list(draw_samples(policy, decoder, n, seed=SEED, batch=BATCH, device=CPU))


def print_captions(loaded: tuple[Any, Source], n: int, steps: int, scales: Sequence[float]) -> None:
    """Print the fraction of captions that are all right, with its standard error, by kind and guidance."""
    print(f"\n| guidance | captions | {' | '.join(KINDS)} | seconds |\n|{'---|' * (len(KINDS) + 3)}")
    for guidance in scales:
        for suffix in ("", "_held_out"):
            start, cells = time.perf_counter(), []
            for kind in KINDS:
                right = scene_metrics(draw(loaded, prompt_list(f"scenes_{kind}{suffix}"), n, steps, guidance))["right"]
                cells.append(f"{right:.2f} ± {np.sqrt(right * (1 - right) / n):.2f}")
            name = "held out" if suffix else "trained with"
            print(f"| {guidance:g} | {name} | {' | '.join(cells)} | {time.perf_counter() - start:.0f} |", flush=True)


def print_distances(name: str, images: Sequence[CaptionedImage], training: Sequence[CaptionedImage]) -> None:
    """Print the median and the 5 % quantile of the distances from the nearest training image."""
    median, low = np.quantile(nearest_distances(images, training), [0.5, 0.05])
    print(f"| {name} | {len(images)} | {median:.4f} | {low:.4f} |", flush=True)


def main() -> None:
    """Print the tables of all parts."""
    settings = dict(item.split("=", 1) for item in sys.argv[1:] if "=" in item)
    model, *rest = [item for item in sys.argv[1:] if "=" not in item]
    n, steps = int(settings.get("n", 64)), int(settings.get("steps", 20))
    scales = [float(scale) for scale in settings.get("guidance", "1,3,5").split(",")]
    loaded = load_pipeline(model, None, torch.float32)
    edge = int(loaded[0].vae.config.sample_size)
    trained, tests = Scenes(0, edge), Scenes(0, edge, held_out=True)
    scenes = {"train": [trained[k] for k in range(TRAINED_SCENES)], "test": [tests[k] for k in range(TESTED_SCENES)]}
    pictures = captioned_set(path=rest[0], held_out=HELD_OUT, edge=edge) if rest else None

    print(f"PSNR of scenes: {mean_psnr(loaded[0].vae, scenes['test'], CPU):.2f} dB")
    if pictures is not None:
        print(f"PSNR of held-out pictures: {mean_psnr(loaded[0].vae, pictures.held_out, CPU):.2f} dB")
    print_captions(loaded, n, steps, scales)
    print("\n| images | number | median distance | 5 % quantile |\n|---|---|---|---|")
    best = scales[len(scales) // 2]
    print_distances("held-out scenes", scenes["test"], scenes["train"])
    print_distances("samples of scenes", draw(loaded, prompt_list("scenes"), n, steps, best), scenes["train"])
    if pictures is not None:
        print_distances("held-out pictures", pictures.held_out, pictures.train)
        samples = draw(loaded, pictures.texts, n, steps, best)
        print_distances("samples of pictures", samples, pictures.train)


if __name__ == "__main__":
    main()
