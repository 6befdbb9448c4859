"""What pretraining needs of molecules: a training set in the model's setting, its buckets, and the model to fit it."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from molrl.checkpoint import check_fits
from molrl.config import ConfigError, check_arguments, settings
from molrl.data.bonds import BondReader
from molrl.data.enumerated import enumerated
from molrl.data.files import ReadReport, keep_elements, read
from molrl.data.molecule import Molecule, Molecules
from molrl.data.qm9 import load_pyg_qm9, load_qm9
from molrl.data.quality import smiles_set
from molrl.data.sizes import Sizes
from molrl.device import choose_device
from molrl.folder import lock
from molrl.gaussian import MaskedPoints
from molrl.models.codec import MoleculeCodec
from molrl.models.molecules import MoleculeDomain, molecule_policy
from molrl.models.pretrained import Architecture, load, save
from molrl.models.sampling import draw_molecules
from molrl.pretrain import Bucket, Pretraining

SMALLEST = 3  # atoms; below that there is no shape to learn


@dataclass(frozen=True)
class Design:
    """A model before it has met its data."""

    network: Mapping[str, Any]
    noise_min: float
    noise_max: float
    codec: MoleculeCodec
    bucket: int

    @property
    def hydrogens(self) -> str:
        """How a training set must come: hydrogens as "atoms" or as "counts"."""
        return "atoms" if self.codec.hydrogen_scale is None else "counts"

    def fit(self, molecules: Sequence[Molecule]) -> tuple[Architecture, list[Bucket]]:
        """The architecture with the statistics of the training set, and the set in buckets of nearly one size."""
        kept = [molecule for molecule in molecules if len(molecule) >= SMALLEST]
        if not kept:
            raise ValueError(f"training set: none of {len(molecules)} molecules has at least {SMALLEST} atoms")
        by_width: dict[int, list[Molecule]] = {}
        for molecule in kept:
            by_width.setdefault(-(-len(molecule) // self.bucket) * self.bucket, []).append(molecule)
        encoded = [self.codec.encode(group, width) for width, group in sorted(by_width.items())]
        square = sum(x.double().square().sum((0, 1)) for x, _ in encoded)
        rms = (torch.as_tensor(square) / sum(len(molecule) for molecule in kept)).sqrt()
        std = torch.cat([rms[:3].square().mean().sqrt().expand(3), rms[3:].clamp(min=1e-2)])  # one scale for x, y, z
        sizes = Sizes.of([len(molecule) for molecule in kept])
        architecture = Architecture(
            network=dict(self.network),
            noise_min=self.noise_min,
            noise_max=self.noise_max,
            data_std=tuple(round(value, 4) for value in std.tolist()),
            codec={
                "elements": list(self.codec.elements),
                "type_scale": self.codec.type_scale,
                "charge_scale": self.codec.charge_scale,
                "hydrogen_scale": self.codec.hydrogen_scale,
            },
            sizes={"atoms": list(sizes.atoms), "counts": list(sizes.counts)},
        )
        return architecture, [Bucket(x, {"mask": mask}) for x, mask in encoded]


def design(
    *, network: Mapping[str, Any], noise_min: float, noise_max: float, codec: Mapping[str, Any], bucket: int
) -> Design:
    """A design from plain numbers."""
    if bucket < 1:
        raise ValueError(f"bucket: got {bucket}, need at least 1")
    if not all(type(number) is int and 0 < number <= 118 for number in codec.get("elements") or [None]):
        raise ValueError(f"codec.elements: got {codec.get('elements')}, need atomic numbers")
    check_arguments(MoleculeCodec, codec, "model.codec", partial=False)
    fields = {**codec, "elements": tuple(codec["elements"])}
    return Design(network, noise_min, noise_max, MoleculeCodec(**fields), bucket)


def enumerated_set(*, n: int, max_heavy: int, seed: int, hydrogens: str) -> tuple[Molecules, list[str]]:
    """Small molecules enumerated with RDKit; nothing is skipped."""
    return enumerated(n, max_heavy, seed, counts=hydrogens == "counts", workers=2), []


def qm9_file(*, path: str, hydrogens: str) -> tuple[Molecules, list[str]]:
    """QM9 from a local file, and what was skipped."""
    molecules, report = load_qm9(path, "counts" if hydrogens == "counts" else "atoms")
    return molecules, skipped(report)


def pyg_qm9(*, root: str, hydrogens: str) -> tuple[Molecules, list[str]]:
    """QM9 through PyG, and what was skipped."""
    molecules, report = load_pyg_qm9(root, "counts" if hydrogens == "counts" else "atoms")
    return molecules, skipped(report)


def molecule_file(*, path: str, hydrogens: str) -> tuple[Sequence[Molecule], list[str]]:
    """Any molecule file, and what was skipped."""
    molecules, report = read(path, "counts" if hydrogens == "counts" else "atoms")
    return molecules, skipped(report)


def known_elements(molecules: Sequence[Molecule], codec: MoleculeCodec) -> tuple[Sequence[Molecule], list[str]]:
    """Leave out molecules with an element the model has no channel for; says how many and why."""
    if isinstance(molecules, Molecules) and np.isin(molecules.numbers, codec.elements).all():
        return molecules, []
    kept, report = keep_elements(molecules, codec.elements)
    return kept, skipped(report)


def skipped(report: ReadReport) -> list[str]:
    """One line per skipped record."""
    return [f"{item.where}: {item.reason}" for item in report.skipped]


def pretrain_molecules(
    *,
    model: Design,
    data: Callable[..., tuple[Sequence[Molecule], list[str]]],
    training: Pretraining,
    run: str,
    init: str | None,
    device: str,
    evaluate: int,
    num_steps: int,
    grid_power: float,
    reader: BondReader,
) -> int:
    """`molrl pretrain`: train, report sample quality along the way, and leave a model in the run folder.

    With `init`, training starts from the weights of that model instead of random ones.
    """
    place = choose_device(device)
    molecules, refused = data(hydrogens=model.hydrogens)
    molecules, foreign = known_elements(molecules, model.codec)
    for line in (refused + foreign)[:20]:
        print(f"skipped {line}")
    if len(refused) + len(foreign) > 20:
        print(f"skipped {len(refused) + len(foreign) - 20} more")
    architecture, buckets = model.fit(molecules)
    sampling = partial(molecule_policy, num_steps=num_steps, grid_power=grid_power, eta=1.0, device=place)
    torch.manual_seed(training.seed)
    with settings("model"):
        built = architecture.build()
    if init is not None:
        warm_start(built.denoiser, init)
    with settings():
        sampling(built)
    folder = Path(run)
    refuse_other_model(folder, architecture)
    reference = smiles_set(molecules, reader)
    parameters = sum(parameter.numel() for parameter in built.denoiser.parameters())
    print(f"{folder}: {len(molecules)} molecules, {parameters:,} parameters, {training.steps} steps")

    def report(metrics: Mapping[str, float], average: Mapping[str, Tensor]) -> None:
        save(folder / "model", architecture, average, reference)
        fresh = load(str(folder / "model"))
        domain = MoleculeDomain(model=fresh, reader=reader)
        drawn = draw_molecules(sampling(fresh), domain, evaluate, seed=training.seed, batch=256, device=place)
        quality = domain.measure(drawn)
        row = {**metrics, **{name: None if math.isnan(value) else value for name, value in quality.items()}}
        with (folder / "pretrain.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"step {metrics['step']:.0f}/{training.steps} loss {metrics['loss']:.4f} "
            f"validity {quality['validity']:.3f} connected {quality['validity_connected']:.3f} "
            f"uniqueness {quality['uniqueness']:.3f} molecule stability {quality['molecule_stability']:.3f} "
            f"{metrics['seconds']:.0f} s",
            flush=True,
        )

    with lock(folder):
        training.run(built.denoiser, MaskedPoints(), buckets, folder, report)
    print(f"model: {folder / 'model'}")
    return 0


def warm_start(denoiser: nn.Module, weights: str) -> None:
    """Take over another model's weights; its statistics of the data stay with its own data."""
    state = load(weights).denoiser.state_dict()
    check_fits(denoiser.state_dict(), state, f"the network to be trained (init={weights})")
    denoiser.load_state_dict(state)


def refuse_other_model(folder: Path, architecture: Architecture) -> None:
    """A folder with another model's run is left alone."""
    path = folder / "architecture.json"
    text = json.dumps(asdict(architecture), indent=1) + "\n"
    if path.exists() and path.read_text() != text:
        raise ConfigError(
            f"run={folder} holds the training of another model or of another data set; name another folder"
        )
    if not path.exists() and folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"run={folder} exists and is not the folder of a run; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
