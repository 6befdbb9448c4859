"""Boards: where the metrics, images and distributions of a run are shown, besides its own metrics.jsonl."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Board(Protocol):
    """A place that shows a run while it goes on; any method may raise, and the run goes on without the board."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Show the metrics of one round."""
        ...

    def image(self, name: str, image: "Image", step: int) -> None:
        """Show an image, such as the samples after a round."""
        ...

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Show the distribution of values, such as the rewards of a round: at least one, all finite."""
        ...

    def close(self) -> None:
        """Write what is left and end the board."""
        ...


class BoardSettings(Protocol):
    """The settings of a kind of board: what the group `tracker=` builds."""

    def open(self, folder: Path, config: Mapping[str, Any], start: int) -> Board:
        """Return the board of the run in a folder, which goes on after round `start`."""
        ...


class TensorBoard:
    """Event files in the run's folder, for `tensorboard --logdir RUN`."""

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start, flush_secs=30)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one scalar for each metric."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def image(self, name: str, image: "Image", step: int) -> None:
        """Write an image, [height, width, 3] bytes."""
        self.writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Write the counts of values in bins."""
        self.writer.add_histogram(name, np.asarray(values, dtype=np.float64), step)

    def close(self) -> None:
        """Write what is left and close the file."""
        self.writer.close()


class Boards:
    """Several boards as one; one that fails is left out from then on, with a warning, and the run goes on.

    Attributes:
        warn: shows the one line of a warning.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self.open: dict[str, Board] = {}

    def add(self, name: str, make: Callable[[], Board]) -> None:
        """Open a board and add it to the others."""
        self.guard(name, lambda: self.open.update({name: make()}))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Show the metrics of one round on all boards."""
        self.each(lambda board: board.log(metrics, step))

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Show the distribution of the finite ones of some values on all boards."""
        finite = [float(value) for value in values if np.isfinite(value)]
        if finite:
            self.each(lambda board: board.histogram(name, finite, step))

    def close(self) -> None:
        """Close all boards that are open."""
        self.each(lambda board: board.close())
        self.open.clear()

    def each(self, action: Callable[[Board], None]) -> None:
        """Do something with each board that is open."""
        for name, board in list(self.open.items()):
            self.guard(name, lambda board=board: action(board))  # type: ignore[misc]

    def guard(self, name: str, action: Callable[[], None]) -> None:
        """Do something with a board, and leave the board out where that fails."""
        try:
            action()
        except Exception as error:  # a board is not worth a run
            self.open.pop(name, None)
            reason = (str(error).splitlines() or [""])[0]
            self.warn(f"tracker {name}: {type(error).__name__}: {reason:.200}; the run goes on without it")


def quantiles(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return a distribution as metrics, `NAME_q05` to `NAME_q95`, for boards that have no histograms."""
    found = np.quantile(np.asarray(values, dtype=np.float64), QUANTILES)
    return {f"{name}_q{round(100 * share):02}": float(value) for share, value in zip(QUANTILES, found, strict=True)}
