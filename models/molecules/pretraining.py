"""What pretraining needs of molecules: a training set in the model's setting, its buckets, and the model to fit it."""

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from molrl.config import ConfigError, check_arguments, settings
from molrl.data.files import ReadReport
from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.entries import keep_elements
from molrl.data.molecules.enumerated import enumerate_molecules
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule, Molecules
from molrl.data.molecules.qm9 import load_pyg_qm9, load_qm9
from molrl.data.molecules.quality import smiles_set
from molrl.data.molecules.sizes import Sizes
from molrl.gaussian import MaskedPoints
from molrl.machine.device import choose_device
from molrl.machine.interruption import patient
from molrl.machine.memory import enough_memory
from molrl.models.draws import draw_samples
from molrl.models.molecules.codec import MoleculeCodec
from molrl.models.molecules.condition import Condition, labelled, standardised
from molrl.models.molecules.decoder import MoleculeDecoder, molecule_policy
from molrl.models.molecules.model import Architecture, load, save
from molrl.pretrain import Bucket, Pretraining
from molrl.rewards.scores import PerSample
from molrl.runs.checkpoint import check_fits
from molrl.runs.folder import claim, refuse_another, write_whole
from molrl.runs.tracking import append_row

FREE = ("evaluate", "training.steps", "training.cooldown", "training.save_every")  # may change when training goes on
SMALLEST = 3  # atoms; below that there is no shape to learn
CONDITION = "network.condition."  # where a denoiser keeps the layers that read its condition


@dataclass(frozen=True)
class Design:
    """A model before it has met its data."""

    network: Mapping[str, Any]
    noise_min: float
    noise_max: float
    codec: MoleculeCodec
    bucket: int
    conditions: Mapping[str, PerSample[Molecule]]

    @property
    def hydrogens(self) -> str:
        """How a training set must come: hydrogens as "atoms" or as "counts"."""
        return "atoms" if self.codec.hydrogen_scale is None else "counts"

    def fit(self, molecules: Sequence[Molecule], values: NDArray[np.float64]) -> tuple[Architecture, list[Bucket]]:
        """The architecture with the statistics of the training set, and the set in buckets of nearly one size.

        Args:
            values: what each molecule is conditioned on, [molecules, conditions].
        """
        rows = [row for row, molecule in enumerate(molecules) if len(molecule) >= SMALLEST]
        if not rows:
            raise ValueError(f"training set: none of {len(molecules)} molecules has at least {SMALLEST} atoms")
        kept, values = [molecules[row] for row in rows], values[rows]
        atoms = np.array([len(molecule) for molecule in kept])
        width = -(-atoms // self.bucket) * self.bucket
        groups = [np.flatnonzero(width == each) for each in np.unique(width)]
        encoded = [self.codec.encode([kept[row] for row in group], int(width[group[0]])) for group in groups]
        square = sum(x.double().square().sum((0, 1)) for x, _ in encoded)
        rms = (torch.as_tensor(square) / int(atoms.sum())).sqrt()
        std = torch.cat([rms[:3].square().mean().sqrt().expand(3), rms[3:].clamp(min=1e-2)])  # one scale for x, y, z
        sizes = Sizes.of(atoms.tolist())
        conditions = [Condition.of(name, values[:, k], atoms) for k, name in enumerate(self.conditions)]
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
            conditions=[asdict(condition) for condition in conditions],
        )
        contexts = [{"mask": mask} for _, mask in encoded]
        if conditions:
            told = torch.from_numpy(standardised(conditions, values))
            contexts = [{**context, "condition": told[group]} for context, group in zip(contexts, groups, strict=True)]
        return architecture, [Bucket(x, context) for (x, _), context in zip(encoded, contexts, strict=True)]


def design(
    *,
    network: Mapping[str, Any],
    noise_min: float,
    noise_max: float,
    codec: Mapping[str, Any],
    bucket: int,
    conditions: Mapping[str, PerSample[Molecule]],
) -> Design:
    """A design from plain numbers, and from the rewards that tell the properties it is conditioned on."""
    if bucket < 1:
        raise ValueError(f"bucket: got {bucket}, need at least 1")
    if not all(type(number) is int and 0 < number <= 118 for number in codec.get("elements") or [None]):
        raise ValueError(f"codec.elements: got {codec.get('elements')}, need atomic numbers")
    for name, reward in conditions.items():
        if not isinstance(reward, PerSample):
            raise ValueError(f"conditions.{name}: got {reward!r}, need a reward of single molecules such as QED")
    check_arguments(MoleculeCodec, codec, "model.codec", partial=False)
    fields = {**codec, "elements": tuple(codec["elements"])}
    return Design(network, noise_min, noise_max, MoleculeCodec(**fields), bucket, conditions)


def enumerated_set(*, n: int, max_heavy: int, seed: int, hydrogens: str) -> tuple[Molecules, list[str]]:
    """Small molecules enumerated with RDKit; nothing is skipped."""
    return enumerate_molecules(n, max_heavy, seed, counts=hydrogens == "counts", workers=2), []


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
    config: Mapping[str, Any],
) -> int:
    """`molrl pretrain`: train, report sample quality along the way, and leave a model in the run folder.

    With `init`, training starts from the weights of that model instead of random ones. `config` is what all this was
    composed as; the folder keeps it.
    """
    place = choose_device(device)
    refuse_another(config, FREE)
    refuse_other_data(data, "hydrogens", "molecules")
    molecules, refused = data(hydrogens=model.hydrogens)
    molecules, foreign = known_elements(molecules, model.codec)
    for line in (refused + foreign)[:20]:
        print(f"skipped {line}")
    if len(refused) + len(foreign) > 20:
        print(f"skipped {len(refused) + len(foreign) - 20} more")
    known, values, unlabelled = labelled(molecules, model.conditions)
    for line in unlabelled:
        print(f"skipped {line}")
    molecules = molecules if not unlabelled else [molecules[row] for row in known]
    architecture, buckets = model.fit(molecules, values)
    sampling = partial(molecule_policy, num_steps=num_steps, grid_power=grid_power, eta=1.0, device=place)
    torch.manual_seed(training.seed)
    with settings("model"):
        built = architecture.build()
    if init is not None:
        warm_start(built.denoiser, init)
    with settings():
        sampling(built)
    folder = Path(run)
    reference = smiles_set(molecules, reader)
    parameters = sum(parameter.numel() for parameter in built.denoiser.parameters())
    print(f"{folder}: {len(molecules)} molecules, {parameters:,} parameters, {training.steps} steps")

    def report(metrics: Mapping[str, float], average: Mapping[str, Tensor]) -> None:
        save(folder / "model", architecture, average, reference)
        fresh = load(str(folder / "model"))
        decoder = MoleculeDecoder(model=fresh, reader=reader)
        drawn = draw_samples(sampling(fresh), decoder, evaluate, seed=training.seed, batch=256, device=place)
        quality = decoder.measure(drawn)
        row = {**metrics, **{name: None if math.isnan(value) else value for name, value in quality.items()}}
        append_row(folder / "pretrain.jsonl", row, "step")
        print(
            f"step {metrics['step']:.0f}/{training.steps} loss {metrics['loss']:.4f} "
            f"validity {quality['validity']:.3f} connected {quality['validity_connected']:.3f} "
            f"uniqueness {quality['uniqueness']:.3f} molecule stability {quality['molecule_stability']:.3f} "
            f"{metrics['seconds']:.0f} s",
            flush=True,
        )

    with claim(config, FREE), patient("this step") as request, enough_memory("training.batch or evaluate"):
        refuse_other_model(folder, architecture.plain())
        training.run(built.denoiser, MaskedPoints(), buckets, folder, report, request.is_set)
    request.raise_if_requested()
    print(f"model: {folder / 'model'}")
    return 0


def warm_start(denoiser: nn.Module, weights: str) -> None:
    """Take over another model's weights; its statistics of the data stay with its own data.

    An unconditional model has no condition layers to give: they stay as they are, and as they start they say nothing.
    """
    own, state = denoiser.state_dict(), load(weights).denoiser.state_dict()
    told = {name: value for name, value in own.items() if name.startswith(CONDITION)}
    if told and not any(name.startswith(CONDITION) for name in state):
        print(f"init={weights} is unconditional: the condition starts without effect")
        state = {**told, **state}
    check_fits(own, state, f"the network to be trained (init={weights})")
    denoiser.load_state_dict(state)


def refuse_other_data(data: Callable[..., Any], asked: str, wanted: str) -> None:
    """Raise ConfigError for a data set of another decoder, which cannot be asked for what a model of this one needs."""
    if asked not in inspect.signature(data).parameters:
        name = getattr(getattr(data, "func", data), "__name__", type(data).__name__)
        raise ConfigError(f"data: {name} has no {wanted}, and this model learns from {wanted}")


def refuse_other_model(folder: Path, description: Mapping[str, Any]) -> None:
    """A folder with another model's run is left alone."""
    path = folder / "architecture.json"
    text = json.dumps(description, indent=1) + "\n"
    if path.exists() and path.read_text(errors="replace") != text:
        raise ConfigError(
            f"run={folder} holds the training of another model or of another data set; name another folder"
        )
    write_whole(path, text.encode())
