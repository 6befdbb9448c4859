"""The longest silence of each command: how long a person who looks on is told nothing.

    python benchmarks/silences.py                all commands, in a temporary folder
    python benchmarks/silences.py train sample   those whose name begins with one of these words

Output goes to a pipe, so it must be plain lines. A silence lasts from the start of a process or the end of a line to
the next line or the end of the process. The limit is `molrl.progress.SILENCE` and what a busy machine adds.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SMALL = "iterations=2 rollouts=96 evaluate=128"
SHORT = "training.steps=20 training.save_every=10"
COMMANDS = {
    "sample molecules": "sample n=60 out=new.sdf",
    "sample shapes": "sample policy=shapes n=40 out=new.npz",
    "sample images": "sample policy=images n=16 out=new.zip",
    "score molecules": "score new.sdf reward=strain allow_failures=true",
    "score shapes": "score new.npz reward=shape_stability",
    "evaluate molecules": "evaluate new.sdf reference=qm9_heavy",
    "evaluate shapes": "evaluate new.npz",
    "train molecules": f"train task=qed {SMALL} run=molecules",
    "train shapes": f"train task=stability algo=ddpo {SMALL} run=shapes",
    "train images": f"train task=compressibility algo=ddpo {SMALL} run=images",
    "pretrain molecules": f"pretrain model=heavy data=enumerated data.n=2000 {SHORT} run=a",
    "pretrain, compiled": f"pretrain model=heavy data=enumerated data.n=200 {SHORT} training.compile=true run=b",
    "pretrain shapes": f"pretrain model=shapes data.n=500 {SHORT} run=c",
    "pretrain images": f"pretrain model=images data.n=500 {SHORT} run=d",
    "oracle": "oracle algo=dpok",
}


class Watched(NamedTuple):
    """The time, the output and the end of a command that was watched.

    Attributes:
        seconds: in all.
        silence: the longest, seconds.
        before: the line that ended it; empty: the end of the process.
        plain: every line was printable.
        code: the exit code.
    """

    seconds: float
    silence: float
    before: str
    plain: bool
    code: int


def watch(words: list[str], folder: Path) -> Watched:
    """Run a command of molrl and return what was seen of it."""
    command = [sys.executable, "-m", "molrl", *words]
    began = last = time.monotonic()
    silences, plain = list[tuple[float, str]](), True
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            silences.append((time.monotonic() - last, line.rstrip("\n")))
            plain &= line.rstrip("\n").isprintable()
            last = time.monotonic()
    silences.append((time.monotonic() - last, ""))
    return Watched(time.monotonic() - began, *max(silences), plain, process.returncode)


def main(wanted: list[str]) -> int:
    """Print a row for each command and return 1 where one was no success or not plain."""
    print("| command | seconds | longest silence, s | plain lines | exit code |\n|---|---|---|---|---|", flush=True)
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        for name, command in COMMANDS.items():
            if not wanted or name.startswith(tuple(wanted)):
                seen = watch(command.split(), Path(folder))
                plain = "yes" if seen.plain else "no"
                print(f"| {name} | {seen.seconds:.0f} | {seen.silence:.1f} | {plain} | {seen.code} |", flush=True)
                bad |= seen.code != 0 or not seen.plain
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
