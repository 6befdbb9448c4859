"""Numbers and headings of a report as text, shared by the figure and the page."""

from collections.abc import Mapping
from typing import Any

from molrl.runs.report.curves import capitalize, finite_number

HEADLINE_KEYS = {"task", "algo", "before", "after"}  # of a summary; the headline shows them


def measurements(summary: Mapping[str, Any], when: str) -> Mapping[str, Any]:
    """Return the measurements `before` or `after` the run; empty where the summary has none."""
    values = summary.get(when)
    return values if isinstance(values, Mapping) else {}


def headline(summary: Mapping[str, Any]) -> str:
    """Return the task, the algorithm and the change of the mean reward as one line."""
    name = " · ".join(str(summary[key]) for key in ("task", "algo") if key in summary)
    start, end = (finite_number(measurements(summary, when).get("reward_mean")) for when in ("before", "after"))
    change = "" if start is None or end is None else f":  reward {format_decimal(start)} → {format_decimal(end)}"
    return f"{name or 'run'}{change}"


def image_heading(summary: Mapping[str, Any], image: str) -> str:
    """Return the name of an image, with the mean reward if it shows samples from before or after the run."""
    mean = finite_number(measurements(summary, image).get("reward_mean"))
    return capitalize(image) + ("" if mean is None else f": mean reward {format_decimal(mean)}")


def facts(summary: Mapping[str, Any]) -> list[str]:
    """Return the entries of a summary that are text or numbers and not in the headline, one text each."""
    texts = []
    for name, value in summary.items():
        number = finite_number(value)
        if name == "wall_seconds":
            texts += [] if number is None else [format_duration(number)]
        elif isinstance(value, str) and name not in HEADLINE_KEYS:
            texts.append(f"{key_to_words(name)} {value}")
        elif number is not None:
            integer = f"{value}" if name == "seed" else f"{value:,}"
            texts.append(f"{key_to_words(name)} {integer if isinstance(value, int) else format_decimal(number)}")
    return texts


def format_duration(seconds: float) -> str:
    """Return a duration as text such as 42 s, 12 min or 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def format_decimal(value: float | None, sign: str = "") -> str:
    """Return a number with three decimals, very small and large ones with three digits; an en dash for None."""
    if value is None:
        return "–"
    digits = "3g" if value and not 0.001 <= abs(value) < 10_000 else "3f" if abs(value) < 100 else "1f"
    return f"{value:{sign}.{digits}}".replace("-", "−")


def key_to_words(name: str) -> str:
    """Return the name of a metric with spaces for its underscores."""
    return name.replace("_", " ")
