"""The molecules of a file as clean states, by the numbers of their records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from molrl.data.files import Skipped
from molrl.data.molecules.files import stream
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.sdf_fields import read_field
from molrl.data.molecules.standardise import Fragments, Treatment
from molrl.models.molecules.codec import Codec
from molrl.preferences import RecordStates, keep_known


@dataclass(frozen=True)
class MoleculeRecords:
    """The records of a file of molecules, encoded as a model has them.

    Attributes:
        path: any file that `molrl score` reads.
        codec: codec of the model.
        fragments: see `Treatment`.
    """

    path: str
    codec: Codec
    fragments: Fragments = "keep"
    fields: dict[str, Mapping[int, str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self) -> RecordStates:
        """Return the states of the molecules that the model has a code for, read once.

        Raises:
            ValueError: there is none.
        """
        return self.states

    def field_values(self, name: str) -> Mapping[int, str]:
        """Return a field of an SDF by the number of the record, read once; see `read_field`."""
        if name not in self.fields:
            self.fields[name] = read_field(self.path, name)
        return self.fields[name]

    @cached_property
    def states(self) -> RecordStates:
        """Return the states, with a warning about the records without one."""
        entries = stream(self.path, self.codec.hydrogens, treatment=Treatment(self.fragments))
        numbers, known = keep_known(self.path, ((entry, self.problem(entry)) for entry in entries))
        x0, mask = self.codec.encode([entry for entry in known if isinstance(entry, Molecule)])
        return RecordStates(x0, {"mask": mask}, numbers)

    def problem(self, entry: Molecule | Skipped) -> str:
        """Return why the model has no state for a record; "" if it has one."""
        if isinstance(entry, Skipped):
            return str(entry)
        flat = len(entry) > 1 and not entry.positions.any()
        return f"{entry.name}: no geometry" if flat else self.codec.missing(entry)
