"""The sheet of a measurement, report/before.json or report/after.json: all that a report shows of its samples."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molrl.exhibit import Counts, Exhibit, Scene, find_scene
from molrl.machine.files import read_bounded, replace_file

if TYPE_CHECKING:
    from molrl.task import SampleDecoder

FOLDER = "report"  # of a run
MAX_EXHIBITS = 64  # of a sheet,
MAX_POSED = 16  # of these, in their surroundings: a pose may have to be searched
MAX_EXHIBIT_BYTES = 700_000  # and what they may take as JSON together
MAX_SHEET_BYTES = 1 << 25
MAX_OUTCOMES = 10_000  # of a distribution
BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


@dataclass(frozen=True)
class Sheet:
    """Samples as a report shows them.

    Attributes:
        n: number of samples that were measured.
        rewards: of those that could be scored.
        makeup: distributions by title.
        exhibits: the first samples, as `Exhibit.as_json` has them, each with the fact "reward" where it has one, and
            `posed` where its structure lies in the surroundings.
        surroundings: what structures lie in, such as a pocket, as the text of a PDB file; "": nothing.
    """

    n: int
    rewards: Sequence[float]
    makeup: Mapping[str, Counts]
    exhibits: Sequence[Mapping[str, Any]]
    surroundings: str = ""


def write_sheet(
    path: Path, samples: Sequence[Any], rewards: Sequence[float], decoder: "SampleDecoder", reward: object = None
) -> None:
    """Write the sheet of samples with their rewards; the first ones, not the best ones, are shown one by one.

    Args:
        path: of the sheet.
        samples: all that were measured.
        rewards: of these; NaN for one that could not be scored.
        decoder: shows and counts them.
        reward: where it, or one that it wraps, is a `Scene`, the first `MAX_POSED` are shown in its surroundings.
    """
    first, scene = list(samples[:MAX_EXHIBITS]), find_scene(reward)
    around = "" if scene is None else look_around(scene)
    poses = [scene.pose(sample) for sample in first[:MAX_POSED]] if scene is not None and around else []
    posed = [number for number, pose in enumerate(poses) if pose is not None]
    for number in posed:
        first[number] = poses[number]
    shown = [with_reward(*pair) for pair in zip(decoder.exhibit(first), rewards, strict=False)]
    for number in posed:
        shown[number]["posed"] = True
    sheet = {
        "n": len(samples),
        "rewards": [significant(reward) for reward in rewards if math.isfinite(reward)],
        "makeup": {title: counts._asdict() for title, counts in decoder.count_makeup(samples).items()},
        "exhibits": limit_bytes(shown),
        "surroundings": around if posed else "",
    }
    path.parent.mkdir(exist_ok=True)
    replace_file(path, json.dumps(sheet, allow_nan=False).encode())


def look_around(scene: Scene) -> str:
    """Return what is around the samples; "" where the file that tells it is gone, which is no reason to end a run."""
    try:
        return scene.surroundings()
    except (OSError, ValueError):
        return ""


def with_reward(exhibit: Exhibit, reward: float) -> dict[str, Any]:
    """Return a sample for JSON with its reward among its facts, the first; numbers that are not finite are left out."""
    facts: dict[str, str | float] = {"reward": reward, **exhibit.facts}
    kept = {
        name: value if isinstance(value, str) else significant(value)
        for name, value in facts.items()
        if isinstance(value, str) or math.isfinite(value)
    }
    return {**exhibit.as_json(), "facts": kept}


def limit_bytes(exhibits: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the first samples that fit into `MAX_EXHIBIT_BYTES`."""
    kept, size = [], 0
    for exhibit in exhibits:
        size += len(json.dumps(exhibit))
        if size > MAX_EXHIBIT_BYTES:
            break
        kept.append(exhibit)
    return kept


def significant(value: float) -> float:
    """Return a number with six significant digits."""
    return float(f"{value:.6g}")


def read_sheet(path: Path) -> Sheet:
    """Return a sheet from a file that is not trusted.

    Raises:
        ValueError: the file is too large or no sheet.
        OSError: there is none.
    """
    try:
        found = json.loads(read_bounded(path, MAX_SHEET_BYTES))
        makeup = {str(title): check_counts(counts) for title, counts in found["makeup"].items()}
        exhibits = [check_exhibit(one) for one in found["exhibits"][:MAX_EXHIBITS]]
        rewards = [float(reward) for reward in found["rewards"] if math.isfinite(reward)]
        return Sheet(int(found["n"]), rewards, makeup, exhibits, str(found.get("surroundings", ""))[:MAX_EXHIBIT_BYTES])
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no sheet of samples ({error!r:.200})") from None


def check_counts(given: Mapping[str, Any]) -> Counts:
    """Return the distribution in a part of a sheet; raise ValueError where it is none."""
    counts = {str(name): int(number) for name, number in given["counts"].items()}
    total = int(given["total"])
    if len(counts) > MAX_OUTCOMES or total < 0 or any(not 0 <= number <= total for number in counts.values()):
        raise ValueError(f"a distribution of {len(counts)} outcomes, expected shares of a total")
    return Counts(counts, total, str(given["of"]))


def check_exhibit(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a sheet shows of one sample; raise ValueError for anything but text, numbers and base64."""
    facts = {
        str(name): float(value) if isinstance(value, int | float) else str(value)
        for name, value in given["facts"].items()
    }
    if not all(isinstance(value, str) or math.isfinite(value) for value in facts.values()):
        raise ValueError("a fact that is not finite")
    shown: dict[str, Any] = {"title": str(given["title"]), "facts": facts}
    for name in ("image", "points"):
        if name in given:
            if not BASE64.fullmatch(given[name]):
                raise ValueError(f"{name}: not in base64")
            shown[name] = given[name]
    if "sdf" in given:
        shown["sdf"] = str(given["sdf"])
    return {**shown, "posed": True} if given.get("posed") is True else shown
