"""The weights that ship in the package are the trained ones, to the bit, whatever their parameters are called."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from molrl.models.images.classifier import load_image_classifier
from molrl.models.molecules.model import load
from molrl.models.shapes.classifier import load_classifier
from molrl.models.shapes.model import load_shapes
from molrl.models.shipped import SHIPPED
from molrl.runs import checkpoint

# Recorded from the weights as they were trained, before their parameters were renamed.
RECORDED = json.loads((Path(__file__).parent / "data" / "shipped_weights.json").read_text())
MOLECULES, SHAPES = ("qm9_heavy", "qm9_all"), ("shapes",)
CLASSIFIERS = ("shape_classifier", "shape_judge", "shape_kinds", "shape_kind_judge")
IMAGE_CLASSIFIERS = ("scene_classifier", "scene_judge")
# The networks run in float64. Their constants (frequencies, centres) are float32 and may differ by one unit in the last
# place between processors. Moving every frequency by that much moves no output by more than 4e-7; ten times that is
# allowed.
TOLERANCE = 4e-6


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return one SHA-256 of all values, in the order of each tensor's own digest: names do not count."""
    each = [
        hashlib.sha256(
            f"{value.dtype} {tuple(value.shape)} ".encode() + value.flatten().view(torch.uint8).numpy().tobytes()
        ).digest()
        for value in tensors.values()
    ]
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()


def wave(*shape: int) -> Tensor:
    """Return numbers of about unit size that no random generator has to reproduce."""
    count = torch.Size(shape).numel()
    return (1.7 * torch.arange(count, dtype=torch.float64).square().remainder(61)).sin().view(shape)


def outputs(name: str) -> Tensor:
    """Return the first outputs of a shipped network on a fixed input, float64."""
    with torch.no_grad():
        if name in CLASSIFIERS:
            found = load_classifier(name).double()(wave(2, 40, 3))
        elif name in IMAGE_CLASSIFIERS:
            found = load_image_classifier(name).double()(wave(2, 3, 64, 64))
        elif name in SHAPES:
            network = load_shapes(name).denoiser.double()
            found = network(wave(2, 7, 3), torch.tensor([0.3, 0.8]).double(), {"class": torch.tensor([1, 4])})
        else:
            model = load(name)
            x, mask = wave(2, 5, 3 + model.codec.features), torch.ones(2, 5, dtype=torch.bool)
            x[..., :3] -= x[..., :3].mean(1, keepdim=True)
            found = model.denoiser.double()(x, torch.tensor([0.3, 0.8]).double(), {"mask": mask})
    return torch.as_tensor(found).flatten(1)[:, :8]


def weights_of(name: str) -> dict[str, Tensor]:
    (folder,) = SHIPPED.glob(f"*/{name}")
    return checkpoint.load(folder)[0]["weights"]


def test_every_shipped_model_of_ours_is_recorded() -> None:
    assert {path.parent.name for path in SHIPPED.glob("*/*/manifest.json")} == RECORDED.keys()


@pytest.mark.parametrize("name", RECORDED)
def test_every_weight_has_the_value_it_was_trained_to(name: str) -> None:
    assert digest(weights_of(name)) == RECORDED[name]["weights"]


@pytest.mark.parametrize("name", RECORDED)
def test_every_weight_is_where_it_was_trained(name: str) -> None:
    """Two weights of one shape that changed places would leave the digest as it is, but not the outputs."""
    expected = torch.tensor(RECORDED[name]["outputs"], dtype=torch.float64)
    assert_close(outputs(name), expected, rtol=0, atol=TOLERANCE)
