"""Stability of a shape by rigid-body simulation in MuJoCo (`pip install 'molrl[shapes]'`).

After DSO (Li et al. 2025, arXiv:2503.22677), which takes the rotation angle of the body; here it is the angle between
the up axes, so that a spin about the vertical does not count.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from molrl.data.shapes.alpha import solid_mesh
from molrl.data.shapes.mass import Mass, mass_of_points, mass_of_solid
from molrl.data.shapes.mesh import ShapeError
from molrl.data.shapes.neighbours import import_scipy
from molrl.rewards.scores import Scored
from molrl.rewards.shapes.body import Body, PointCloudReward, UnsoundError

TIME_STEP = 0.002  # seconds
TO_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # a rotation
Substance = Literal["points", "solid"]


@dataclass(frozen=True, kw_only=True)
class DropTest(PointCloudReward):
    """Minus the tilt in degrees after a simulation on a floor; -180 for a bad sample.

    The shape is rigid and collides as its convex hull, which is all of it that a plane can touch. DSO calls a tilt of
    less than 20 degrees stable; this includes a low shape whose body soon meets the floor.

    Attributes:
        seconds: of simulated time.
        mass: "points": the mass is in the points, as of an empty shell; "solid": it fills the alpha shape of the
            points, as of a print in one piece.
    """

    seconds: float
    mass: Substance = "points"
    floor: float = -180.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.seconds <= 60:
            raise ValueError(f"seconds: got {self.seconds}, need more than 0, up to 60")
        if self.mass not in get_args(Substance):
            raise ValueError(f"mass: got {self.mass!r}, allowed are {', '.join(get_args(Substance))}")
        simulator()

    def measure(self, body: Body) -> Scored:
        mass = mass_of_points(body.points) if self.mass == "points" else mass_within(body.points)
        return Scored(max(-tilt(body.points, mass, self.seconds), self.floor))


def simulator() -> Any:
    """Import MuJoCo, or raise ImportError with the package to install."""
    try:
        return import_module("mujoco")
    except ModuleNotFoundError as error:
        raise ImportError("DropTest needs MuJoCo: pip install 'molrl[shapes]'") from error


def mass_within(points: NDArray[np.float64]) -> Mass:
    """Return the mass of the solid that points [n, 3] enclose; UnsoundError where they enclose none."""
    try:
        return mass_of_solid(solid_mesh(points))
    except ShapeError as error:
        raise UnsoundError(f"no solid: {error}") from None


def tilt(points: NDArray[np.float64], mass: Mass, seconds: float) -> float:
    """Return the angle in degrees between the up axes before and after, for points [n, 3] with y up."""
    mujoco = simulator()
    corners = hull((points - mass.centre) @ TO_Z_UP.T)
    inertia = TO_Z_UP @ mass.inertia @ TO_Z_UP.T
    upper = " ".join(f"{inertia[i, j]:.9g}" for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
    model = mujoco.MjModel.from_xml_string(f"""
<mujoco>
  <option timestep="{TIME_STEP}"/>
  <asset><mesh name="hull" vertex="{" ".join(f"{value:.7g}" for value in corners.ravel())}"/></asset>
  <worldbody>
    <geom type="plane" size="0 0 1"/>
    <body pos="0 0 {-corners[:, 2].min():.7g}">
      <freejoint/>
      <inertial pos="0 0 0" mass="1" fullinertia="{upper}"/>
      <geom type="mesh" mesh="hull"/>
    </body>
  </worldbody>
</mujoco>""")
    data = mujoco.MjData(model)
    for _ in range(round(seconds / TIME_STEP)):
        mujoco.mj_step(model, data)
    up = float(data.xmat[1].reshape(3, 3)[2, 2])
    if not np.isfinite(up):
        raise ArithmeticError("the simulation diverged")
    return float(np.degrees(np.arccos(np.clip(up, -1.0, 1.0))))


def hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners of the convex hull of points [n, 3]; UnsoundError for flat ones."""
    spatial = import_scipy("spatial")
    try:
        corners: NDArray[np.float64] = points[spatial.ConvexHull(points).vertices]
    except spatial.QhullError:
        raise UnsoundError("flat: it has no hull") from None
    return corners
