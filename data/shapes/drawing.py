"""Images of point clouds: a grid, each seen from one or several sides, nearer points darker and in front."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from molrl.data.shapes.cloud import PointCloud, place_in_unit_box

VIEWS: Mapping[str, tuple[float, float]] = {  # turn about the up axis and tilt toward the viewer, degrees
    "corner": (-35.0, 20.0),
    "front": (0.0, 0.0),
    "side": (-90.0, 0.0),
    "top": (0.0, 90.0),
    "back": (145.0, 20.0),
}
TURNTABLE_VIEWS = 8  # of a full turn
CELL, CELL_PIXELS = 2.5, 200  # width of a cell in units of the half box, and in pixels
LINE_HEIGHT, FONT_SIZE = 0.36, 9.0  # of a line of text, in units of the half box, and in points
NEAR_COLOUR, FAR_COLOUR = np.array([0.05, 0.19, 0.42]), np.array([0.66, 0.78, 0.90])


def draw_point_clouds(
    point_clouds: Sequence[PointCloud],
    captions: Sequence[str],
    *,
    views: Sequence[str] = ("corner",),
    columns: int = 4,
    title: str | None = None,
) -> Image.Image:
    """Draw a grid of point clouds with their captions, y up, all at one scale, the views of each side by side.

    Args:
        captions: one per point cloud, of one or several lines.
        views: names of VIEWS.
        columns: point clouds in a row.

    Raises ValueError for another number of captions than of point clouds, for none at all, and for unknown views.
    """
    if len(captions) != len(point_clouds) or not point_clouds:
        raise ValueError(
            f"captions: got {len(captions)} for {len(point_clouds)} shapes, need one for each and at least one"
        )
    if columns < 1:
        raise ValueError(f"columns: got {columns}, need at least 1")
    if not views or any(view not in VIEWS for view in views):
        raise ValueError(f"views: got {list(views)}, allowed are {', '.join(VIEWS)}")
    projections = [[project(cloud, *VIEWS[view]) for view in views] for cloud in point_clouds]
    return draw_views(projections, captions, columns, title)


def draw_turntable(point_cloud: PointCloud, caption: str) -> Image.Image:
    """Draw views of one point cloud from all around, in a row."""
    angles = np.arange(TURNTABLE_VIEWS) * 360 / TURNTABLE_VIEWS
    return draw_views([[project(point_cloud, float(angle), 20.0) for angle in angles]], [caption], 1, None)


def project(point_cloud: PointCloud, turn: float, tilt: float) -> NDArray[np.float64]:
    """Project points without perspective: to the right, up, and toward the viewer [n, 3].

    The viewer is at +z; the shape is turned about y and then tilted toward the viewer, both in degrees.
    """
    points = (
        place_in_unit_box(point_cloud.points) if np.ptp(point_cloud.points, axis=0).any() else point_cloud.points * 0
    )
    a, b = np.radians(turn), np.radians(tilt)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return np.asarray(points @ (about_x @ about_y).T, dtype=np.float64)


def draw_views(
    projections: Sequence[Sequence[NDArray[np.float64]]], captions: Sequence[str], columns: int, title: str | None
) -> Image.Image:
    """Draw the grid from the projections of each point cloud, one [n, 3] per view."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide, columns = CELL * len(projections[0]), min(columns, len(projections))
    high = CELL + LINE_HEIGHT * max(caption.count("\n") + 1 for caption in captions)
    rows = -(-len(projections) // columns)
    above = 0.6 if title else 0.0
    extent = (wide * columns, high * rows + above)
    figure = Figure(figsize=(extent[0] / CELL, extent[1] / CELL), dpi=CELL_PIXELS)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, extent[0]), ylim=(-extent[1], 0), aspect="equal")
    axes.set_axis_off()
    for number, (views, caption) in enumerate(zip(projections, captions, strict=True)):
        left, top = wide * (number % columns), -above - high * (number // columns)
        for place, points in enumerate(views):
            middle = (left + CELL * (place + 0.5), top - CELL / 2)
            nearest_last = points[points[:, 2].argsort()]
            x, y = (nearest_last[:, :2] * 0.8 + middle).T
            axes.scatter(x, y, s=dot_area(len(points)), c=depth_colours(nearest_last[:, 2]), linewidths=0)
        axes.text(
            left + wide / 2, top - CELL, caption, ha="center", va="top", fontsize=FONT_SIZE * 0.72, color="#24292f"
        )
    if title:
        axes.text(
            extent[0] / 2, -0.12, title, ha="center", va="top", fontsize=FONT_SIZE, weight="bold", color="#24292f"
        )
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")


def depth_colours(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the colours [n, 3] of points by their depth [n]."""
    nearness = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
    return np.asarray(FAR_COLOUR + (NEAR_COLOUR - FAR_COLOUR) * nearness[:, None])


def dot_area(count: int) -> float:
    """Return the area of a dot, smaller for more points."""
    return float(np.clip(2500 / count, 0.6, 8.0))
