"""The task of fine-tuning a model of molecules toward a reward: the group `task=` for molecules."""

from collections.abc import Sequence

import torch

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.sizes import AtomsRequest
from molrl.data.molecules.standardise import Fragments
from molrl.models.molecules.dataset import RealMolecules
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.models.molecules.growth import Growth, growth_settings, refuse_outside
from molrl.models.molecules.policy import MoleculePolicy
from molrl.models.molecules.records import MoleculeRecords
from molrl.models.molecules.value import GrowthValue, MoleculeValue
from molrl.task import Reward, Task


def molecule_task(
    *,
    name: str,
    policy: MoleculePolicy,
    reader: BondReader,
    data: str | None,
    records: str | None,
    fragments: Fragments,
    atoms: AtomsRequest,
    reward: Reward,
    device: torch.device,
    core: str | None = None,
    attach: Sequence[int] | int | None = None,
    steer: float = 0.0,
    avoid: str | None = None,
) -> Task:
    """Return the task of fine-tuning a model of molecules toward a reward.

    Args:
        name: what reports call it.
        policy: the model and how it is sampled.
        reader: reads bonds for the metrics, the drawings and the files.
        data: a file of real molecules for the algorithms that learn from some.
        records: a file of molecules that preferences are about.
        fragments: of those molecules; see `Treatment`.
        atoms: numbers of atoms to draw, see `Sizes.choose`; None: as the training set has them.
        reward: of finished molecules.
        device: of the network and its states.
        core, attach, steer, avoid: of molecules that grow from a fragment; see `Growth`.
    """
    growth = growth_settings(core, attach, atoms, steer, avoid)
    if growth is not None:
        if data is not None or records is not None:
            raise ValueError("data, records: molecules of a file have no core; leave them null in a task with one")
        return growth_task(name, policy, growth, reader, reward, device)
    model = policy.model
    decoder = MoleculeDecoder(model=model, reader=reader, atoms=atoms)
    for note in decoder.notes:
        print(note)
    return Task(
        name=name,
        policy=policy.build(device),
        decoder=decoder,
        reward=reward,
        device=device,
        value_network=lambda: MoleculeValue(model.codec.features),
        data=None if data is None else RealMolecules(data, model.codec, fragments),
        records=None if records is None else MoleculeRecords(records, model.codec, fragments),
    )


def growth_task(
    name: str,
    policy: MoleculePolicy,
    growth: Growth,
    reader: BondReader,
    reward: Reward,
    device: torch.device,
) -> Task:
    """Return the task of fine-tuning a model on molecules that grow from a core.

    Raises:
        ValueError: the core does not fit the model or does not lie in the pocket of the reward.
    """
    decoder = growth.decoder(policy.model, reader)
    refuse_outside(decoder.core, growth.core, reward)
    for note in decoder.notes:
        print(note)
    return Task(
        name=name,
        policy=growth.policy(policy, decoder, device),
        decoder=decoder,
        reward=reward,
        device=device,
        value_network=lambda: GrowthValue(policy.model.codec.features),
    )
