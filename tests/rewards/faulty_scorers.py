"""Scorers that fail in every way a plug-in can; they live here because worker processes must be able to import them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from molrl.data.molecules.bonds import Reading, edm_table
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.scores import PerSample, Scored


@dataclass(frozen=True)
class Square:
    """The square of a number."""

    def score_one(self, sample: Any, /) -> Scored:
        return Scored(sample * sample)


def fail() -> Scored:
    raise RuntimeError("no such molecule")


def leave() -> Scored:
    raise SystemExit(3)


FAULTS: Mapping[str, Callable[[], Any]] = {
    "hang": lambda: time.sleep(3600),
    "exit": lambda: os._exit(7),
    "quit": lambda: os._exit(0),
    "leave": leave,
    "segmentation fault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "raise": fail,
    "memory": lambda: Scored(float(len(bytearray(2**40)))),
    "nan": lambda: Scored(float("nan")),
    "infinity": lambda: Scored(float("inf")),
    "beyond float32": lambda: Scored(1e300),
    "none": lambda: None,
    "text": lambda: ("high", ""),
    "floor": lambda: Scored(-1.0, "bad: on purpose"),
}


@dataclass(frozen=True)
class Faulty:
    """The square of a number; the name of a fault instead of a number commits the fault."""

    def score_one(self, sample: Any, /) -> Any:
        return FAULTS[sample]() if isinstance(sample, str) else Scored(sample * sample)


@dataclass(frozen=True)
class ProcessId:
    """The process a sample was scored in."""

    def score_one(self, sample: Any, /) -> Scored:
        return Scored(float(os.getpid()))


@dataclass(frozen=True)
class LoadedTorch:
    """1 if the process has imported torch."""

    def score_one(self, sample: Any, /) -> Scored:
        return Scored(float("torch" in sys.modules))


@dataclass(frozen=True)
class Environment:
    """The integer value of an environment variable."""

    def score_one(self, sample: Any, /) -> Scored:
        return Scored(float(os.environ[sample]))


@dataclass(frozen=True)
class HangsAfterNote:
    """A scorer that writes its process into a file and hangs."""

    path: str

    def score_one(self, sample: Any, /) -> Scored:
        Path(self.path).write_text(str(os.getpid()), "ascii")
        time.sleep(3600)
        return Scored(0.0)


def start_child(note: Path, *, session: bool) -> None:
    """Start a process that would live for an hour, and write its number into a file."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=session)
    with note.open("a") as file:
        file.write(f"{child.pid}\n")


def fork(note: Path, generations: int) -> None:
    """Fork a child that forks another and so on, each of which notes its number and stays."""
    if generations and os.fork() == 0:
        with note.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if generations % 2:
            os.setsid()
        fork(note, generations - 1)
        time.sleep(3600)


@dataclass(frozen=True)
class LeavesChildren:
    """A scorer that starts processes, notes their numbers in a file, and then ends as the sample says.

    Attributes:
        note: the file.
    """

    note: str

    def score_one(self, sample: Any, /) -> Scored:
        if sample in ("hang", "exit", "segmentation fault", "stay"):
            start_child(Path(self.note), session=False)
            start_child(Path(self.note), session=True)
            fork(Path(self.note), 3)
            time.sleep(0.5)
            if sample in FAULTS:
                FAULTS[sample]()
        return Scored(0.0)


@dataclass(frozen=True)
class Weight(PerSample[Molecule]):
    """The number of heavy atoms; a molecule with the name of a fault commits it. Logs the names of its samples.

    Attributes:
        log: file that gets the names; "" for none.
        seconds: that every sample takes.
    """

    log: str = field(default="", compare=False)
    seconds: float = 0.0
    parts: ClassVar[tuple[str, ...]] = ("carbon",)

    def score_one(self, sample: Molecule, /) -> Any:
        if self.log:
            with Path(self.log).open("a", encoding="utf-8") as file:
                file.write(f"{sample.name}\n")
        time.sleep(self.seconds)
        return FAULTS[sample.name]() if sample.name in FAULTS else Scored(float((sample.numbers > 1).sum()))

    def explain(self, sample: Molecule) -> dict[str, float]:
        return {"carbon": float((sample.numbers == 6).sum())}


@dataclass(frozen=True)
class Half(Weight):
    """Half the number of heavy atoms, without parts and without faults."""

    parts: ClassVar[tuple[str, ...]] = ()

    def score_one(self, sample: Molecule, /) -> Scored:
        return Scored(0.5 * float((sample.numbers > 1).sum()))


def faulty_reader(molecule: Molecule) -> Reading:
    """Read bonds by EDM's table; a molecule with the name of a fault after "read" commits the fault."""
    fault = FAULTS.get(molecule.name.removeprefix("read "))
    if molecule.name.startswith("read ") and fault is not None:
        fault()
    return edm_table(molecule)


@dataclass(frozen=True)
class KillsItsParent:
    """The square of a number; at the first sample "kill" it kills the process that started this one.

    Attributes:
        mark: file that says that this has happened.
    """

    mark: str

    def score_one(self, sample: Any, /) -> Scored:
        if sample != "kill":
            return Scored(sample * sample)
        if not Path(self.mark).exists():
            Path(self.mark).touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(3600)
        return Scored(-1.0)
