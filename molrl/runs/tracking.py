"""What a run tells while it runs: a line of progress, metrics.jsonl, TensorBoard events, and warnings."""

import json
import math
import os
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column
from rich.text import Text

from molrl.runs.folder import write_whole

METRICS_FILE = "metrics.jsonl"
PERCENTAGES = {"validity": "valid", "uniqueness": "unique"}
MOSTLY_CLIPPED = 0.9
MOSTLY_FLAT = 0.9
ALONE = 2.0  # samples that carry the weight
EQUAL = 1e-6  # a standard deviation of equal float32 rewards is not exactly zero
WIDE = 100  # columns of a terminal
RECENT = 20  # rounds that the time left is judged by


class Tracker:
    """Writes and shows the metrics of one round after another.

    Attributes:
        folder: where metrics.jsonl and tensorboard/ go; None: nothing is written.
        total: rounds in all.
        start: the round that this run begins with; rounds from there on that an earlier run logged are dropped.
        quiet: show warnings only.
    """

    def __init__(self, folder: Path | None, total: int, start: int = 0, quiet: bool = False) -> None:
        if not 0 <= start <= total:
            raise ValueError(f"start: got {start}, expected 0 to {total}")
        self.folder = folder
        self.total = total
        self.start = start
        self.quiet = quiet
        self.done = start
        self.first_reward: float | None = None
        self.warned: set[str] = set()
        self.times: deque[float] = deque(maxlen=RECENT + 1)
        self.closing = ExitStack()

    def __enter__(self) -> Self:
        self.console = Console(stderr=True)
        self.times.append(time.monotonic())
        with ExitStack() as opened:
            if self.folder is not None:
                from torch.utils.tensorboard import SummaryWriter

                path = self.folder / METRICS_FILE
                earlier = forget_from(self.start, path)
                self.first_reward = next((row["reward"] for row in earlier if row.get("reward") is not None), None)
                self.file = opened.enter_context(path.open("a", encoding="utf-8"))
                self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.start, flush_secs=30)
                opened.callback(self.board.close)
            self.progress: Progress | None = None
            if not self.quiet and self.console.is_terminal and not self.console.is_dumb_terminal:
                self.progress = opened.enter_context(progress_line(self.console))
                self.bar = self.progress.add_task("starting", total=self.total, completed=self.start)
            self.closing = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.close()

    def log(self, metrics: Mapping[str, float | None]) -> None:
        """Write and show one round; without an `iteration` it is the one after the last."""
        row = {"iteration": self.done, **{name: finite(value) for name, value in metrics.items()}}
        iteration = int(row["iteration"] or 0)
        self.done = iteration + 1
        self.times.append(time.monotonic())
        if self.folder is not None:
            self.file.write(json.dumps(row, allow_nan=False) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())  # a checkpoint must not outlive the rows before it
            for name, value in row.items():
                if value is not None and name != "iteration":
                    self.board.add_scalar(name, value, iteration)
        if self.first_reward is None:
            self.first_reward = row.get("reward")
        for metric, complaint in complaints(row).items():
            if metric not in self.warned:
                self.warned.add(metric)
                self.console.print(Text(f"warning: iteration {iteration}: {complaint}", "yellow"), soft_wrap=True)
        if not self.quiet:
            self.show(row)

    def show(self, row: Mapping[str, float | None]) -> None:
        """One round as a line: redrawn in place on a terminal, added below the others elsewhere."""
        line = Text("  ").join(described(row, self.first_reward))
        line.append(f"  {clock(self.seconds_left())} left" if self.done < self.total else "  done", "dim")
        count = Text(f"{self.done}/{self.total}  ")
        if self.progress is not None:
            self.progress.update(self.bar, completed=self.done, description=(count + line).markup)
        else:
            self.console.print(count + line, soft_wrap=True, highlight=False)

    def seconds_left(self) -> float:
        """By the pace of the recent rounds."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1) * (self.total - self.done)


def progress_line(console: Console) -> Progress:
    """The text on one line of the terminal, with a bar where there is room for one."""
    bar = [BarColumn(bar_width=10)] if console.width >= WIDE else []
    text = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis"))
    return Progress(SpinnerColumn(), *bar, text, console=console, refresh_per_second=4)


def described(row: Mapping[str, float | None], first_reward: float | None) -> list[Text]:
    """What a round's line says of those metrics that are there."""
    parts = []
    if (reward := row.get("reward")) is not None:
        change = reward - (reward if first_reward is None else first_reward)
        colour = "green" if change > 0 else "red" if change < 0 else "dim"
        parts.append(Text.assemble("reward ", (short(reward), "bold"), " ", (f"({short(change, '+')})", colour)))
    parts += [Text(f"{label} {row[name]:.0%}") for name, label in PERCENTAGES.items() if row.get(name) is not None]
    if (kl := row.get("kl")) is not None:
        parts.append(Text(f"KL {kl:.3g}"))
    return parts


def complaints(row: Mapping[str, float | None]) -> dict[str, str]:
    """Why a run may not learn, by the metric that tells."""
    std, clipped, lost = (row.get(name) for name in ("reward_std", "clip_fraction", "reward_lost"))
    reward = row.get("reward") or 0.0
    found = {}
    if std is not None and std <= EQUAL * max(1.0, abs(reward)):
        found["reward_std"] = f"all rewards are {reward:.4g}: there is nothing to learn from"
    if clipped is not None and clipped > MOSTLY_CLIPPED:
        found["clip_fraction"] = (
            f"{clipped:.0%} of the likelihood ratios are clipped, so hardly any sample is learned from: "
            "take a smaller learning rate, fewer epochs or a wider clip range"
        )
    if (share := row.get("weight_ess")) is not None and share * (row.get("reward_queries") or math.inf) < ALONE:
        found["weight_ess"] = "one sample carries nearly all the weight: take a higher temperature or more rollouts"
    if (flat := row.get("payoff_flat")) is not None and flat > MOSTLY_FLAT:
        found["payoff_flat"] = (
            f"the candidates of {flat:.0%} of the states all score the same: widen the radius, move the window, look "
            "further ahead"
        )
    if (flat := row.get("groups_flat")) is not None and flat > MOSTLY_FLAT:
        found["groups_flat"] = f"in {flat:.0%} of the groups all rewards are the same: nothing is learned from those"
    if lost is not None and lost > 0:
        found["reward_lost"] = f"{lost:.1%} of the samples could not be scored and are left out"
    return found


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rounds in a metrics.jsonl, without a last line that was cut off in the middle.

    Raises ValueError for any other line that is no JSON object.
    """
    lines = [line for line in path.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif number < len(lines):
            raise ValueError(f"{path}: got {line[:60]!r} as line {number}, expected a JSON object")
    return rows


def forget_from(start: int, path: Path, counter: str = "iteration") -> list[dict[str, Any]]:
    """Drop rounds from `start` on, and a torn line, from a metrics file; return those before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [row for row in read_metrics(path) if row.get(counter, start) < start] if path.exists() else []
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return rows


def append_row(path: Path, row: Mapping[str, Any], counter: str) -> None:
    """Add a row, in place of those of its own number and later ones, which an earlier process has left."""
    rows = forget_from(row[counter], path, counter)
    write_whole(path, "".join(json.dumps(each) + "\n" for each in (*rows, row)).encode())


def finite(value: float | None) -> float | None:
    """A plain number; None for what JSON has no word for."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(value)


def short(value: float, sign: str = "") -> str:
    """Three decimals, or four digits of a large number."""
    return f"{value:{sign}.3f}" if abs(value) < 1000 else f"{value:{sign}.4g}"


def clock(seconds: float) -> str:
    """m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
