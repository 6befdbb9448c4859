"""A model at half the size, for shipping: `python benchmarks/half_size.py runs/drugs FOLDER`.

The averaged weights of a run of `molrl pretrain` are rounded to bfloat16, in which the network runs anyway; everything
else in the model's folder is copied. A model is loaded into float32 again. After `--mean` come checkpoints of a run of
`molrl train`, runs/mine/checkpoint/step_00000020 and so on, of whose weights the mean is taken (Izmailov et al. 2018,
arXiv:1803.05407).
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from molrl.models.shipped import locate
from molrl.runs import checkpoint


def halve(tensor: Tensor) -> Tensor:
    """Return floating-point numbers in bfloat16, and others as they are."""
    return tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor


def mean_weights(checkpoints: Sequence[Path]) -> dict[str, Tensor]:
    """Return the mean of the denoiser's weights in checkpoints of a run."""
    found = [load_file(folder / "denoiser.safetensors") for folder in checkpoints]
    return {name: torch.stack([one[name].float() for one in found]).mean(0) for name in found[0]}


def main() -> None:
    """Write the folder of the smaller model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a run or a model's folder")
    parser.add_argument("out", type=Path, help="folder of the smaller model")
    parser.add_argument("--mean", nargs="+", type=Path, help="checkpoints of a run of molrl train")
    arguments = parser.parse_args()
    tensors, values = checkpoint.load(locate(arguments.model))
    weights = dict(tensors["weights"])
    if arguments.mean:
        weights = mean_weights(arguments.mean)
    weights = {name: halve(tensor) for name, tensor in weights.items()}
    checkpoint.save(arguments.out, {**tensors, "weights": weights}, values)
    for file in locate(arguments.model).glob("reference.*"):  # the SMILES of the training set
        shutil.copyfile(file, arguments.out / file.name)
    size = sum(path.stat().st_size for path in arguments.out.iterdir())
    print(f"{arguments.out}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
