"""The domain of points: the one object that every command works with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molrl.domains import Sampling


class CircleDomain:
    """Points in the plane."""

    name = "circle"
    suffixes = (".circle",)
    headline: Mapping[str, str] = {"radius": "radius", "radius_error": "radius error"}

    def claims(self, path: Path) -> bool:
        return path.suffix in self.suffixes

    def recognises(self, source: str) -> bool:
        return False

    def policy(self, **settings: Any) -> Any:
        from circle.model import CirclePolicy

        return CirclePolicy(**settings)

    def task(self, *, name: str, policy: Any, reward: Any, device: Any) -> Any:
        from circle.model import CircleDecoder
        from molrl.task import Task

        return Task(name, policy.build(device), CircleDecoder(policy.model[1]), reward, device)

    def sampling(self, *, policy: Any, condition: Mapping[str, Any], device: Any) -> Sampling:
        from circle.model import CircleDecoder

        return Sampling(policy.build(device), CircleDecoder(policy.model[1]))

    def source(self) -> Any:
        from circle.files import PointFiles

        return PointFiles()

    def evaluate(self, *, file: str, reference: str | None, out: str | None) -> int:
        from circle.files import point_of, read_lines
        from circle.model import CircleDecoder

        measured = CircleDecoder(0).measure([point_of(line) for line in read_lines(file)])
        for name, label in self.headline.items():
            print(f"{label:<16}{measured[name]:.4f}")
        return 0

    def upgrade(self, description: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        return None


CIRCLE = CircleDomain()
