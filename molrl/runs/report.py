"""What a finished run looks like: report.png, one image, and report.html, one file that needs no other."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

SIDE_CURVES = {"kl": "KL to the start, nats", "validity": "Validity", "uniqueness": "Uniqueness"}
IN_THE_HEADER = {"task", "algo", "before", "after"}
BLUE, GREY, FAINT, INK, GRID = "#2563c9", "#8c959f", "#57606a", "#24292f", "#e6e9ed"
STYLE: dict[Any, Any] = {
    **{"font.family": "DejaVu Sans", "font.size": 13.0, "text.color": INK, "axes.labelcolor": INK},
    **{"axes.edgecolor": GREY, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True},
    **{"axes.titlesize": 14.0, "axes.titleweight": "bold", "axes.titlelocation": "left", "grid.color": GRID},
    **{"xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": INK, "ytick.labelcolor": INK},
    **{"axes.axisbelow": True, "legend.frameon": False, "savefig.bbox": "standard"},
}
DPI = 100
PAGE, MARGIN, HEADER, CURVES, HEADING, GUTTER = 1600, 60, 130, 520, 56, 40  # pixels of report.png
TALLEST = 1100  # of an image
BROADEST = 0.7  # a letter on average, of the font size


class Curve(NamedTuple):
    """A metric over the run: iterations and values [n], NaN where there is none; `spread` is half a band's height."""

    metric: str
    title: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    spread: NDArray[np.float64] | None = None


def write_report(
    folder: Path, summary: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], images: Mapping[str, Image.Image]
) -> None:
    """Write report.png and report.html into a run folder.

    Args:
        summary: task, reward (its name), algo, seed, reward_queries, wall_seconds and the measurements `before` and
            `after` the run, where reward_mean, reward_sem and any others are numbers or None. What is absent is not
            shown.
        metrics: one mapping per round, with iteration, reward, reward_std and the metrics of the side panels.
        images: by heading, such as "before" and "after"; laid out in pairs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reward = curve(metrics, "reward", "Reward: mean ± standard deviation of the samples", "reward_std")
    sides = [curve(metrics, name, title) for name, title in SIDE_CURVES.items()]
    curves = [line for line in (reward, *sides) if len(line.x)]
    with matplotlib.rc_context(STYLE):
        figure(summary, curves, images).savefig(folder / "report.png", dpi=DPI)
    config = folder / "config.yaml"
    settings = config.read_text("utf-8", errors="replace") if config.exists() else ""
    (folder / "report.html").write_text(page(summary, curves, images, settings), "utf-8", errors="replace")


def curve(metrics: Sequence[Mapping[str, Any]], metric: str, title: str, spread: str = "") -> Curve:
    """One metric of the run; empty when no round has it."""
    x = column([row.get("iteration", index) for index, row in enumerate(metrics)])
    y, band = column([row.get(metric) for row in metrics]), column([row.get(spread) for row in metrics])
    if not np.isfinite(x + y).any():
        return Curve(metric, title, x[:0], y[:0])
    return Curve(metric, title, x, y, band if np.isfinite(band).any() else None)


def column(values: Sequence[object]) -> NDArray[np.float64]:
    """Numbers, NaN where there is none."""
    return np.array([math.nan if (known := number(value)) is None else known for value in values], np.float64)


def number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def measured(summary: Mapping[str, Any], when: str) -> Mapping[str, Any]:
    """What was measured before or after the run, or nothing."""
    values = summary.get(when)
    return values if isinstance(values, Mapping) else {}


def figure(summary: Mapping[str, Any], curves: Sequence[Curve], images: Mapping[str, Image.Image]) -> Figure:
    """Headline, curves and images on one page of PAGE pixels width."""
    width = (PAGE - 2 * MARGIN - GUTTER) // 2 if len(images) > 1 else PAGE - 2 * MARGIN
    scaled = [(name, fit(image, width)) for name, image in images.items()]
    rows = [scaled[start : start + 2] for start in range(0, len(scaled), 2)]
    heights = [HEADING + max(image.height for _, image in row) for row in rows]
    height = HEADER + CURVES + sum(heights) + MARGIN
    made = Figure(figsize=(PAGE / DPI, height / DPI), facecolor="white")
    FigureCanvasAgg(made)

    def words(left: float, down: float, text: str, size: float, weight: str, colour: str = INK) -> None:
        size = min(size, (PAGE - MARGIN - left) / DPI * 72 / (BROADEST * max(1, len(text))))
        place = (left / PAGE, 1 - down / height)
        made.text(*place, text, size=size, weight=weight, color=colour, va="top", parse_math=False)

    words(MARGIN, 36, headline(summary), 26, "bold")
    words(MARGIN, 86, "   ·   ".join(facts(summary)), 14, "normal", FAINT)
    draw_curves(made, summary, curves, height)
    down = HEADER + CURVES
    for pair, tall in zip(rows, heights, strict=True):
        for index, (name, image) in enumerate(pair):
            left = MARGIN + index * (width + GUTTER)
            words(left, down + 14, heading(summary, name), 17, "bold")
            made.figimage(np.asarray(image), left, height - down - HEADING - image.height)
        down += tall
    return made


def draw_curves(made: Figure, summary: Mapping[str, Any], curves: Sequence[Curve], height: int) -> None:
    """The first curve large, the others stacked beside it."""
    top, bottom = 1 - (HEADER + 46) / height, 1 - (HEADER + CURVES - 84) / height
    left, right = (MARGIN + 50) / PAGE, 1 - MARGIN / PAGE
    if not curves:
        made.text(0.5, (top + bottom) / 2, "no iterations were logged", ha="center", color=GREY)
        return
    first, others = curves[0], curves[1:]
    ratios = [2, 1] if others else [1]
    box = {"left": left, "right": right, "top": top, "bottom": bottom}
    columns = made.add_gridspec(1, len(ratios), wspace=0.16, width_ratios=ratios, **box)
    large = made.add_subplot(columns[0])
    draw_curve(large, first)
    large.set_xlabel("iteration")
    draw_ends(large, summary, first)
    if not others:
        return
    stack = columns[1].subgridspec(len(others), 1, hspace=0.75)
    for place, line in enumerate(others):
        axes = made.add_subplot(stack[place])
        draw_curve(axes, line)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelbottom=line is others[-1], labelsize=11.5)
        axes.set_xlabel("iteration" if line is others[-1] else "")


def draw_curve(axes: Axes, line: Curve) -> None:
    """One metric in a panel, with its band."""
    axes.plot(line.x, line.y, color=BLUE, linewidth=2.4, marker="o" if len(line.x) < 12 else "", markersize=5)
    if line.spread is not None:
        axes.fill_between(line.x, line.y - line.spread, line.y + line.spread, color=BLUE, alpha=0.13, linewidth=0)
    axes.set_title(line.title, pad=10)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.margins(x=0.02)


def draw_ends(axes: Axes, summary: Mapping[str, Any], line: Curve) -> None:
    """The measurements before and after the run, with their standard errors, beside the curve that leads there."""
    if line.metric != "reward":
        return
    for when, place in (("before", np.nanmin(line.x)), ("after", np.nanmax(line.x))):
        values = measured(summary, when)
        mean, sem = number(values.get("reward_mean")), number(values.get("reward_sem"))
        if mean is not None:
            bars = axes.errorbar(place, mean, sem or 0.0, fmt="D", color=INK, markersize=8, capsize=5, zorder=5)
            axes.legend([bars], ["measured before and after, ± standard error"], loc="lower right")


def fit(image: Image.Image, width: int) -> Image.Image:
    """The image at a width, or smaller where it would be too tall; never larger than it is."""
    scale = min(1.0, width / image.width, TALLEST / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def headline(summary: Mapping[str, Any]) -> str:
    """What was trained how, and what became of the reward."""
    name = " · ".join(str(summary[key]) for key in ("task", "algo") if key in summary)
    start, end = (number(measured(summary, when).get("reward_mean")) for when in ("before", "after"))
    change = "" if start is None or end is None else f":  reward {decimal(start)} → {decimal(end)}"
    return f"{name or 'run'}{change}"


def heading(summary: Mapping[str, Any], image: str) -> str:
    """The name of an image, with the reward if it shows one end of the run."""
    mean = number(measured(summary, image).get("reward_mean"))
    return image[:1].upper() + image[1:] + ("" if mean is None else f": mean reward {decimal(mean)}")


def facts(summary: Mapping[str, Any]) -> list[str]:
    """The other plain entries of a summary."""
    found = []
    for name, value in summary.items():
        known = number(value)
        if name == "wall_seconds":
            found += [] if known is None else [duration(known)]
        elif isinstance(value, str) and name not in IN_THE_HEADER:
            found.append(f"{spoken(name)} {value}")
        elif known is not None:
            whole = f"{value}" if name == "seed" else f"{value:,}"
            found.append(f"{spoken(name)} {whole if isinstance(value, int) else decimal(known)}")
    return found


def duration(seconds: float) -> str:
    """Text such as 42 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def decimal(value: float | None, sign: str = "") -> str:
    """Three decimals where they say enough; an en dash for no number."""
    if value is None:
        return "–"
    digits = "3g" if value and not 0.001 <= abs(value) < 10_000 else "3f" if abs(value) < 100 else "1f"
    return f"{value:{sign}.{digits}}".replace("-", "−")


def spoken(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ")


CSS = """
:root { --page: #ffffff; --card: #f6f8fa; --ink: #1f2328; --faint: #57606a; --line: #d8dee4; --blue: #2563c9;
  --good: #1a7f37; --bad: #c1272d; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --card: #161b22; --ink: #e6edf3; --faint: #9aa4af;
  --line: #30363d; --blue: #6ea8fe; --good: #56d364; --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 1180px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .9rem; }
.facts { color: var(--faint); margin: 0; }
.facts span + span::before { content: "·"; margin: 0 .6em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: 34rem; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem 1.1rem .42rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; font-weight: 500; }
thead th { color: var(--faint); font-weight: 500; }
tr.main th, tr.main td { font-weight: 650; font-size: 1.06rem; }
.good { color: var(--good); } .bad { color: var(--bad); } small { color: var(--faint); font-weight: 400; }
.curves { display: grid; gap: 1rem; grid-template-columns: repeat(3, 1fr); }
.curves figure:first-child { grid-column: 1 / -1; }
.images { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
figure { margin: 0; padding: .9rem 1rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; min-width: 0; }
figcaption { font-weight: 600; margin-bottom: .5rem; }
img { display: block; width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--faint); font-size: 12px; }
svg .grid { stroke: var(--line); } svg .band { fill: var(--blue); opacity: .16; }
svg .mean { fill: none; stroke: var(--blue); stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
svg .end { fill: var(--blue); }
pre { margin: 0; padding: 1rem 1.2rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  overflow-x: auto; font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
summary { cursor: pointer; font-weight: 600; margin: 2.6rem 0 .9rem; }
@media (max-width: 760px) { .curves { grid-template-columns: 1fr; } }
"""


def page(summary: Mapping[str, Any], curves: Sequence[Curve], images: Mapping[str, Image.Image], settings: str) -> str:
    """The whole HTML file."""
    title = html.escape(headline(summary))
    chips = "".join(f"<span>{html.escape(fact)}</span>" for fact in facts(summary))
    shown = "".join(
        f'<figure><figcaption>{html.escape(heading(summary, name))}</figcaption><img alt="{html.escape(name)}" '
        f'src="data:image/png;base64,{encoded(image)}"></figure>'
        for name, image in images.items()
    )
    size = [(900, 300)] + [(300, 170)] * len(curves)
    drawn = "".join(
        f"<figure><figcaption>{html.escape(line.title)}</figcaption>{svg(line, *shape)}</figure>"
        for line, shape in zip(curves, size, strict=False)
    )
    sections = [
        f'<h2>Before and after</h2><div class="wide">{table(summary)}</div>',
        f'<h2>The run</h2><div class="curves">{drawn}</div>' if drawn else "<p>No iterations were logged.</p>",
        f'<h2>Samples</h2><div class="images">{shown}</div>' if shown else "",
        f"<details><summary>Configuration</summary><pre>{html.escape(settings)}</pre></details>" if settings else "",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{CSS}</style></head>\n"
        f'<body><h1>{title}</h1><p class="facts">{chips}</p>\n'
        + "\n".join(filter(None, sections))
        + "\n</body></html>\n"
    )


def table(summary: Mapping[str, Any]) -> str:
    """Measurements before and after the run; the reward comes first, with its standard errors."""
    ends = [measured(summary, when) for when in ("before", "after")]
    names = [name for name in dict.fromkeys([*ends[0], *ends[1]]) if name not in ("n", "reward_mean", "reward_sem")]
    errors = [number(values.get("reward_sem")) for values in ends]
    both = math.hypot(*(error for error in errors if error is not None)) if None not in errors else None
    rows = [row("reward", [number(values.get("reward_mean")) for values in ends], [*errors, both], "main")]
    for name in names:
        values = [measurements.get(name) for measurements in ends]
        if not any(isinstance(value, Mapping | list | str) for value in values):
            rows.append(row(spoken(name), [number(value) for value in values], [None] * 3))
    counts = [number(values.get("n")) for values in ends]
    head = "".join(
        f"<th>{when}{'' if count is None else f' <small>({count:,.0f} samples)</small>'}</th>"
        for when, count in zip(("before", "after"), counts, strict=True)
    )
    return f"<table><thead><tr><th></th>{head}<th>change</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"


def row(name: str, values: Sequence[float | None], errors: Sequence[float | None], kind: str = "") -> str:
    """One line of the table; only the line of the reward, where more is better, says so in colour."""
    start, end = values
    change = None if start is None or end is None else round(end - start, 12)
    colour = ("good" if change > 0 else "bad") if kind and change else ""
    cells = [decimal(start), decimal(end), decimal(change, "+")]
    errs = ["" if error is None else f" <small>± {decimal(error)}</small>" for error in errors]
    return (
        f'<tr class="{kind}"><th>{html.escape(name)}</th><td>{cells[0]}{errs[0]}</td><td>{cells[1]}{errs[1]}</td>'
        f'<td class="{colour}">{cells[2]}{errs[2]}</td></tr>'
    )


def svg(line: Curve, width: int, height: int) -> str:
    """A curve as inline SVG whose colours are the page's."""
    keep = np.isfinite(line.x + line.y)
    x, y = line.x[keep], line.y[keep]
    spread = np.zeros_like(y) if line.spread is None else np.nan_to_num(line.spread[keep])
    rows, columns = ticks(y - spread, y + spread, height // 55), ticks(x, x, width // 90, whole=True)

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


def ticks(low: NDArray[np.float64], high: NDArray[np.float64], count: int, whole: bool = False) -> NDArray[np.float64]:
    """Round numbers that enclose all values."""
    locator = MaxNLocator(max(2, count), integer=whole, min_n_ticks=2)
    return np.asarray(locator.tick_values(float(low.min()), float(high.max())), np.float64)


def encoded(image: Image.Image) -> str:
    """An image as base64 of a PNG, no wider than the page can show."""
    buffer = io.BytesIO()
    fit(image, PAGE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
