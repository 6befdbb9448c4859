"""The report of a run: report.png, one image, and report.html, one file that needs no other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from molrl.machine.files import read_text, replace_file
from molrl.runs.folder import MAX_BYTES, SETTINGS
from molrl.runs.report.curves import collect_curves
from molrl.runs.report.figure import save_figure
from molrl.runs.report.page import render_page

__all__ = ["write_report"]


def write_report(
    folder: Path,
    summary: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    images: Mapping[str, Image.Image],
    labels: Mapping[str, str],
) -> None:
    """Write report.png and report.html into a run folder.

    Args:
        summary: task, reward (its name), algo, seed, reward_queries, wall_seconds and the measurements `before` and
            `after` the run, where reward_mean, reward_sem and any others are numbers or None. Absent entries are not
            shown.
        metrics: one mapping per round, with iteration, reward, reward_std, kl and the metrics of the domain.
        images: by heading, such as "before" and "after"; laid out in pairs.
        labels: metric -> label of the domain's metrics that have a curve, the most important first; see
            `molrl.runs.report.curves.collect_curves`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curves = collect_curves(metrics, labels)
    save_figure(folder / "report.png", summary, curves, images)
    config = folder / SETTINGS
    settings = read_text(config, MAX_BYTES, errors="replace") if config.exists() else ""
    page = render_page(summary, curves, images, settings)
    replace_file(folder / "report.html", page.encode(errors="replace"))
