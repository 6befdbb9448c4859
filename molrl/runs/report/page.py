"""The page of a report, report.html: one file without scripts that loads nothing from elsewhere."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from molrl.runs.report.curves import Curve, finite_number
from molrl.runs.report.figure import PAGE_WIDTH, shrink_image
from molrl.runs.report.wording import facts, format_decimal, headline, image_heading, key_to_words, measurements

STYLESHEET = Path(__file__).with_name("style.css")
MIN_COLUMNS = 3  # of the small curves


def render_page(
    summary: Mapping[str, Any], curves: Sequence[Curve], images: Mapping[str, Image.Image], settings: str
) -> str:
    """Return the complete HTML file as text."""
    title = html.escape(headline(summary))
    chips = "".join(f"<span>{html.escape(fact)}</span>" for fact in facts(summary))
    shown = "".join(
        f'<figure><figcaption>{html.escape(image_heading(summary, name))}</figcaption><img alt="{html.escape(name)}" '
        f'src="data:image/png;base64,{encode_image(image)}"></figure>'
        for name, image in images.items()
    )
    size = [(900, 300)] + [(300, 170)] * len(curves)
    drawn = "".join(
        f"<figure><figcaption>{html.escape(line.title)}</figcaption>{render_curve(line, *shape)}</figure>"
        for line, shape in zip(curves, size, strict=False)
    )
    columns = max(MIN_COLUMNS, len(curves) - 1)
    changes = "".join(f"<li>{html.escape(str(change))}</li>" for change in summary.get("changes") or ())
    sections = [
        f'<h2>What else changed</h2><ul class="changes">{changes}</ul>' if changes else "",
        f'<h2>Before and after</h2><div class="wide">{render_table(summary)}</div>',
        f'<h2>The run</h2><div class="curves" style="--columns: {columns}">{drawn}</div>'
        if drawn
        else "<p>No iterations were logged.</p>",
        f'<h2>Samples</h2><div class="images">{shown}</div>' if shown else "",
        f"<details><summary>Configuration</summary><pre>{html.escape(settings)}</pre></details>" if settings else "",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{STYLESHEET.read_text('utf-8')}</style></head>\n"
        f'<body><h1>{title}</h1><p class="facts">{chips}</p>\n'
        + "\n".join(filter(None, sections))
        + "\n</body></html>\n"
    )


def render_table(summary: Mapping[str, Any]) -> str:
    """Return a table of the measurements before and after the run; the reward and its standard errors come first."""
    ends = [measurements(summary, when) for when in ("before", "after")]
    names = [name for name in dict.fromkeys([*ends[0], *ends[1]]) if name not in ("n", "reward_mean", "reward_sem")]
    errors = [finite_number(values.get("reward_sem")) for values in ends]
    both = math.hypot(*(error for error in errors if error is not None)) if None not in errors else None
    rows = [
        render_row("reward", [finite_number(values.get("reward_mean")) for values in ends], [*errors, both], "main")
    ]
    for name in names:
        values = [end.get(name) for end in ends]
        if not any(isinstance(value, Mapping | list | str) for value in values):
            rows.append(render_row(key_to_words(name), [finite_number(value) for value in values], [None] * 3))
    counts = [finite_number(values.get("n")) for values in ends]
    head = "".join(
        f"<th>{when}{'' if count is None else f' <small>({count:,.0f} samples)</small>'}</th>"
        for when, count in zip(("before", "after"), counts, strict=True)
    )
    return f"<table><thead><tr><th></th>{head}<th>change</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"


def render_row(name: str, values: Sequence[float | None], errors: Sequence[float | None], kind: str = "") -> str:
    """Return one row of the table; the change is coloured in the row of the reward alone, where more is better."""
    start, end = values
    change = None if start is None or end is None else round(end - start, 12)
    colour = ("good" if change > 0 else "bad") if kind and change else ""
    cells = [format_decimal(start), format_decimal(end), format_decimal(change, "+")]
    errs = ["" if error is None else f" <small>± {format_decimal(error)}</small>" for error in errors]
    return (
        f'<tr class="{kind}"><th>{html.escape(name)}</th><td>{cells[0]}{errs[0]}</td><td>{cells[1]}{errs[1]}</td>'
        f'<td class="{colour}">{cells[2]}{errs[2]}</td></tr>'
    )


def render_curve(line: Curve, width: int, height: int) -> str:
    """Return a curve as inline SVG that takes its colours from the page."""
    keep = np.isfinite(line.x + line.y)
    x, y = line.x[keep], line.y[keep]
    spread = np.zeros_like(y) if line.spread is None else np.nan_to_num(line.spread[keep])
    rows, columns = ticks(y - spread, y + spread, height // 55), ticks(x, x, width // 90, integer=True)

    def points(at: NDArray[np.float64], values: NDArray[np.float64]) -> list[tuple[str, str]]:
        across = np.interp(at, (columns[0], columns[-1]), (46, width - 12))
        down = np.interp(values, (rows[0], rows[-1]), (height - 24, 8))
        return [(f"{a:.1f}", f"{b:.1f}") for a, b in zip(across, down, strict=True)]

    def path(at: NDArray[np.float64], values: NDArray[np.float64]) -> str:
        return " ".join(map(",".join, points(at, values)))

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(line.title)}">']
    for tick, (_, down) in zip(rows, points(np.full_like(rows, columns[0]), rows), strict=True):
        parts.append(f'<line class="grid" x1="46" x2="{width - 12}" y1="{down}" y2="{down}"/>')
        parts.append(f'<text x="38" y="{down}" dy="4" text-anchor="end">{tick:.4g}</text>')
    for tick, (across, _) in zip(columns, points(columns, np.full_like(columns, rows[0])), strict=True):
        parts.append(f'<text x="{across}" y="{height - 5}" text-anchor="middle">{tick:.6g}</text>')
    if line.spread is not None:
        outline = path(np.concatenate([x, x[::-1]]), np.concatenate([y + spread, (y - spread)[::-1]]))
        parts.append(f'<polygon class="band" points="{outline}"/>')
    across, down = points(x[-1:], y[-1:])[0]
    parts.append(f'<polyline class="mean" points="{path(x, y)}"/><circle class="end" cx="{across}" cy="{down}" r="4"/>')
    return "".join([*parts, "</svg>"])


def ticks(
    low: NDArray[np.float64], high: NDArray[np.float64], count: int, integer: bool = False
) -> NDArray[np.float64]:
    """Return round numbers that enclose all values."""
    locator = MaxNLocator(max(2, count), integer=integer, min_n_ticks=2)
    return np.asarray(locator.tick_values(float(low.min()), float(high.max())), np.float64)


def encode_image(image: Image.Image) -> str:
    """Return an image as a PNG in base64, no wider than the page can show."""
    buffer = io.BytesIO()
    shrink_image(image, PAGE_WIDTH).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
