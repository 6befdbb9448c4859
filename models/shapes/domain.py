"""Shapes as a domain: what the commands need to know of them. Heavy packages are imported when they are used."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molrl.domains import Sampling
from molrl.models.shapes.glossary import METRICS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from molrl.data.shapes.records import ShapeReader
    from molrl.models.shapes.policy import ShapePolicy
    from molrl.rewards.shapes.files import ShapeFiles
    from molrl.task import Reward, Task

POINTS = ("points.npy", "coords.npy")  # arrays that make an .npz file one of point clouds

HEADLINE = (
    "validity",
    "one_nna",
    "coverage",
    "diversity",
    "stable_fraction",
)  # metrics that a line on the screen tells, the first one first


class ShapeDomain:
    """Point clouds, in the unit box with y up."""

    name = "shapes"
    suffixes = (".off", ".obj", ".stl", ".ply", ".glb", ".gltf", ".pts", ".pcd", ".npy", ".npz")
    glossary = METRICS
    headline: Mapping[str, str] = {name: METRICS[name].label for name in HEADLINE}

    def claims(self, path: Path) -> bool:
        """Tell whether a file or folder is one of shapes; an .npz file is, where it holds points."""
        kind = path.suffix.lower()
        if path.is_dir():
            return kind not in (".sdf", ".mol", ".xyz", ".smi", ".txt", ".csv")
        if kind != ".npz" or not zipfile.is_zipfile(path):
            return kind in self.suffixes and kind != ".npz"
        with zipfile.ZipFile(path) as archive:
            return bool(set(POINTS) & set(archive.namelist()))

    def recognises(self, source: str) -> bool:
        """Tell whether a model without our description is one of shapes: none is."""
        return False

    def policy(self, **settings: Any) -> "ShapePolicy":
        """Return the settings of a policy."""
        from molrl.models.shapes.policy import ShapePolicy

        return ShapePolicy(**settings)

    def task(
        self,
        *,
        name: str,
        policy: "ShapePolicy",
        reward: "Reward",
        device: "torch.device",
        classes: str | Sequence[str] | None = None,
        records: str | None = None,
    ) -> "Task":
        """Return the task of fine-tuning a policy toward a reward."""
        from molrl.models.shapes.task import shape_task

        own: dict[str, Any] = {"classes": classes, "data": None, "records": records}
        return shape_task(name=name, policy=policy, reward=reward, device=device, **own)

    def sampling(
        self, *, policy: "ShapePolicy", condition: Mapping[str, Any], device: "torch.device", meshes: bool = False
    ) -> Sampling:
        """Return what to draw shapes from, asked for a class, and how to write them."""
        from molrl.models.shapes.decoder import ShapeDecoder

        if unknown := condition.keys() - {"class"}:
            raise ValueError(f"condition.{min(unknown)}: a model of shapes takes condition.class only")
        decoder = ShapeDecoder(model=policy.model, points=policy.points, classes=condition.get("class"), meshes=meshes)
        return Sampling(policy.build(device), decoder)

    def source(self, *, reader: "ShapeReader") -> "ShapeFiles":
        """Return the reader of records for `molrl score`."""
        from molrl.rewards.shapes.files import ShapeFiles

        return ShapeFiles(reader)

    def evaluate(self, *, file: str, reference: str | None, out: str | None, **settings: Any) -> int:
        """Print the metrics of a file or folder of shapes and return the exit code."""
        from molrl.config import check_arguments
        from molrl.models.shapes.evaluation import evaluate_shapes

        own = {"file": file, "reference": reference, "out": out, **settings}
        check_arguments(evaluate_shapes, own, "", partial=False)
        return evaluate_shapes(**own)

    def upgrade(
        self, description: Mapping[str, Any], weights: Mapping[str, "Tensor"]
    ) -> "tuple[dict[str, Any], dict[str, Tensor]] | None":
        """Return description and weights of format 2 for those of format 1; None for a model of another domain."""
        from molrl.models.shapes.migration import upgrade

        return upgrade(description, weights)


SHAPES = ShapeDomain()
