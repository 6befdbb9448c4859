"""Molecules grown from a core: how many are valid and connected, before and after training with cores, and after RL.

`python benchmarks/grow.py STAGE FOLDER [QM9.npz or CORE ... or POLICY ...]` does one stage after the other in a folder:

- `pretrain` takes 12,000 random molecules of QM9 and trains the shipped qm9_heavy with cores, 600 steps;
- `sample` draws molecules from six cores with both models, with and without steering, and prints a table;
- `learn` fine-tunes the trained model on each core, or on those named, toward `reward=geometry`, and prints a table;
- `drugs` draws molecules from seven cores of drug size with the policies named in place of QM9.npz, and prints a table;
- `learn_drugs` fine-tunes `drugs_cores` on each core of drug size, or on those named, toward `reward=valence`, for each
  of --seeds, draws from both policies on the same noise, and prints tables: by core, and by the number of new atoms. A
  run that was killed goes on, and cells that are done are read from their files.

A sample is good if it is valid, connected, and has new bonds at the open atoms alone; the core is compared bit by bit.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

import molrl
from molrl.cli import main
from molrl.data.molecules.bonds import is_connected
from molrl.data.molecules.perception import perceive_bonds

TRAINING = 12_000  # molecules
PRETRAINING = (
    *("model=heavy", "init=qm9_heavy", "data=qm9", "model.core_probability=0.7", "evaluate=64", "num_steps=25"),
    *("training.steps=600", "training.batch=128", "training.lr=1e-3", "training.warmup=50", "training.cooldown=400"),
    *("training.ema=0.99", "training.bf16=true", "training.save_every=600", "threads=1"),
)
STEER = (0.0, 30.0)
NFT = ("algo=nft", "policy=drugs_cores", "policy.num_steps=25", "reward=valence", "reward.workers=0")
ROUNDS = 24
ENDS = ("before", "after")


class Core(NamedTuple):
    """A fragment: SMILES of its pieces, atoms that make new bonds, numbers of new atoms."""

    smiles: tuple[str, ...]
    attach: tuple[int, ...]
    atoms: str


CORES = {
    "pyrrolidine, C2": Core(("C1CCNC1",), (1,), "2..4"),
    "furan, C2": Core(("c1ccoc1",), (1,), "2..4"),
    "acetamide, C": Core(("CC(=O)N",), (1,), "2..5"),
    "acetamide, N": Core(("CC(=O)N",), (4,), "2..5"),
    "benzene, 1 and 4": Core(("c1ccccc1",), (1, 4), "2..3"),
    "link of methanol and methylamine": Core(("CO", "CN"), (1, 3), "2..3"),
}
DRUG_CORES = {
    "4-aminoquinazoline, N": Core(("Nc1ncnc2ccccc12",), (1,), "6..12"),
    "benzamide, N": Core(("NC(=O)c1ccccc1",), (1,), "6..12"),
    "benzenesulfonamide, C4": Core(("NS(=O)(=O)c1ccccc1",), (8,), "6..12"),
    "1-phenylpiperazine, N4": Core(("N1CCN(CC1)c1ccccc1",), (1,), "6..12"),
    "indole, C3": Core(("c1c[nH]c2ccccc12",), (1,), "6..12"),
    "pyrimidine, 2 and 5": Core(("c1ncc(cn1)",), (1, 4), "8..14"),
    "link of toluene and isonicotinamide": Core(("Cc1ccccc1", "NC(=O)c1ccncc1"), (1, 8), "2..4"),
}
GAP = 2.5  # angstrom between the open atoms of two pieces, as across one atom


def write_core(core: Core, path: Path) -> None:
    """Write the pieces of a core, relaxed by MMFF; a second one is mirrored to face the first across a gap."""
    with Chem.SDWriter(str(path)) as writer:
        end, outward = np.zeros(3), np.zeros(3)
        for row, smiles in enumerate(core.smiles):
            mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
            rdDistGeom.EmbedMolecule(mol, randomSeed=1)
            rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
            x = mol.GetConformer().GetPositions()
            axis = (x[0] - x[1]) / np.linalg.norm(x[0] - x[1])
            if row:
                normal = (axis + outward) / np.linalg.norm(axis + outward)
                turned = (x - x[0]) - 2 * np.outer((x - x[0]) @ normal, normal)
                mol.GetConformer().SetPositions(end + GAP * outward + turned)
            end, outward = x[0], axis
            writer.write(mol)


def pretrain(folder: Path, qm9: str) -> None:
    """Write the training set and run `molrl pretrain`."""
    folder.mkdir(parents=True, exist_ok=True)
    full = np.load(qm9)
    molecule = np.repeat(np.arange(len(full["num_atoms"])), full["num_atoms"])
    rows = np.sort(np.random.default_rng(0).permutation(len(full["num_atoms"]))[:TRAINING])
    atoms = np.isin(molecule, rows)
    subset = {"index": full["index"][rows], "num_atoms": full["num_atoms"][rows]}
    subset |= {"atomic_numbers": full["atomic_numbers"][atoms], "positions": full["positions"][atoms]}
    np.savez_compressed(folder / "qm9.npz", **subset)
    main(["pretrain", *PRETRAINING, f"data.path={folder / 'qm9.npz'}", f"run={folder / 'pretrained'}"])


def settings_of(name: str, folder: Path, cores: Mapping[str, Core] = CORES) -> dict[str, Any]:
    """Return the settings of a core, whose file is written."""
    core, path = cores[name], folder / f"{list(cores).index(name)}.sdf"
    write_core(core, path)
    return {"core": str(path), "attach": list(core.attach), "atoms": core.atoms}


def good(samples: Sequence[Any]) -> float:
    """Return the fraction of samples that are valid, connected and obey the core."""
    mols = [perceive_bonds(sample).mol for sample in samples]
    return float(np.mean([mol is not None and is_connected(mol) for mol in mols]))


def sample(folder: Path) -> None:
    """Print the share of good samples of both models, core by core."""
    tabulate(folder, CORES, {"qm9_heavy": "qm9_heavy", "with cores": str(folder / "pretrained")})


def drugs(folder: Path, *policies: str) -> None:
    """Print the share of good samples of each policy in 25 steps, for cores of drug size."""
    folder.mkdir(parents=True, exist_ok=True)
    tabulate(folder, DRUG_CORES, {policy: molrl.load_policy(policy, num_steps=25) for policy in policies})


def tabulate(folder: Path, cores: Mapping[str, Core], models: Mapping[str, Any], n: int = 100) -> None:
    """Print the share of good samples for each core, model and strength of steering."""
    print("| core | new atoms |" + "".join(f" {model}, steer={steer:g} |" for model in models for steer in STEER))
    for name, core in cores.items():
        given, cells = settings_of(name, folder, cores), []
        for weights in models.values():
            drawn = [molrl.sample(weights, n, seed=0, device="cpu", steer=steer, **given) for steer in STEER]
            cells += [good(samples) for samples in drawn]
        print(f"| {name} | {core.atoms} |" + "".join(f" {100 * cell:.1f} % |" for cell in cells), flush=True)


def learn(folder: Path, *names: str, seeds: Sequence[int] = (0,)) -> None:
    """Print the share of good samples before and after RL, core by core: of those that are named, or of all."""
    print("| core | before | after | queries | minutes |")
    for name, seed in ((name, seed) for name in names or CORES for seed in seeds):
        given, began = settings_of(name, folder), time.perf_counter()
        run = folder / f"run{list(CORES).index(name)}_{seed}"
        loop: dict[str, Any] = {
            "iterations": 8,
            "rollouts": 96,
            "evaluate": 128,
            "seed": seed,
            "threads": 1,
            "compile": False,
        }
        finished = molrl.train(
            f"policy={folder / 'pretrained'}",
            *("policy.num_steps=25", "reward=geometry", "algo=ddpo", f"run={run}", "reward.workers=0"),
            *(f"task.{key}={value}".replace(" ", "") for key, value in given.items()),
            task="grow",
            **loop,
        )
        ends = [finished.summary[end]["validity_connected"] for end in ("before", "after")]
        queries, minutes = finished.summary["reward_queries"], (time.perf_counter() - began) / 60
        cells = " | ".join(f"{100 * end:.1f} %" for end in ends)
        print(f"| {name} | {cells} | {queries} | {minutes:.1f} |", flush=True)


def learn_drugs(
    folder: Path,
    *names: str,
    seeds: Sequence[int] = (0,),
    rounds: int = ROUNDS,
    rollouts: int = 128,
    draws: int = 128,
) -> None:
    """Print what RL does for cores of drug size; cells that are done are read from their files."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = list[Cell]()
    for name in names or DRUG_CORES:
        for seed in seeds:
            path = folder / f"{list(DRUG_CORES).index(name)}_{seed}.json"
            if not path.exists():
                cell = learn_cell(name, folder, seed, rounds, rollouts, draws)
                path.write_text(json.dumps(cell._asdict()), "utf-8")
            cells.append(Cell(**json.loads(path.read_text("utf-8"))))
            print(cost(cells[-1]), flush=True)
    print("\n".join([*by_core(cells), "", *by_size(cells)]))


class Cell(NamedTuple):
    """The samples of one core before and after RL with one seed.

    Attributes:
        before, after: number of new atoms and SMILES of each sample; "" for one that is not good.
        queries: of the reward.
        rounds: of training.
        seconds: of one core, drawing included.
    """

    core: str
    seed: int
    before: list[tuple[int, str]]
    after: list[tuple[int, str]]
    queries: int
    rounds: int
    seconds: float


def learn_cell(name: str, folder: Path, seed: int, rounds: int, rollouts: int, draws: int) -> Cell:
    """Fine-tune on a core, and draw from the policy before and after on the same noise, other than that of training."""
    given, began = settings_of(name, folder, DRUG_CORES), time.process_time()
    run = folder / f"run{list(DRUG_CORES).index(name)}_{seed}"
    finished = molrl.train(
        *NFT,
        *(f"task.{key}={value}".replace(" ", "") for key, value in given.items()),
        task="grow",
        run=str(run),
        seed=seed,
        iterations=rounds,
        rollouts=rollouts,
        evaluate=draws,
        threads=1,
    )
    base = molrl.load_policy("drugs_cores", num_steps=25)
    drawn = [
        molrl.sample(policy, draws, seed=1000 + seed, device="cpu", steer=STEER[-1], **given)
        for policy in (base, finished.policy)
    ]
    before, after = ([described(sample) for sample in samples] for samples in drawn)
    queries = int(finished.summary["reward_queries"])
    return Cell(name, seed, before, after, queries, rounds, time.process_time() - began)


def described(sample: Any) -> tuple[int, str]:
    """Return the number of new atoms of a sample, and its SMILES if it is good."""
    mol = perceive_bonds(sample).mol
    return len(sample) - len(sample.core), Chem.MolToSmiles(mol) if mol is not None and is_connected(mol) else ""


def cost(cell: Cell) -> str:
    """Return what a cell took, and what it would with as many rounds as the default."""
    whole = cell.seconds / max(cell.rounds, 1) * ROUNDS / 60
    return f"{cell.core}, seed {cell.seed}: {cell.seconds / 60:.1f} core-minutes, {whole:.0f} for {ROUNDS} such rounds"


def by_core(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield the table of cores: good samples of all seeds, different ones among these, queries of a seed."""
    yield "| core | seeds | valid and connected, before | after | different, before | after | queries |"
    yield "|---|---|---|---|---|---|---|"
    for name in dict.fromkeys(cell.core for cell in cells):
        some = [cell for cell in cells if cell.core == name]
        pair = [[smiles for cell in some for _, smiles in getattr(cell, end)] for end in ENDS]
        shares = " | ".join(share([bool(smiles) for smiles in one]) for one in pair)
        different = " | ".join(unlike([smiles for smiles in one if smiles]) for one in pair)
        queries = max(cell.queries for cell in some)
        yield f"| {name} | {len(some)} | {shares} | {different} | {queries:,} |"


def by_size(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield the table of good samples by the number of new atoms, over all seeds."""
    yield "| core | new atoms | samples | before | after |"
    yield "|---|---|---|---|---|"
    for name in dict.fromkeys(cell.core for cell in cells):
        some = [cell for cell in cells if cell.core == name]
        for size in sorted({size for cell in some for size, _ in cell.before}):
            pair = [
                [bool(smiles) for cell in some for atoms, smiles in getattr(cell, end) if atoms == size] for end in ENDS
            ]
            yield f"| {name} | {size} | {len(pair[0])} | {' | '.join(map(share, pair))} |"


def share(hits: Sequence[bool]) -> str:
    """Return a share with its binomial standard error (Agresti and Coull 1998, two hits and two misses added)."""
    n, p = len(hits) + 4, (sum(hits) + 2) / (len(hits) + 4)
    return f"{100 * np.mean(hits):.0f} ± {100 * np.sqrt(p * (1 - p) / n):.0f} %" if hits else ""


def unlike(smiles: Sequence[str]) -> str:
    """Return the share of different molecules among some."""
    return f"{100 * len(set(smiles)) / len(smiles):.0f} %" if smiles else ""


def read_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("pretrain", "sample", "learn", "drugs", "learn_drugs"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("more", nargs="*", help="QM9.npz, cores or policies")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of learn_drugs")
    parser.add_argument("--rollouts", type=int, default=128, help="of each round of learn_drugs")
    parser.add_argument("--draws", type=int, default=128, help="of learn_drugs, before and after")
    return parser.parse_args()


if __name__ == "__main__":
    given = read_arguments()
    effort = {name: getattr(given, name) for name in ("seeds", "rounds", "rollouts", "draws")}
    stages: dict[str, Callable[..., None]] = {
        "pretrain": pretrain,
        "sample": sample,
        "learn": partial(learn, seeds=given.seeds),
        "drugs": drugs,
        "learn_drugs": partial(learn_drugs, **effort),
    }
    stages[given.stage](given.folder, *given.more)
