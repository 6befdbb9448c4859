"""`molrl evaluate` for images: what they show, how varied they are, and how near they are to training images."""

import json

import numpy as np

from molrl.data.images.captioned_files import read_captioned
from molrl.data.images.memorisation import nearest_distances
from molrl.data.images.metrics import image_metrics
from molrl.machine.files import replace_file
from molrl.progress import stage


def evaluate_images(file: str, reference: str | None, out: str | None) -> int:
    """Print the metrics of a folder or archive of captioned images and return the exit code.

    Args:
        file: as `molrl train` and `molrl sample` write it, or your own (`read_captioned`).
        reference: training images, for the distance of each image from the nearest of them; None: not measured.
        out: a JSON file for the metrics; None: no file.
    """
    with stage(f"reading {file}"):
        images = read_captioned(file)
    figures = {"n": float(len(images)), **image_metrics(images)}
    if reference is not None:
        with stage("comparison with the reference"):
            distances = nearest_distances(images, read_captioned(reference))
        figures |= {"nearest_median": float(np.median(distances)), "nearest_least": float(distances.min())}
    for name, value in figures.items():
        print(f"{name:20} {value:.4g}")
    if out is not None:
        known = {name: value if np.isfinite(value) else None for name, value in figures.items()}
        replace_file(out, (json.dumps(known, indent=1) + "\n").encode())
    return 0
