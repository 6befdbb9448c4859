"""A table of metrics for the terminal: sections under headings, one line for each metric."""

from collections.abc import Sequence
from typing import NamedTuple

NAME_WIDTH = 28  # characters


class Metric(NamedTuple):
    """A figure, or None where there is none, with what it means or why it is missing."""

    name: str
    value: float | int | None
    meaning: str


class Section(NamedTuple):
    """Metrics of one protocol; those of two must not be compared."""

    heading: str
    metrics: Sequence[Metric]


def format_sections(sections: Sequence[Section]) -> str:
    """Format sections as a table."""
    return "\n\n".join("\n".join([section.heading, *map(format_metric, section.metrics)]) for section in sections)


def format_metric(metric: Metric) -> str:
    """Format a metric as a line: a count, a number, or "-" for a missing value."""
    value = metric.value
    text = "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
    return f"  {metric.name:<{NAME_WIDTH}} {text:>9}  {metric.meaning}"
