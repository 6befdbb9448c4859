"""The shapes of a file or folder as clean states, by the numbers of their records."""

from dataclasses import dataclass, replace
from functools import cached_property

from molrl.data.files import Skipped
from molrl.data.shapes.cloud import PointCloud
from molrl.data.shapes.records import DEFAULT_READER
from molrl.models.shapes.decoder import ShapeDecoder
from molrl.preferences import RecordStates, keep_known


@dataclass(frozen=True)
class ShapeRecords:
    """The records of a file or folder of shapes, with the classes and number of points of a decoder."""

    path: str
    decoder: ShapeDecoder

    def __call__(self) -> RecordStates:
        """Return the states of the shapes that the model knows, read once.

        Raises:
            ValueError: there is none.
        """
        return self.states

    @cached_property
    def states(self) -> RecordStates:
        """Return the states, with a warning about the records without one."""
        (points, _), architecture = self.decoder.state_shape({}), self.decoder.model.architecture
        reader = replace(DEFAULT_READER, points=points, manifold=False)
        entries = map(reader.point_cloud, reader.records(self.path))
        numbers, known = keep_known(self.path, ((entry, self.problem(entry, points)) for entry in entries))
        x0, classes = architecture.encode([entry for entry in known if isinstance(entry, PointCloud)])
        return RecordStates(x0, {"class": classes}, numbers)

    def problem(self, entry: PointCloud | Skipped, points: int) -> str:
        """Return why the model has no state for a record; "" if it has one."""
        if isinstance(entry, Skipped):
            return str(entry)
        if len(entry) != points:
            return f"{entry.name}: {len(entry)} points, the states have {points}"
        classes = self.decoder.class_names
        return "" if entry.label in classes else f"{entry.name}: class {entry.label!r}, known are {', '.join(classes)}"
