"""Take the pictures of reports in the documents: `python docs/hooks/screenshots.py FOLDER`.

FOLDER gets the runs that are shown: one toward QED, and a sweep of two algorithms and two seeds. They take some minutes
and are not made again where they are. The browser is Chromium.
"""

import io
import sys
from pathlib import Path

from browser import Page, browse
from PIL import Image

from molrl.cli import main as molrl

FIGURES = Path(__file__).parents[1] / "figures"
RUN = ["train", "task=qed", "algo=rgdm", "evaluate=128", "threads=1"]
SWEEP = ["train", "-m", "task=qed", "algo=ddpo,rgdm", "seed=0,1", "rollouts=32", "minibatch=64", "iterations=8"]
SHORT = ["evaluate=48", "threads=1"]
WIDTH = 1100  # pixels
COLOURS = 96
TURN = "for (let i = 0; i < 3; i++) viewer.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown'}))"


def top(page: Page, selector: str) -> float:
    """Return how far below the top of the page an element begins."""
    return float(page.evaluate(f"document.querySelector({selector!r}).getBoundingClientRect().top + scrollY"))


def save(page: Page, name: str, begin: float, height: float) -> None:
    """Write a part of the page, over its whole width, as docs/figures/NAME.png with few colours."""
    image = Image.open(io.BytesIO(page.photograph(0, begin, WIDTH, height))).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(FIGURES / f"{name}.png", optimize=True)


def photograph_run(page: Page, report: Path) -> None:
    """Take the top of a run's report, its curves, its gallery, and a molecule in space."""
    page.open(report, WIDTH)
    save(page, "report_run", 0, 740)
    save(page, "report_curves", top(page, ".charts") - 90, 790)
    gallery = top(page, "#controls") - 8
    save(page, "report_samples", gallery, 560)
    page.evaluate(f"scrollTo(0, {gallery}); document.querySelectorAll('.card .look')[2].click(); {TURN}")
    page.wait(2)
    save(page, "report_molecule", page.evaluate("scrollY"), 900)


def photograph_sweep(page: Page, report: Path) -> None:
    """Take the results and the first curves of a sweep."""
    page.open(report, WIDTH)
    save(page, "report_sweep", 0, top(page, ".charts") + 425)


def main(folder: Path) -> int:
    """Make the runs and take the pictures; return the exit code."""
    run, sweep = folder / "first", folder / "sweep"
    if code := molrl([*RUN, f"run={run}"]) or molrl([*SWEEP, *SHORT, f"hydra.sweep.dir={sweep}"]):
        return code
    with browse() as page:
        photograph_run(page, run / "report.html")
        photograph_sweep(page, sweep / "report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
