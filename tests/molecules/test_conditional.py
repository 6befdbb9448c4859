"""A conditional model starts as the unconditional one, learns its condition, and names what can be requested."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from command import QUICK_PRETRAINING, complaint, molrl
from torch import Tensor, nn

from molrl.building import build
from molrl.composition import compose
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.enumerated import enumerate_molecules
from molrl.data.molecules.files import read
from molrl.data.molecules.molecule import Molecule
from molrl.data.molecules.sets import MoleculeSet
from molrl.gaussian import MaskedPoints
from molrl.models.draws import draw_samples
from molrl.models.molecules.codec import Elements
from molrl.models.molecules.condition import Condition, label_molecules
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.models.molecules.model import Architecture, Pretrained, load, save
from molrl.models.molecules.policy import molecule_policy
from molrl.models.molecules.pretraining import MoleculeDesign, warm_start
from molrl.models.shipped import SHIPPED
from molrl.noise import Key
from molrl.pretraining import Pretraining
from molrl.rewards.molecules.qed import QED
from molrl.rewards.scores import PerSample, Scored
from molrl.runs import checkpoint
from molrl.runs.errors import CheckpointError
from molrl.testing.denoisers import perturb_parameters

SMALL = {"kind": "egnn", "width": 16, "pair_width": 8, "blocks": 2, "radial": 4}
CHANNELS = Elements(elements=["C", "N"], type_scale=0.25, charge_scale=None, hydrogen_scale=None)
CODEC = CHANNELS.fit([])
CONDITION = {"name": "ring", "mean": 1.0, "std": 0.5, "quantiles": {"3": [0, 1], "5": [1, 1.5, 4]}}


class Nitrogens(PerSample[Molecule]):
    """The number of nitrogen atoms; a molecule with oxygen is a bad one."""

    def score_one(self, sample: Molecule, /) -> Scored:
        if (sample.numbers == 8).any():
            return Scored(0.0, "oxygen: not wanted")
        return Scored(float((sample.numbers == 7).sum()))


def architecture(*conditions: dict[str, object], kind: str = "egnn") -> Architecture:
    network = SMALL if kind == "egnn" else {"kind": kind}
    return Architecture(
        network=network,
        noise_min=0.02,
        noise_max=10.0,
        data_std=(1.0, 1.0, 1.0, 0.2, 0.2),
        codec=CODEC.plain(),
        sizes={"atoms": [3, 5], "counts": [1, 3]},
        conditions=conditions,
    )


@cache
def conditional() -> Pretrained:
    torch.manual_seed(0)
    return architecture(CONDITION).build()


def saved(folder: Path, *conditions: dict[str, object]) -> nn.Module:
    """Save a model with random weights to a folder and return its denoiser."""
    model = architecture(*conditions).build()
    save(folder, architecture(*conditions), perturb_parameters(model.denoiser).state_dict(), None)
    return model.denoiser


def squares(count: int) -> list[Molecule]:
    """Return molecules of four atoms in a square, all carbon or all nitrogen in turn."""
    corners = np.array([[0, 0, 0], [1.5, 0, 0], [1.5, 1.5, 0], [0, 1.5, 0]], dtype=np.float32)
    return [Molecule(np.full(4, 6 + number % 2), corners) for number in range(count)]


def predicted(denoiser: nn.Module, *condition: float) -> Tensor:
    context = {"mask": torch.arange(5) < torch.tensor([[5], [3]]), "condition": torch.tensor(condition).expand(2, -1)}
    x = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0)) * context["mask"][..., None]
    with torch.no_grad():
        out: Tensor = denoiser(x, torch.tensor([0.3, 0.6]), context)
    return out


def test_a_warm_start_from_an_unconditional_model_is_that_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, conditioned = saved(tmp_path / "plain"), architecture(CONDITION).build().denoiser
    warm_start(conditioned, CODEC, str(tmp_path / "plain"))
    assert torch.equal(predicted(conditioned, 2.0), predicted(plain))
    assert torch.equal(predicted(conditioned, -1.0), predicted(plain))
    assert "does not read the condition" in capsys.readouterr().out


def test_a_warm_start_from_a_conditional_model_takes_its_condition_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, conditioned = saved(tmp_path / "other", CONDITION), architecture(CONDITION).build().denoiser
    warm_start(conditioned, CODEC, str(tmp_path / "other"))
    assert torch.equal(predicted(conditioned, 2.0), predicted(other, 2.0))
    assert not torch.equal(predicted(conditioned, 2.0), predicted(conditioned, 1.0))
    assert not capsys.readouterr().out


def test_weights_that_lack_anything_else_are_no_start(tmp_path: Path) -> None:
    saved(tmp_path / "plain")
    deeper = replace(architecture(CONDITION), network={**SMALL, "blocks": 3}).build().denoiser
    with pytest.raises(CheckpointError, match=r"missing.*blocks\.2.*unexpected \[\]"):
        warm_start(deeper, CODEC, str(tmp_path / "plain"))
    saved(tmp_path / "conditioned", CONDITION)
    with pytest.raises(CheckpointError, match=r"unexpected.*network\.condition"):
        warm_start(architecture().build().denoiser, CODEC, str(tmp_path / "conditioned"))


def test_the_shipped_heavy_model_is_a_start_for_the_conditional_one() -> None:
    model = build(compose("pretrain", ["model=heavy_qed"])["model"], "model")
    examples = model.load_data(
        lambda **_: MoleculeSet(enumerate_molecules(30, 5, 0, counts=True, workers=0)), init=None
    )
    described, buckets = model.describe(examples)
    assert [condition["name"] for condition in described.conditions] == ["qed"]
    assert torch.cat([bucket.context["condition"] for bucket in buckets]).mean().abs() < 1e-4
    warm_start(described.build().denoiser, examples.codec, "qm9_heavy")


def trained(steps: int, folder: Path) -> Pretrained:
    """Train a tiny model conditioned on the number of nitrogens in squares."""
    design = MoleculeDesign(
        network=SMALL,
        noise_min=0.05,
        noise_max=8.0,
        codec=CHANNELS,
        bucket=4,
        conditions={"nitrogens": Nitrogens()},
        reader=rdkit_bonds,
        reference="smiles",
        max_skipped=0.0,
        core_probability=0.0,
    )
    examples = design.load_data(lambda **_: MoleculeSet(squares(40)), init=None)
    assert len(examples.molecules) == 40
    described, buckets = design.describe(examples)
    torch.manual_seed(0)
    model = described.build()
    training = Pretraining(
        steps=steps,
        batch=32,
        lr=1e-2,
        warmup=5,
        cooldown=50,
        ema=0.9,
        weight_decay=0.0,
        clip_norm=1.0,
        optimizer="adamw",
        time_mean=None,
        time_std=None,
        save_every=steps,
        bf16=False,
        compile=False,
        seed=0,
    )
    training.run(model.denoiser, MaskedPoints(), buckets, folder, lambda *_: None)
    return model


def test_a_trained_model_draws_what_is_requested(tmp_path: Path) -> None:
    model, device = trained(150, tmp_path), torch.device("cpu")
    policy = molecule_policy(model, num_steps=20, grid_power=1.4, eta=1.0, device=device)
    for requested, element in ((0, 6), (4, 7)):
        decoder = MoleculeDecoder(model=model, reader=rdkit_bonds, condition={"nitrogens": requested})
        drawn = draw_samples(policy, decoder, 16, seed=0, batch=16, device=device)
        atoms = Counter(number for molecule in drawn for number in molecule.numbers.tolist())
        assert atoms[element] > 0.9 * atoms.total()


def test_molecules_without_the_property_are_left_out_and_counted() -> None:
    oxide = Molecule(np.array([6, 8, 6]), np.eye(3, dtype=np.float32))
    kept, values, lines = label_molecules([*squares(2), oxide, *squares(1), oxide], {"nitrogens": Nitrogens()})
    assert kept.tolist() == [0, 1, 3]
    assert values.tolist() == [[0.0], [4.0], [0.0]]
    assert lines == ["molecules without nitrogens, oxygen: 2"]


def test_a_condition_must_be_a_reward() -> None:
    assert "conditions.size" in complaint(["pretrain", "+model.conditions.size=3", *QUICK_PRETRAINING], 2)


def test_a_property_that_never_varies_is_no_condition() -> None:
    with pytest.raises(ValueError, match=r"condition flat: got mean 2\.0 and std 0\.0"):
        Condition.fit("flat", np.full(9, 2.0), np.full(9, 3))


def test_the_input_of_the_network_is_standardised() -> None:
    decoder = MoleculeDecoder(model=conditional(), reader=rdkit_bonds, condition={"ring": 2.0})
    assert decoder.draw_context(range(4), Key(0))["condition"].tolist() == [[2.0]] * 4  # (2 - 1) / 0.5


def test_what_is_not_requested_is_drawn_from_molecules_of_that_size() -> None:
    model = conditional()
    context = MoleculeDecoder(model=model, reader=rdkit_bonds).draw_context(range(2000), Key(0))
    values, sizes = context["condition"][:, 0] * 0.5 + 1, context["mask"].sum(1)
    assert sizes.tolist() == model.sizes.draw(range(2000), Key(0))
    small, large = values[sizes == 3], values[sizes == 5]
    assert 0 <= small.min() < small.max() <= 1 <= large.min() < large.max() <= 4
    assert abs((large < 1.5).float().mean() - 0.5) < 0.05


def test_a_drawn_condition_depends_on_the_sample_alone() -> None:
    decoder = MoleculeDecoder(model=conditional(), reader=rdkit_bonds)
    together, alone = (decoder.draw_context(samples, Key(3))["condition"] for samples in (range(6), [4]))
    assert torch.equal(together[4:5], alone)


def test_a_model_keeps_its_conditions_when_it_is_saved_again(tmp_path: Path) -> None:
    model = conditional()
    MoleculeDecoder(model=model, reader=rdkit_bonds).save(model.denoiser, tmp_path / "model")
    again = load(str(tmp_path / "model"))
    assert again.conditions == model.conditions
    assert torch.equal(predicted(again.denoiser, 1.0), predicted(model.denoiser, 1.0))


@pytest.mark.parametrize("name", ["qm9_heavy", "qm9_all"])
def test_shipped_models_have_no_condition_and_describe_themselves_as_before(name: str, tmp_path: Path) -> None:
    model = load(name)
    assert model.conditions == ()
    assert set(MoleculeDecoder(model=model, reader=rdkit_bonds).draw_context([0], Key(0))) == {"mask"}
    assert model.architecture is not None
    save(tmp_path / "model", model.architecture, model.denoiser.state_dict(), None)
    assert (tmp_path / "model/model.json").read_bytes() == (SHIPPED / "molecules" / name / "model.json").read_bytes()


@pytest.mark.parametrize(
    ("requested", "words"),
    [
        ({"ged": 0.5}, "condition.ged=0.5 ring"),
        ({"ring": float("nan")}, "condition.ring nan number"),
        ({"ring": True}, "condition.ring True number"),
    ],
)
def test_a_model_says_what_can_be_requested(requested: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=".*".join(words.split())):
        MoleculeDecoder(model=conditional(), reader=rdkit_bonds, condition=requested)


@pytest.mark.parametrize(
    "wrong",
    [{"std": 0.0}, {"mean": float("inf")}, {"quantiles": {"3": [0, 1]}}, {"quantiles": [1, 2]}, {"extra": 1}],
)
def test_a_description_that_makes_no_sense_is_no_model(wrong: dict[str, object], tmp_path: Path) -> None:
    values = {**architecture(CONDITION).plain(), "conditions": [{**CONDITION, **wrong}]}
    checkpoint.save(tmp_path / "model", {"weights": conditional().denoiser.state_dict()}, {"model": values})
    with pytest.raises(CheckpointError, match="not a model of molecules"):
        load(str(tmp_path / "model"))


def test_a_network_that_takes_no_condition_says_so() -> None:
    with pytest.raises(ValueError, match=r"tensor_field.*egnn"):
        architecture(CONDITION, kind="tensor_field").build()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model for a few steps by the command line and return its folder."""
    folder = tmp_path_factory.mktemp("conditional") / "run"
    done = molrl("pretrain", "model=heavy_qed", f"run={folder}", *QUICK_PRETRAINING)
    assert done.code == 0, done
    return folder / "model"


def sampled(model: Path, out: Path, settings: Sequence[str]) -> str:
    done = molrl("sample", f"policy={model}", "n=3", "policy.num_steps=5", f"out={out}", *settings)
    assert done.code in (0, 3), done  # four steps of training do not promise a molecule
    assert len(read(out)[0]) == 3
    return done.out


def test_the_command_line_trains_and_requests(pretrained: Path, tmp_path: Path) -> None:
    (conditioned,) = json.loads((pretrained / "model.json").read_text())["conditions"]
    scored = QED(reader=rdkit_bonds)(enumerate_molecules(40, 4, 0, counts=True, workers=0))
    assert conditioned["mean"] == pytest.approx(
        scored.mean().item(), abs=0.05
    )  # this has molecules of one or two atoms as well
    output = sampled(pretrained, tmp_path / "requested.sdf", ["condition.qed=0.4"])
    assert output.startswith("qed: 0.4 (training set 0.")
    assert "drawn" in sampled(pretrained, tmp_path / "drawn.sdf", [])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("condition.qed=0.6", "condition.qed=0.6 no condition"),
        ("policy=HERE condition.qed=abc", "condition.qed 'abc' number"),
        ("policy=HERE +condition.logp=1", "condition.logp=1 qed"),
        ("policy=HERE condition.ged=1", "condition.ged mean condition.qed"),
        ("policy=HERE condition=0.6", "condition=0.6 Mapping"),
    ],
)
def test_a_wrong_condition_is_explained_and_leaves_nothing_behind(
    settings: str, words: str, pretrained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "folder" / "new.sdf"
    message = complaint(["sample", f"out={out}", *settings.replace("HERE", str(pretrained)).split()], 2)
    assert not [word for word in words.split() if word not in message], message
    assert not out.parent.exists()
