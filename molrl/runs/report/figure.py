"""The figure of a report, report.png: headline, curves and images on one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from molrl.runs.report.curves import Curve, finite_number
from molrl.runs.report.wording import facts, headline, image_heading, measurements

BLUE, GREY, FAINT, INK, GRID = "#2563c9", "#8c959f", "#57606a", "#24292f", "#e6e9ed"
STYLE: dict[Any, Any] = {
    **{"font.family": "DejaVu Sans", "font.size": 13.0, "text.color": INK, "axes.labelcolor": INK},
    **{"axes.edgecolor": GREY, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True},
    **{"axes.titlesize": 14.0, "axes.titleweight": "bold", "axes.titlelocation": "left", "grid.color": GRID},
    **{"xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": INK, "ytick.labelcolor": INK},
    **{"axes.axisbelow": True, "legend.frameon": False, "savefig.bbox": "standard"},
}
DPI = 100
PAGE_WIDTH, MARGIN, HEADER_HEIGHT, CURVES_HEIGHT, HEADING_HEIGHT, GUTTER = 1600, 60, 130, 520, 56, 40  # pixels
MAX_IMAGE_HEIGHT = 1100  # pixels
LETTER_WIDTH = 0.7  # of a letter on average, in units of the font size


def save_figure(
    path: Path, summary: Mapping[str, Any], curves: Sequence[Curve], images: Mapping[str, Image.Image]
) -> None:
    """Draw the figure of a report and write it to a PNG file."""
    with matplotlib.rc_context(STYLE):
        draw_figure(summary, curves, images).savefig(path, dpi=DPI)


def draw_figure(summary: Mapping[str, Any], curves: Sequence[Curve], images: Mapping[str, Image.Image]) -> Figure:
    """Draw headline, curves and images on one page that is PAGE_WIDTH pixels wide."""
    width = (PAGE_WIDTH - 2 * MARGIN - GUTTER) // 2 if len(images) > 1 else PAGE_WIDTH - 2 * MARGIN
    scaled = [(name, shrink_image(image, width)) for name, image in images.items()]
    rows = [scaled[start : start + 2] for start in range(0, len(scaled), 2)]
    heights = [HEADING_HEIGHT + max(image.height for _, image in row) for row in rows]
    height = HEADER_HEIGHT + CURVES_HEIGHT + sum(heights) + MARGIN
    figure = Figure(figsize=(PAGE_WIDTH / DPI, height / DPI), facecolor="white")
    FigureCanvasAgg(figure)

    def write_text(left: float, down: float, text: str, size: float, weight: str, colour: str = INK) -> None:
        size = min(size, (PAGE_WIDTH - MARGIN - left) / DPI * 72 / (LETTER_WIDTH * max(1, len(text))))
        place = (left / PAGE_WIDTH, 1 - down / height)
        figure.text(*place, text, size=size, weight=weight, color=colour, va="top", parse_math=False)

    write_text(MARGIN, 36, headline(summary), 26, "bold")
    write_text(MARGIN, 86, "   ·   ".join(facts(summary)), 14, "normal", FAINT)
    draw_curves(figure, summary, curves, height)
    down = HEADER_HEIGHT + CURVES_HEIGHT
    for pair, tall in zip(rows, heights, strict=True):
        for index, (name, image) in enumerate(pair):
            left = MARGIN + index * (width + GUTTER)
            write_text(left, down + 14, image_heading(summary, name), 17, "bold")
            figure.figimage(np.asarray(image), left, height - down - HEADING_HEIGHT - image.height)
        down += tall
    return figure


def draw_curves(figure: Figure, summary: Mapping[str, Any], curves: Sequence[Curve], height: int) -> None:
    """Draw the first curve large and the others stacked beside it."""
    top, bottom = 1 - (HEADER_HEIGHT + 46) / height, 1 - (HEADER_HEIGHT + CURVES_HEIGHT - 84) / height
    left, right = (MARGIN + 50) / PAGE_WIDTH, 1 - MARGIN / PAGE_WIDTH
    if not curves:
        figure.text(0.5, (top + bottom) / 2, "no iterations were logged", ha="center", color=GREY)
        return
    first, others = curves[0], curves[1:]
    ratios = [2, 1] if others else [1]
    box = {"left": left, "right": right, "top": top, "bottom": bottom}
    columns = figure.add_gridspec(1, len(ratios), wspace=0.16, width_ratios=ratios, **box)
    large = figure.add_subplot(columns[0])
    draw_curve(large, first)
    large.set_xlabel("iteration")
    draw_ends(large, summary, first)
    if not others:
        return
    stack = columns[1].subgridspec(len(others), 1, hspace=0.75)
    for place, line in enumerate(others):
        axes = figure.add_subplot(stack[place])
        draw_curve(axes, line)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelbottom=line is others[-1], labelsize=11.5)
        axes.set_xlabel("iteration" if line is others[-1] else "")


def draw_curve(axes: Axes, line: Curve) -> None:
    """Draw one metric with its band in a panel."""
    axes.plot(line.x, line.y, color=BLUE, linewidth=2.4, marker="o" if len(line.x) < 12 else "", markersize=5)
    if line.spread is not None:
        axes.fill_between(line.x, line.y - line.spread, line.y + line.spread, color=BLUE, alpha=0.13, linewidth=0)
    axes.set_title(line.title, pad=10)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.margins(x=0.02)


def draw_ends(axes: Axes, summary: Mapping[str, Any], line: Curve) -> None:
    """Mark the mean rewards before and after the run, with their standard errors, at the ends of the reward curve."""
    if line.metric != "reward":
        return
    for when, place in (("before", np.nanmin(line.x)), ("after", np.nanmax(line.x))):
        values = measurements(summary, when)
        mean, sem = finite_number(values.get("reward_mean")), finite_number(values.get("reward_sem"))
        if mean is not None:
            bars = axes.errorbar(place, mean, sem or 0.0, fmt="D", color=INK, markersize=8, capsize=5, zorder=5)
            axes.legend([bars], ["measured before and after, ± standard error"], loc="lower right")


def shrink_image(image: Image.Image, width: int) -> Image.Image:
    """Return an image at a width in pixels, smaller where it would be too tall; it is never enlarged."""
    scale = min(1.0, width / image.width, MAX_IMAGE_HEIGHT / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
