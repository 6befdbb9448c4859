"""Fine-tune toward several objectives at once, and measure each of them on fresh samples.

`python benchmarks/objectives.py qed_sa [folder] [setting=value ...]` runs `molrl train task=qed reward=qed_sa` with
three seeds, each in its own run folder (default runs/qed_sa_SEED; complete ones are not repeated), scores the
fresh samples before and after with `molrl score`, and prints a table in Markdown: the total and its parts, means over
the samples with a value. REWARD.png in the folder shows the best distinct molecules of the first seed.
"""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.drawing import draw_grid
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.sdf import stream_sdf

SEEDS = (0, 1, 2)
PREVIEW_COUNT = 6  # molecules in a row of the image
WHEN = ("before", "after")


def molrl(*arguments: str) -> None:
    """Run one command of molrl, which prints its progress."""
    subprocess.run([sys.executable, "-m", "molrl.cli", *arguments], check=True)


def score(run: Path, when: str, reward: str, settings: list[str]) -> list[dict[str, str]]:
    """Score the samples of a run by `molrl score`, and return its rows."""
    table = run / "samples" / f"{when}.{reward}.csv"
    reward_settings = [item for item in settings if item.startswith("reward.")]
    file = table.with_name(f"{when}.sdf")
    molrl("score", str(file), f"reward={reward}", f"out={table}", "allow_failures=true", *reward_settings)
    with table.open(newline="", encoding="utf-8") as rows:
        return list(csv.DictReader(rows))


def column_values(rows: list[dict[str, str]], column: str) -> list[float]:
    """Return the values of a column that are not empty."""
    return [float(row[column]) for row in rows if row[column]]


def format_mean(values: list[float]) -> str:
    """Format the mean of values and its standard error."""
    return f"{mean(values):.3f} ± {stdev(values) / math.sqrt(len(values)):.3f}" if len(values) > 1 else "-"


def best(run: Path, when: str, reward: str, rows: list[dict[str, str]]) -> tuple[list[Molecule], list[str]]:
    """Return the best distinct molecules, with their values as captions."""
    molecules = list(stream_sdf(run / "samples" / f"{when}.sdf"))
    first = {row["smiles"]: place for place, row in reversed(list(enumerate(rows))) if row[reward]}
    order = sorted(first.values(), key=lambda place: -float(rows[place][reward]))[:PREVIEW_COUNT]
    parts = {name.split(".")[1]: name for name in rows[0] if name.startswith(f"{reward}.") and name.count(".") == 1}
    measured = {part: f"{name}.measured" if f"{name}.measured" in rows[0] else name for part, name in parts.items()}
    captions = [
        "\n".join(f"{part} {float(rows[place][name]):.2f}" for part, name in measured.items()) for place in order
    ]
    return [molecule for place in order if isinstance(molecule := molecules[place], Molecule)], captions


def main() -> None:
    """Run what is missing, score the samples, and print and draw the results."""
    reward, *arguments = sys.argv[1:] or sys.exit("which reward? for instance qed_sa")
    folder = Path(arguments.pop(0)) if arguments and "=" not in arguments[0] else Path("runs")
    lines = list[str]()
    for seed in SEEDS:
        run = folder / f"{reward}_{seed}"
        molrl("train", "task=qed", f"reward={reward}", f"seed={seed}", f"run={run}", *arguments)
        summary = json.loads((run / "summary.json").read_text())
        rows = {when: score(run, when, reward, arguments) for when in WHEN}
        columns = [name for name in rows["before"][0] if name == reward or name.startswith(f"{reward}.")]
        if not lines:
            head = f"| seed | | {' | '.join(columns)} | valid | unique |"
            lines += [head, "|" + "---|" * (head.count("|") - 1)]
        for when in WHEN:
            cells = [format_mean(column_values(rows[when], column)) for column in columns]
            shares = [f"{summary[when][name]:.3f}" for name in ("validity", "uniqueness")]
            lines.append(f"| {' | '.join([str(seed), when, *cells, *shares])} |")
        if seed == SEEDS[0]:
            previews = [best(run, when, reward, rows[when]) for when in WHEN]
            molecules, captions = ([*before, *after] for before, after in zip(*previews, strict=True))
            title = f"the best {PREVIEW_COUNT} of {summary['before']['n']} samples before (top) and after"
            draw_grid(molecules, captions, rdkit_bonds, PREVIEW_COUNT, title).save(folder / f"{reward}.png")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
