"""Tracking of a run: a line of progress, metrics.jsonl, boards such as TensorBoard, and warnings."""

import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column
from rich.text import Text

from molrl.machine.files import naming, open_in_place, read_text, replace_file
from molrl.machine.printable import unescaped
from molrl.notebook import NotebookBar, in_notebook
from molrl.progress import format_clock, note_output, paused, stage
from molrl.runs.boards import Board, Boards, TensorBoard

if TYPE_CHECKING:
    from PIL.Image import Image

METRICS_FILE, PRETRAINING_FILE = "metrics.jsonl", "pretrain.jsonl"
MAX_METRICS_BYTES = 1 << 28
MAX_LABELS = 3  # metrics of the domain in a line of progress and in a report
MAX_CLIP_FRACTION = 0.9
MAX_FLAT_FRACTION = 0.9
MIN_EFFECTIVE_SAMPLES = 2.0
REWARD_TOLERANCE = 1e-6  # the standard deviation of equal float32 rewards is not exactly zero
MIN_WIDTH_FOR_BAR = 100  # columns of a terminal
PACE_WINDOW = 20  # rounds from which the time left is estimated


class Tracker:
    """A log that writes and shows the metrics of one round after another.

    Attributes:
        folder: where metrics.jsonl and tensorboard/ go; None: nothing is written.
        total: rounds in all.
        start: the round that this run begins with; rounds from there on that an earlier run logged are dropped.
        quiet: show warnings only.
        labels: metric -> label of the domain's metrics, the most important first; the line of progress shows at most
            `MAX_LABELS` of them.
        before: mean reward before training, against which a line shows the change; None: not measured.
        board: opens a board besides TensorBoard; None: there is none. One that fails ends with a warning.
    """

    def __init__(
        self,
        folder: Path | None,
        total: int,
        start: int = 0,
        quiet: bool = False,
        labels: Mapping[str, str] | None = None,
        before: float | None = None,
        board: Callable[[], Board] | None = None,
    ) -> None:
        if not 0 <= start <= total:
            raise ValueError(f"start: got {start}, expected 0 to {total}")
        self.folder = folder
        self.total = total
        self.start = start
        self.quiet = quiet
        self.labels = labels or {}
        self.done = start
        self.before = before
        self.board = board
        self.boards = Boards(self.warn)
        self.warned: set[str] = set()
        self.times: deque[float] = deque(maxlen=PACE_WINDOW + 1)
        self.closing = ExitStack()

    def __enter__(self) -> Self:
        self.console = Console(file=unescaped(sys.stderr), force_jupyter=False)
        self.notebook = NotebookBar(self.total, self.start) if in_notebook() and not self.quiet else None
        self.times.append(time.monotonic())
        with ExitStack() as opened:
            if self.folder is not None:
                folder, path = self.folder, self.folder / METRICS_FILE
                drop_rows_from(self.start, path)
                self.file = opened.enter_context(open_in_place(path))
                self.file.seek(0, os.SEEK_END)
                self.boards.add("TensorBoard", lambda: TensorBoard(folder, self.start))
                if self.board is not None:
                    self.boards.add("board", self.board)
                opened.callback(self.boards.close)
            self.progress: Progress | None = None
            if not self.quiet and self.console.is_terminal and not self.console.is_dumb_terminal:
                self.progress = opened.enter_context(progress_line(self.console))
                self.bar = self.progress.add_task("starting", total=self.total, completed=self.start)
                opened.enter_context(paused())
            self.advance = opened.enter_context(stage("training: iterations", self.total, self.start))
            self.closing = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.close()

    def log(self, metrics: Mapping[str, float | None]) -> None:
        """Write and show the metrics of one round; without an `iteration` it is the round after the last."""
        row = {"iteration": self.done, **{name: finite_or_none(value) for name, value in metrics.items()}}
        iteration = int(row["iteration"] or 0)
        self.done = iteration + 1
        self.times.append(time.monotonic())
        self.advance(1)
        if self.folder is not None:
            with naming(self.folder / METRICS_FILE):
                self.file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
                self.file.flush()
                os.fsync(self.file.fileno())  # a checkpoint must not outlive the rows before it
            shown = {name: value for name, value in row.items() if value is not None and name != "iteration"}
            self.boards.log(shown, iteration)
        for metric, problem in find_problems(row).items():
            if metric not in self.warned:
                self.warned.add(metric)
                self.warn(f"iteration {iteration}: {problem}")
        if not self.quiet:
            self.show(row)

    def show(self, row: Mapping[str, float | None]) -> None:
        """Show one round as a line: redrawn in place on a terminal, added below the others elsewhere."""
        line = Text("  ").join(describe_row(row, self.before, self.labels))
        line.append(f"  {format_clock(self.seconds_left())} left" if self.done < self.total else "  done", "dim")
        count = Text(f"{self.done}/{self.total}  ")
        if self.notebook is not None:
            self.notebook.update(self.done, line.plain)
        elif self.progress is not None:
            self.progress.update(self.bar, completed=self.done, description=(count + line).markup)
        else:
            self.console.print(count + line, soft_wrap=True, highlight=False)
            note_output()

    def warn(self, problem: str) -> None:
        """Show a warning as one line."""
        self.console.print(Text(f"warning: {problem}", "yellow"), soft_wrap=True)

    def show_image(self, name: str, draw: Callable[[], "Image"], step: int) -> None:
        """Show an image on the boards, where there are some; one that cannot be drawn is a warning."""
        if self.boards.open:
            try:
                image = draw()
            except Exception as error:  # an image is not worth a run
                self.warn(f"{name}: not drawn ({type(error).__name__}: {error!s:.200})")
                return
            self.boards.each(lambda board: board.image(name, image, step))

    def show_histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Show the distribution of the finite ones of some values on the boards."""
        self.boards.histogram(name, values, step)

    def seconds_left(self) -> float:
        """Return the estimated time left, from the pace of the recent rounds."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1) * (self.total - self.done)


def progress_line(console: Console) -> Progress:
    """Return a progress display on one line of the terminal, with a bar where there is room for one."""
    bar = [BarColumn(bar_width=10)] if console.width >= MIN_WIDTH_FOR_BAR else []
    text = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis"))
    return Progress(SpinnerColumn(), *bar, text, console=console, refresh_per_second=4)


def describe_row(row: Mapping[str, float | None], before: float | None, labels: Mapping[str, str]) -> list[Text]:
    """Return the parts of a round's line: reward and its change against before, labelled metrics, KL (nats)."""
    parts = []
    if (reward := row.get("reward")) is not None:
        part = Text.assemble("reward ", (format_reward(reward), "bold"))
        if before is not None:
            change = reward - before
            colour = "green" if change > 0 else "red" if change < 0 else "dim"
            part.append(f" ({format_reward(change, '+')})", colour)
        parts.append(part)
    measured = {name: value for name, value in row.items() if value is not None}
    chosen = first_labels(measured, labels)
    parts += [Text(f"{label} {format_metric(measured[name])}") for name, label in chosen.items()]
    if (kl := row.get("kl")) is not None:
        parts.append(Text(f"KL {kl:.3g}"))
    return parts


def first_labels(measured: Collection[str], labels: Mapping[str, str]) -> dict[str, str]:
    """Return metric -> label for the first `MAX_LABELS` labelled metrics that were measured."""
    return dict([(name, label) for name, label in labels.items() if name in measured][:MAX_LABELS])


def find_problems(row: Mapping[str, float | None]) -> dict[str, str]:
    """Return reasons why a run may not learn, by the metric that shows each of them."""
    std, clipped, lost = (row.get(name) for name in ("reward_std", "clip_fraction", "reward_lost"))
    reward = row.get("reward") or 0.0
    problems = {}
    if std is not None and std <= REWARD_TOLERANCE * max(1.0, abs(reward)):
        problems["reward_std"] = f"all rewards are {reward:.4g}: there is nothing to learn from"
    if clipped is not None and clipped > MAX_CLIP_FRACTION:
        problems["clip_fraction"] = (
            f"{clipped:.0%} of the likelihood ratios are clipped, so hardly any sample is learned from: "
            "take a smaller learning rate, fewer epochs or a wider clip range"
        )
    samples = row.get("reward_queries") or math.inf
    if (share := row.get("weight_ess")) is not None and share * samples < MIN_EFFECTIVE_SAMPLES:
        problems["weight_ess"] = "one sample carries nearly all the weight: take a higher temperature or more rollouts"
    if (flat := row.get("payoff_flat")) is not None and flat > MAX_FLAT_FRACTION:
        problems["payoff_flat"] = (
            f"the candidates of {flat:.0%} of the states all score the same: widen the radius, move the window, look "
            "further ahead"
        )
    if (flat := row.get("groups_flat")) is not None and flat > MAX_FLAT_FRACTION:
        problems["groups_flat"] = f"in {flat:.0%} of the groups all rewards are the same: nothing is learned from those"
    if row.get("exploited"):
        problems["exploited"] = (
            "the reward rises while the held-out one falls below its best round: take an earlier checkpoint "
            "(keep.best=held_out), a larger KL weight or another reward"
        )
    if lost is not None and lost > 0:
        problems["reward_lost"] = f"{lost:.1%} of the samples could not be scored and are left out"
    return problems


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rounds in a metrics.jsonl, without a last line that was cut off in the middle.

    Raises:
        ValueError: any other line is not a JSON object.
    """
    lines = [line for line in read_text(path, MAX_METRICS_BYTES, errors="replace").splitlines() if line.strip()]
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


def drop_rows_from(start: int, path: Path, counter: str = "iteration") -> list[dict[str, Any]]:
    """Drop rounds from `start` on, and an incomplete last line, from a metrics file; return the rounds before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [row for row in read_metrics(path) if row.get(counter, start) < start] if path.exists() else []
    replace_file(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return rows


def append_row(path: Path, row: Mapping[str, Any], counter: str) -> None:
    """Add a row; it replaces rows of the same or a later number, which an earlier process has left."""
    rows = drop_rows_from(row[counter], path, counter)
    replace_file(path, "".join(json.dumps(each) + "\n" for each in (*rows, row)).encode())


def finite_or_none(value: float | None) -> float | None:
    """Return a plain number, and None for NaN and infinity, which JSON cannot express."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(value)


def format_metric(value: float) -> str:
    """Return a value between 0 and 1 as a percentage, and any other with three digits."""
    return f"{value:.0%}" if 0 <= value <= 1 else f"{value:.3g}"


def format_reward(value: float, sign: str = "") -> str:
    """Return a number with three decimals, or a large one with four digits."""
    return f"{value:{sign}.3f}" if abs(value) < 1000 else f"{value:{sign}.4g}"
