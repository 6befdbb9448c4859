"""Images of point clouds: a grid of them, each from one or several sides, nearer points darker and in front."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from molrl.data.shapes.cloud import PointCloud, in_unit_box

VIEWS: Mapping[str, tuple[float, float]] = {  # turn about the up axis and tilt toward the viewer, degrees
    "corner": (-35.0, 20.0),
    "front": (0.0, 0.0),
    "side": (-90.0, 0.0),
    "top": (0.0, 90.0),
    "back": (145.0, 20.0),
}
TURNTABLE = 8  # images of a full turn
CELL, INCH = 2.5, 200  # width of a cell in units of the half box, and its pixels
CAPTION, FONT = 0.36, 9.0  # room for a line of text, and its size in points
NEAR, FAR = np.array([0.05, 0.19, 0.42]), np.array([0.66, 0.78, 0.90])  # colours


def draw_point_clouds(
    clouds: Sequence[PointCloud],
    captions: Sequence[str],
    *,
    views: Sequence[str] = ("corner",),
    columns: int = 4,
    title: str | None = None,
) -> Image.Image:
    """A grid of clouds with their captions, y up, all at one scale; the views of a cloud stand side by side.

    Args:
        captions: one for each cloud, of one or several lines.
        views: names of VIEWS.
        columns: clouds beside each other.

    Raises ValueError for other numbers of captions than of clouds, none at all, and unknown views.
    """
    if len(captions) != len(clouds) or not clouds:
        raise ValueError(f"captions: got {len(captions)} for {len(clouds)} shapes, need one for each and at least one")
    if columns < 1:
        raise ValueError(f"columns: got {columns}, need at least 1")
    if not views or any(view not in VIEWS for view in views):
        raise ValueError(f"views: got {list(views)}, allowed are {', '.join(VIEWS)}")
    return drawn([[seen(cloud, *VIEWS[view]) for view in views] for cloud in clouds], captions, columns, title)


def draw_turntable(cloud: PointCloud, caption: str) -> Image.Image:
    """One cloud from all around, in a row."""
    angles = np.arange(TURNTABLE) * 360 / TURNTABLE
    return drawn([[seen(cloud, float(angle), 20.0) for angle in angles]], [caption], 1, None)


def seen(cloud: PointCloud, turn: float, tilt: float) -> NDArray[np.float64]:
    """Points as they are seen without perspective: to the right, up, and toward the viewer [n, 3].

    The viewer stands in front, at +z, of a shape that is turned about y and then tilted toward him.
    """
    points = in_unit_box(cloud.points) if np.ptp(cloud.points, axis=0).any() else cloud.points * 0
    a, b = np.radians(turn), np.radians(tilt)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return np.asarray(points @ (about_x @ about_y).T, dtype=np.float64)


def drawn(
    images: Sequence[Sequence[NDArray[np.float64]]], captions: Sequence[str], columns: int, title: str | None
) -> Image.Image:
    """The grid; `images` has the views of each cloud."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide, columns = CELL * len(images[0]), min(columns, len(images))
    high = CELL + CAPTION * max(caption.count("\n") + 1 for caption in captions)
    rows = -(-len(images) // columns)
    above = 0.6 if title else 0.0
    extent = (wide * columns, high * rows + above)
    figure = Figure(figsize=(extent[0] / CELL, extent[1] / CELL), dpi=INCH)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, extent[0]), ylim=(-extent[1], 0), aspect="equal")
    axes.set_axis_off()
    for number, (views, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = wide * (number % columns), -above - high * (number // columns)
        for place, points in enumerate(views):
            middle = (left + CELL * (place + 0.5), top - CELL / 2)
            nearest_last = points[points[:, 2].argsort()]
            x, y = (nearest_last[:, :2] * 0.8 + middle).T
            axes.scatter(x, y, s=dot(len(points)), c=shade(nearest_last[:, 2]), linewidths=0)
        axes.text(left + wide / 2, top - CELL, caption, ha="center", va="top", fontsize=FONT * 0.72, color="#24292f")
    if title:
        axes.text(extent[0] / 2, -0.12, title, ha="center", va="top", fontsize=FONT, weight="bold", color="#24292f")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")


def shade(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours [n, 3] of points by how near they are."""
    share = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
    return np.asarray(FAR + (NEAR - FAR) * share[:, None])


def dot(count: int) -> float:
    """The area of a point, smaller where there are many."""
    return float(np.clip(2500 / count, 0.6, 8.0))
