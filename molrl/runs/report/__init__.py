"""The report of a run: report.html, one file that needs no other, and report.png, one image, when the run has ended.

`molrl report` makes it anew from the files of the run, and compares several runs (`molrl.runs.report.command`).
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molrl.machine.files import replace_file
from molrl.runs.report.contents import LATEST, SHEETS, read_contents
from molrl.runs.report.page import render_page
from molrl.runs.report.sheet import FOLDER, write_sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from molrl.task import SampleDecoder

__all__ = ["REPORT", "LiveReport", "write_figure", "write_report"]

REPORT, FIGURE = "report.html", "report.png"
MIN_SECONDS = 20.0  # between two reports of a run that goes on,
MAX_SHARE = 0.01  # and the share of its time that they may take


class LiveReport:
    """The report of a run that goes on, written anew from time to time.

    Attributes:
        folder: of the run.
        seconds: that reports have taken so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0
        self.due = 0.0

    def update(
        self, samples: Sequence[Any], rewards: Sequence[float], decoder: "SampleDecoder", reward: object = None
    ) -> bool:
        """Write the report unless the last one is too recent; return whether it was written.

        Args:
            samples: finished samples of the last round.
            rewards: of these; NaN for one that could not be scored.
            decoder: shows and counts them.
            reward: that scored them, which may show them in their surroundings.
        """
        began = time.monotonic()
        if began < self.due:
            return False
        try:
            write_sheet(self.folder / FOLDER / SHEETS[LATEST], samples, rewards, decoder, reward)
            write_report(self.folder)
        except Exception as error:  # whatever it is, training goes on without a report
            print(f"molrl: the report could not be written: {type(error).__name__}: {error}", file=sys.stderr)
        spent = time.monotonic() - began
        self.seconds += spent
        self.due = began + max(MIN_SECONDS, spent / MAX_SHARE)
        return True


def write_report(folder: Path, summary: Mapping[str, Any] | None = None) -> Path:
    """Write report.html into the folder of a run, and return its path.

    Args:
        folder: of the run.
        summary: of a run that is just ending; None: that in the folder, if there is one.
    """
    page = render_page([read_contents(folder, summary)], folder)
    replace_file(folder / REPORT, page.encode(errors="replace"))
    return folder / REPORT


def write_figure(folder: Path, summary: Mapping[str, Any], images: "Mapping[str, Image]") -> None:
    """Write report.png into the folder of a run that ended: its headline, curves and images, for a slide or a README.

    Args:
        folder: of the run.
        summary: of the run.
        images: by heading, such as "before" and "after"; laid out in pairs.
    """
    from molrl.runs.report.curves import collect_curves
    from molrl.runs.report.figure import save_figure

    contents = read_contents(folder, summary)
    save_figure(folder / FIGURE, summary, collect_curves(contents.rows, contents.about.labels), images)
