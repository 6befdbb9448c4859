"""A data set of shapes without download: chairs, tables, lamps, airplanes and cars from a few convex parts each.

A fraction of them is `tippy` (falls over) or `asymmetric`, so that rewards for stability and symmetry can improve
them. y is up, the front faces along z, x = 0 is the mirror plane; lengths are metres before `place_in_unit_box`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import numpy as np

from molrl.data.shapes.cloud import PointCloud, place_in_unit_box
from molrl.data.shapes.mesh import Mesh
from molrl.data.shapes.solids import box, hull, import_manifold, rings, union

Defect = Literal["sound", "tippy", "asymmetric"]
DEFECTS: tuple[Defect, ...] = ("sound", "tippy", "asymmetric")
SPLITS: Mapping[str, range] = {"train": range(8000), "validation": range(8000, 9000), "test": range(9000, 10000)}
SURFACE_STREAM = 1  # last number of the seed of surface points; it is 0 for shapes


@dataclass(frozen=True)
class Solid:
    """One shape with the parameters that define it.

    Attributes:
        family: its class.
        defect: its defect, or "sound".
        parameters: every number that was drawn, by name; lengths in metres, angles in radians.
        number: of the shape within its family; it determines the shape, with the seed of the data set.
        mesh: closed and connected.
    """

    family: str
    defect: Defect
    parameters: Mapping[str, float]
    number: int
    mesh: Mesh


@dataclass
class ParameterDraw:
    """A generator of parameters that records what it draws."""

    generator: np.random.Generator
    drawn: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, low: float, high: float) -> float:
        """Draw a number uniformly from [low, high]."""
        self.drawn[name] = float(self.generator.uniform(low, high))
        return self.drawn[name]

    def chance(self, name: str, probability: float) -> bool:
        """Draw True with a given probability."""
        self.drawn[name] = float(self.generator.random() < probability)
        return bool(self.drawn[name])

    def side(self, name: str) -> float:
        """Draw -1 or 1 with equal probability."""
        return 1.0 if self.chance(name, 0.5) else -1.0

    def one_of(self, name: str, number: int) -> int:
        """Draw an integer from 0 to number - 1."""
        self.drawn[name] = float(self.generator.integers(number))
        return int(self.drawn[name])


def chair(draw: ParameterDraw, defect: Defect) -> list[Any]:
    """Build a seat on four legs with a back, sometimes arms; tippy: leans far back over feet close together."""
    tippy = defect == "tippy"
    width, depth = draw("width", 0.38, 0.55), draw("depth", 0.38, 0.55)
    thick, height = draw("thickness", 0.03, 0.07), draw("seat_height", 0.35, 0.5)
    tall = draw("back_height", 0.6, 0.9) if tippy else draw("back_height", 0.3, 0.7)
    tilt = draw("back_tilt", 0.5, 0.9) if tippy else draw("back_tilt", 0.0, 0.3)
    splay = draw("splay", 0.35, 0.7) if tippy else draw("splay", 1.0, 1.2)
    radius = draw("leg_radius", 0.014, 0.03)
    parts = [box((0, height + thick / 2, 0), (width, thick, depth))]
    rise = np.array([0, np.cos(tilt), -np.sin(tilt)])
    hinge = np.array([0, height, -depth / 2 + thick / 2])
    parts.append(box(hinge + rise * tall / 2, (width, tall, thick), tilt))
    legs = [(x, z) for x in (-1, 1) for z in (-1, 1)]
    arms = [-1.0, 1.0] if draw.chance("arms", 0.3) else []
    if defect == "asymmetric":
        if draw.chance("leg_missing", 0.5):
            del legs[draw.one_of("missing", 4)]
        else:
            arms = [draw.side("arm")]
    for x, z in legs:
        top = np.array([x * (width / 2 - radius), height + thick / 2, z * (depth / 2 - radius)])
        parts.append(rings([top * (splay, 0, splay), top], (radius, radius)))
    if arms:
        up = draw("arm_height", 0.16, 0.26)
        reach = up * np.tan(tilt) + depth * 0.85  # from the back, which leans away, toward the front
        for arm in arms:
            side = arm * (width / 2 - 0.02)
            back = -depth / 2 - up * np.tan(tilt)
            parts.append(box((side, height + up, back + reach / 2 + thick / 2), (0.04, 0.03, reach)))
            parts.append(box((side, height + up / 2, depth * 0.25), (0.035, up, 0.035)))
    return parts


def table(draw: ParameterDraw, defect: Defect) -> list[Any]:
    """Build a rectangular or round top on four legs or a pedestal; tippy: the support is far off the middle."""
    height, thick = draw("height", 0.4, 0.8), draw("thickness", 0.025, 0.06)
    if draw.chance("round", 0.35):
        width = depth = 2 * draw("top_radius", 0.35, 0.6)
        parts = [rings([(0, height - thick, 0), (0, height, 0)], (width / 2, width / 2))]
        inset = 0.62
    else:
        width, depth = draw("width", 0.6, 1.4), draw("depth", 0.5, 0.9)
        parts = [box((0, height - thick / 2, 0), (width, thick, depth))]
        inset = 0.92
    off = 0.0
    if defect == "tippy":
        off = draw.side("side") * width * draw("off", 0.35, 0.45)
    if draw.chance("pedestal", 0.35):
        radius, foot = draw("pole_radius", 0.025, 0.06), draw("foot_radius", 0.14, 0.26)
        if defect == "asymmetric":
            off = draw.side("side") * draw("off", 0.12, 0.25)
        parts.append(rings([(off, 0, 0), (off, height - thick / 2, 0)], (radius, radius)))
        parts.append(rings([(off, 0, 0), (off, 0.03, 0)], (foot, foot * 0.8)))
        return parts
    radius, spread = draw("leg_radius", 0.018, 0.04), draw("spread", 0.15, 0.3) if defect == "tippy" else 1.0
    legs = [(x, z) for x in (-1, 1) for z in (-1, 1)]
    if defect == "asymmetric":
        del legs[draw.one_of("missing", 4)]
    for x, z in legs:
        place = inset * np.array([x * width / 2, 0, z * depth / 2])
        foot_at = place * (spread, 0, spread) + (off, 0, 0)
        parts.append(
            rings(
                [foot_at, place * (min(spread, 1), 1, min(spread, 1)) + (off, height - thick / 2, 0)], (radius, radius)
            )
        )
    return parts


def lamp(draw: ParameterDraw, defect: Defect) -> list[Any]:
    """Build a base, a pole and a shade; tippy: a small base, and the shade on an arm to the side."""
    tippy = defect == "tippy"
    base = draw("base_radius", 0.05, 0.09) if tippy else draw("base_radius", 0.1, 0.18)
    thick, pole = draw("base_height", 0.02, 0.05), draw("pole", 0.35, 0.6)
    radius, tall = draw("pole_radius", 0.01, 0.018), draw("shade_height", 0.13, 0.24)
    low, high = draw("shade_low", 0.11, 0.2), draw("shade_high", 0.05, 0.1)
    aside = 0.0
    if defect != "sound":
        aside = draw.side("side") * (draw("aside", 0.35, 0.6) if tippy else draw("aside", 0.05, 0.12))
    top = thick + pole
    parts = [
        rings([(0, 0, 0), (0, thick, 0)], (base, base * 0.85)),
        rings([(0, thick / 2, 0), (0, top, 0)], (radius, radius)),
        rings([(aside, top - tall * 0.4, 0), (aside, top + tall * 0.6, 0)], (low, high)),
    ]
    if aside:
        parts.append(rings([(-np.sign(aside) * radius, top - radius, 0), (aside, top - radius, 0)], (radius, radius)))
    return parts


def airplane(draw: ParameterDraw, defect: Defect) -> list[Any]:
    """Build fuselage, wings, fin and tailplane; asymmetric: one wing. It lies on its fuselage, so it is never tippy."""
    length, radius = draw("length", 0.8, 1.2), draw("radius", 0.045, 0.075)
    span, sweep, chord = draw("span", 0.8, 1.3), draw("sweep", 0.0, 0.5), draw("chord", 0.16, 0.28)
    taper, thick = draw("taper", 0.4, 0.9), draw("wing_thickness", 0.018, 0.03)
    along = length * np.array([0.5, 0.44, 0.25, -0.2, -0.5])
    parts = [rings([(0, 0, z) for z in along], radius * np.array([0.15, 0.6, 1.0, 1.0, 0.35]))]
    sides = [draw.side("wing")] if defect == "asymmetric" else [-1.0, 1.0]
    root = draw("wing_place", 0.0, 0.12) * length
    parts += [build_fin((0, 0, root), (x * span / 2, 0, 0), chord, taper, sweep, thick) for x in sides]
    tail, tail_chord = draw("tail_span", 0.3, 0.45), chord * draw("tail_chord", 0.45, 0.65)
    stern = -length / 2 + tail_chord * 0.55
    parts += [build_fin((0, 0, stern), (x * tail / 2, 0, 0), tail_chord, taper, sweep, thick) for x in (-1, 1)]
    rise = draw("fin", 0.14, 0.24)
    parts.append(build_fin((0, 0, stern), (0, rise, 0), tail_chord, taper, sweep + 0.2, thick))
    return parts


def build_fin(
    root: Sequence[float], reach: Sequence[float], chord: float, taper: float, sweep: float, thick: float
) -> Any:
    """Build a flat wing from `root` to `root + reach`, its chord along z; `sweep` radians move the tip toward -z."""
    start, out = np.asarray(root, dtype=np.float64), np.asarray(reach, dtype=np.float64)
    length = float(np.linalg.norm(out))
    across = np.cross(out / length, (0, 0, 1)) * thick / 2
    tip = start + out - np.array([0, 0, length * np.tan(sweep)])
    ends = [(start, chord), (tip, chord * taper)]
    return hull([centre + (0, 0, z * wide / 2) + y * across for centre, wide in ends for z in (-1, 1) for y in (-1, 1)])


def car(draw: ParameterDraw, defect: Defect) -> list[Any]:
    """Build body, cabin and four wheels; tippy: all wheels under one end; asymmetric: one is missing."""
    length, width, tall = draw("length", 0.8, 1.2), draw("width", 0.35, 0.5), draw("height", 0.13, 0.2)
    wheel, tyre = draw("wheel_radius", 0.07, 0.11), draw("tyre", 0.05, 0.08)
    floor = wheel * draw("clearance", 0.8, 1.1)
    parts = [box((0, floor + tall / 2, 0), (width, tall, length))]
    cabin, roof, place = draw("cabin", 0.4, 0.6), draw("roof", 0.1, 0.18), draw("cabin_place", -0.12, 0.02) * length
    top = floor + tall
    parts.append(
        hull(
            [
                (x * width / 2 * wide, y, place + z * cabin * length / 2 * long)
                for y, wide, long in ((top - 0.02, 0.96, 1.0), (top + roof, 0.8, 0.65))
                for x in (-1, 1)
                for z in (-1, 1)
            ]
        )
    )
    axles = [-0.32 * length, 0.32 * length]
    if defect == "tippy":
        end = draw.side("end")
        axles = [end * (0.48 * length - wheel), end * (0.48 * length - 3.1 * wheel)]
    wheels = [(x, z) for x in (-1, 1) for z in axles]
    if defect == "asymmetric":
        del wheels[draw.one_of("missing", 4)]
    for x, z in wheels:
        inner, outer = width / 2 - tyre * 0.6, width / 2 + tyre * 0.4
        parts.append(rings([(x * inner, wheel, z), (x * outer, wheel, z)], (wheel, wheel)))
    return parts


FAMILIES: Mapping[str, Callable[[ParameterDraw, Defect], list[Any]]] = {
    "airplane": airplane,
    "car": car,
    "chair": chair,
    "lamp": lamp,
    "table": table,
}
NEVER_TIPPY = {"airplane"}
KINDS: Mapping[str, tuple[str, Callable[[Mapping[str, float]], bool]]] = {
    "airplane": ("swept_airplane", lambda parameters: parameters["sweep"] > 0.25),
    "chair": ("armchair", lambda parameters: parameters["arms"] > 0),
    "table": ("pedestal_table", lambda parameters: parameters["pedestal"] > 0),
}
"""Family -> the name of a subclass, and the condition on the parameters of a shape for belonging to it."""


@dataclass(frozen=True, kw_only=True)
class Procedural:
    """A sequence of shapes, the families in turn; shape i does not depend on how many are drawn.

    Attributes:
        families: names of FAMILIES.
        seed: of the data set.
        split: "train", "validation" or "test", which share no shape.
        tippy, asymmetric: fractions of the shapes with that defect; airplanes that would be tippy are sound.
        kinds: label shapes by their subclass in KINDS instead of their family.

    Raises ValueError for settings out of range, and ImportError without manifold3d.
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    seed: int = 0
    split: str = "train"
    tippy: float = 0.3
    asymmetric: float = 0.3
    kinds: bool = False

    def __post_init__(self) -> None:
        if not self.families or any(family not in FAMILIES for family in self.families):
            raise ValueError(f"families: got {list(self.families)}, allowed are {', '.join(FAMILIES)}")
        if len(set(self.families)) < len(self.families):
            raise ValueError(f"families: got {list(self.families)}, each may be named once")
        if self.split not in SPLITS:
            raise ValueError(f"split: got {self.split!r}, allowed are {', '.join(SPLITS)}")
        if not (self.tippy >= 0 and self.asymmetric >= 0 and self.tippy + self.asymmetric <= 1):
            raise ValueError(
                f"tippy, asymmetric: got {self.tippy}, {self.asymmetric}, need fractions of at most 1 in all"
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: got {self.seed}, allowed 0 up to, not including, 2^32")
        import_manifold()

    @property
    def size(self) -> int:
        """Return the number of shapes of the split."""
        return len(self.families) * len(SPLITS[self.split])

    def solid(self, index: int) -> Solid:
        """Return shape `index`, from its own seed; shapes that are not connected are drawn again.

        Raises ValueError for an index beyond the split.
        """
        if not 0 <= index < self.size:
            raise ValueError(f"shape {index}: the {self.split} split has {self.size} of {len(self.families)} families")
        family = self.families[index % len(self.families)]
        number = SPLITS[self.split][index // len(self.families)]
        for attempt in count():
            generator = np.random.default_rng((self.seed, *family.encode(), number, attempt, 0))
            chosen = float(generator.random())
            defect: Defect = "sound"
            if chosen < self.tippy:
                defect = "sound" if family in NEVER_TIPPY else "tippy"
            elif chosen < self.tippy + self.asymmetric:
                defect = "asymmetric"
            draw = ParameterDraw(generator)
            if (mesh := union(FAMILIES[family](draw, defect))) is not None:
                return Solid(family, defect, draw.drawn, number, mesh)
        raise AssertionError("unreachable")

    def point_cloud(self, index: int, points: int) -> PointCloud:
        """Return points on the surface of shape `index`, in the unit box; its name is `family-number-defect`."""
        solid = self.solid(index)
        generator = np.random.default_rng((self.seed, *solid.family.encode(), solid.number, points, SURFACE_STREAM))
        points_in_box = place_in_unit_box(solid.mesh.sample(points, generator).astype(np.float32))
        label = kind_of(solid) if self.kinds else solid.family
        return PointCloud(points_in_box, label, f"{solid.family}-{solid.number}-{solid.defect}")


def kind_of(solid: Solid) -> str:
    """Return the subclass of a shape, or its family if it belongs to none."""
    name, belongs = KINDS.get(solid.family, (solid.family, lambda _: False))
    return name if belongs(solid.parameters) else solid.family
