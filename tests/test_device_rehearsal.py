"""Every network and every algorithm of every domain runs on a device that is not there, with all its tensors on it."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import OF_GRADIENTS
from rehearsal import MisplacedError, rehearsal
from torch import Tensor, nn

from molrl.building import build
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.diagnostics import chain_kl, probe_rollouts
from molrl.finetune import FinetuneConfig, finetune, freeze_copy
from molrl.gaussian import Context
from molrl.guidance import SMC, SVDD, BestOf, Guidance, RewardGuided
from molrl.models.molecules import model as molecules
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.models.molecules.edm import EDM
from molrl.models.molecules.policy import molecule_policy
from molrl.models.molecules.value import MoleculeValue
from molrl.models.networks import network_class
from molrl.models.precondition import Preconditioned
from molrl.models.shapes import model as shapes
from molrl.models.shapes.decoder import ShapeDecoder
from molrl.models.shapes.policy import shape_policy
from molrl.models.shapes.value import ShapeValue
from molrl.noise import ChainNoise, Key
from molrl.plugins import DENOISERS, registered
from molrl.policy import Policy
from molrl.pretraining import Bucket, Pretraining
from molrl.runs.checkpoints import CheckpointPolicy
from molrl.schedule import LogLinear, Polynomial, Tabulated
from molrl.task import Task
from molrl.trainable_parameters import trainable_module
from molrl.trajectory import move_context

pytestmark = pytest.mark.own_process  # a device must be known to torch before the first gradient of a process

STEPS = 2
DEPTHS = {"blocks": 1, "layers": 1, "heads": 2}  # of networks; all other sizes are 8
SMALL = {"train_steps": 2, "noisings": 2, "states": 2, "candidates": 2, "lookahead": 1, "held": 1}
CONF = Path(__file__).parents[1] / "conf" / "algo"
ALGORITHMS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in ("code", *OF_GRADIENTS))
NETWORKS: Mapping[str, Mapping[str, Callable[..., nn.Module]]] = {
    "molecules": molecules.NETWORKS,
    "shapes": shapes.NETWORKS,
}


def sizes_of(kind: str, own: Mapping[str, Callable[..., nn.Module]]) -> dict[str, Any]:
    """Return small sizes for whatever a network takes that its domain does not give it."""
    taken = inspect.signature(network_class(kind, own)).parameters.values()
    named = [one.name for one in taken if one.default is one.empty]
    given = ("features", "conditions", "classes")
    return {"kind": kind, **{name: DEPTHS.get(name, 8) for name in named if name not in given}}


def order(samples: Sequence[Any]) -> Tensor:
    """Return a reward that is only there to differ."""
    return torch.arange(float(len(samples)))


def with_data(task: Task) -> Task:
    """Return a task with clean states of its own kind, for the algorithms that learn from some."""

    def data(samples: Sequence[int], key: Key) -> tuple[Tensor, Context]:
        context = task.decoder.draw_context(samples, key)
        states = torch.from_numpy(
            key.generator(0, 9).standard_normal((len(samples), *task.decoder.state_shape(context)))
        )
        return task.policy.sampler.space.project(states.float(), context), context

    return replace(task, data=data)


def molecule_task(device: torch.device, kind: str = "egnn") -> Task:
    """Return a task with a small network of molecules of this kind."""
    codec = {"elements": (1, 6, 8), "type_scale": 0.25, "charge_scale": 0.1}
    if kind == "edm":
        network = EDM(width=8, blocks=1, features=4)
        built = molecules.Pretrained(
            network, Polynomial(), molecules.build_codec(codec), molecules.EDM_SIZES, None, None
        )
    else:
        built = molecules.Architecture(
            network=sizes_of(kind, molecules.NETWORKS),
            noise_min=0.01,
            noise_max=20.0,
            data_std=(1.0,) * 7,
            codec=codec,
            sizes={"atoms": (3, 5), "counts": (1, 1)},
        ).build()
    return with_data(
        Task(
            name="rehearsal",
            policy=molecule_policy(built, num_steps=STEPS, grid_power=1.4, eta=1.0, device=device),
            decoder=MoleculeDecoder(model=built, reader=rdkit_bonds),
            reward=order,
            device=device,
            value_network=lambda: MoleculeValue(built.codec.features),
        )
    )


def shape_task(device: torch.device, kind: str = "set_transformer") -> Task:
    """Return a task with a small network of point clouds of this kind."""
    built = shapes.ShapeArchitecture(
        network=sizes_of(kind, shapes.NETWORKS),
        classes=("box", "ball"),
        points=8,
        mean=(0.0, 0.0, 0.0),
        std=0.5,
        data_std=(1.0, 1.0, 1.0),
        noise_min=0.02,
        noise_max=30.0,
    ).build()
    return with_data(
        Task(
            name="rehearsal",
            policy=shape_policy(built, num_steps=STEPS, grid_power=1.0, eta=1.0, device=device),
            decoder=ShapeDecoder(model=built),
            reward=order,
            device=device,
            value_network=lambda: ShapeValue(classes=2),
        )
    )


def algorithm(name: str) -> Any:
    """Return an algorithm as its YAML has it, with few steps."""
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())["algo"]
    return build({**config, **{key: value for key, value in SMALL.items() if key in config}}, "algo")


def one_round(task: Task, algo: Any, folder: Path, rollouts: int = 4) -> dict[str, float]:
    """Fine-tune for two rounds, the second from the checkpoint of the first, and return the metrics of the second."""
    size = getattr(algo, "group_size", 1)
    loop = FinetuneConfig(
        iterations=1,
        rollouts=2 * size if size > 1 else rollouts,
        minibatch=8,
        epochs=1,
        optimizer=partial(torch.optim.AdamW, lr=1e-3),
        clip_norm=1.0,
        ratio_tolerance=1.0,
        lost_limit=0.5,
        seed=0,
        save_every=1,
        fresh_optimizer=False,
        keep=CheckpointPolicy(newest=1, best="reward", highest=True),
    )
    rows: list[dict[str, float]] = []
    reference = freeze_copy(task.policy)
    for iterations in (1, 2):
        finetune(replace(loop, iterations=iterations), task, algo, reference, folder, rows.append)
    kl = chain_kl(task.policy, reference, probe_rollouts(task.rollout(range(2), Key(1))), task.processes)
    return {**rows[-1], "chain_kl": kl}


def check_round(metrics: Mapping[str, float]) -> None:
    """Check that a round ran to its end with numbers, and that the rollout's kernel was that of training."""
    assert metrics["iteration"] == 1
    assert math.isfinite(metrics["reward"])
    assert math.isfinite(metrics["chain_kl"])
    assert metrics["max_abs_log_ratio_first"] < 1e-3


@pytest.mark.parametrize(
    ("make", "name"),
    [(molecule_task, name) for name in ALGORITHMS] + [(shape_task, name) for name in ("ddpo", "rgdm", "rwr")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_algorithm_learns_on_the_device(make: Callable[..., Task], name: str, tmp_path: Path) -> None:
    """Rollout, advantages, losses, gradients, optimiser, diagnostics, checkpoint and resume."""
    with rehearsal() as device:
        check_round(one_round(make(device), algorithm(name), tmp_path))


KINDS = [("molecules", "edm")] + [(domain, kind) for domain, own in NETWORKS.items() for kind in own]


@pytest.mark.parametrize(("domain", "kind"), KINDS + [("registered", kind) for kind in registered(DENOISERS)])
def test_every_network_learns_on_the_device(domain: str, kind: str, tmp_path: Path) -> None:
    """With a value network and the divergence from the reference beside it, and under autocast."""
    if kind == "tensor_field":
        pytest.importorskip("e3nn", reason="TensorField needs e3nn")
    with rehearsal() as device:
        task = (shape_task if domain == "shapes" else molecule_task)(device, kind)
        check_round(one_round(task, algorithm("dpok_sd"), tmp_path))
        half = replace(task.policy, autocast=torch.bfloat16)
        assert half.rollout(*chain_start(task, half)).final.isfinite().all()


def chain_start(task: Task, policy: Policy) -> tuple[Context, ChainNoise]:
    """Return the context and the noise of two chains."""
    context = move_context(task.decoder.draw_context(range(2), Key(2)), task.device)
    return context, ChainNoise(Key(2), range(2), task.decoder.state_shape(context), task.device)


def test_a_network_with_conditions_learns_on_the_device(tmp_path: Path) -> None:
    with rehearsal() as device:
        network = molecules.NETWORKS["egnn"](features=4, width=8, pair_width=8, blocks=1, radial=8, conditions=1)
        denoiser = Preconditioned(network, LogLinear(0.01, 20.0), [1.0] * 7).to(device)
        context = {"mask": torch.ones(2, 3, dtype=torch.bool), "condition": torch.zeros(2, 1)}
        noise = denoiser(torch.ones(2, 3, 7).to(device), torch.ones(2).to(device), move_context(context, device))
        assert noise.device == device


def test_images_learn_on_the_device(tiny_pipeline: Path, tmp_path: Path) -> None:
    """With guidance and an adapter."""
    from tiny_images import tiny_task

    with rehearsal() as device:
        task = replace(tiny_task(tiny_pipeline, device=device, num_steps=STEPS, batch=2), reward=order)
        check_round(one_round(task, algorithm("ddpo_sd"), tmp_path, rollouts=2))


@pytest.mark.parametrize("name", ["stable_diffusion_3", "flux_1", "flux_2", "flux_2_klein", "z_image"])
def test_flows_learn_on_the_device(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every family, with guidance and an adapter: its own places of tokens, lists, masks and guidance inputs.

    Without Qwen-Image, whose complex rotary numbers have no gradient on this device. FLUX's positions are float32, as
    diffusers has them on Apple's GPUs, which it knows by their name.
    """
    pytest.importorskip("diffusers", reason="images need the extra image")
    from diffusers.models.transformers import transformer_flux, transformer_flux2
    from tiny_flows import write_flow
    from tiny_images import tiny_task

    for module in (transformer_flux, transformer_flux2):
        monkeypatch.setattr(module, "maybe_adjust_dtype_for_device", lambda *_: torch.float32)
    folder = write_flow(name, tmp_path / "flow" / "tiny")
    with rehearsal() as device:
        settings: dict[str, Any] = {"num_steps": STEPS + 1, "batch": 2, "size": [16, 16], "eta": 0.7}
        task = replace(tiny_task(folder, device=device, **settings), reward=order)
        check_round(one_round(task, algorithm("ddpo_sd"), tmp_path / "run", rollouts=2))


@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
def test_what_images_predict_becomes_noise_on_the_device(prediction: str) -> None:
    pytest.importorskip("diffusers", reason="images need the extra image")
    from molrl.models.images.guided_network import Prompts
    from molrl.models.images.guided_unet import GuidedUNet
    from molrl.models.images.pretraining import TextDenoiser

    schedule = Tabulated(torch.linspace(0.99, 0.01, 10, dtype=torch.float64))
    prompts = Prompts(("a",), {"encoder_hidden_states": torch.zeros(2, 2, 3)})
    settings: dict[str, Any] = {"guidance_scale": 1.0, "batch": 2, "dtype": torch.float32}
    with rehearsal() as device:
        unet = GuidedUNet(nn.Identity(), prompts, schedule, prediction=prediction, **settings).to(device)
        x, t = torch.ones(2, 4, 2, 2).to(device), torch.full((2,), 0.5).to(device)
        assert unet.to_prediction(x, x, schedule.level(t)).device == device
        assert TextDenoiser(nn.Identity(), nn.Identity(), schedule, prediction).target(x, x, t).device == device


class Spread:
    """A reward with a gradient: the mean square of the points."""

    differentiable = True

    def __call__(self, samples: Sequence[Any]) -> Tensor:
        return torch.stack([torch.as_tensor(sample.points).square().mean() for sample in samples])


def test_gradients_of_a_reward_are_followed_on_the_device(tmp_path: Path) -> None:
    fields = yaml.safe_load((CONF / "rgdm.yaml").read_text())["algo"]
    algo = build({**fields, **{key: SMALL[key] for key in SMALL if key in fields}, "guidance": "gradient"}, "algo")
    with rehearsal() as device:
        check_round(one_round(replace(shape_task(device), reward=Spread()), algo, tmp_path))


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_methods_of_gradients_learn_on_the_device(name: str, tmp_path: Path) -> None:
    with rehearsal() as device:
        check_round(one_round(replace(shape_task(device), reward=Spread()), algorithm(name), tmp_path))


@pytest.mark.parametrize(
    "guidance",
    [
        BestOf(of=2),
        RewardGuided(candidates=2, radius=1.0, temperature=0.1, first=0.0, last=1.0, lookahead=1),
        SVDD(candidates=2, temperature=0.1, first=0.0, last=1.0, guided=2, lookahead=1),
        SMC(particles=2, kept=2, temperature=0.1, threshold=1.0, first=0.0, last=1.0, scored=2, lookahead=1),
    ],
    ids=type,
)
def test_guided_samples_are_drawn_on_the_device(guidance: Guidance) -> None:
    with rehearsal() as device:
        assert len(guidance.draw(molecule_task(device), range(2), Key(0)).samples) == 2


@pytest.mark.parametrize("make", [molecule_task, shape_task], ids=["molecules", "shapes"])
@pytest.mark.parametrize(("optimizer", "time_mean"), [("adamw", None), ("muon", 0.5)])
def test_pretraining_runs_on_the_device(
    make: Callable[..., Task], optimizer: Any, time_mean: float | None, tmp_path: Path
) -> None:
    """Losses, optimiser, averaged weights, and a second half that goes on from the checkpoint."""
    training = Pretraining(
        steps=1,
        batch=2,
        optimizer=optimizer,
        lr=1e-3,
        warmup=1,
        cooldown=1,
        ema=0.9,
        weight_decay=0.0,
        clip_norm=1.0,
        time_mean=time_mean,
        time_std=time_mean,
        save_every=1,
        bf16=False,
        compile=False,
        seed=0,
    )
    with rehearsal() as device:
        task = make(device)
        assert task.data is not None
        buckets = [Bucket(*task.data(range(4), Key(0)))]
        model, rows = trainable_module(task.policy), list[float]()
        for steps in (1, 2):
            half = replace(training, steps=steps)
            half.run(model, task.policy.sampler.space, buckets, tmp_path, lambda row, _: rows.append(row["loss"]))
        assert len(rows) == 2
        assert all(map(math.isfinite, rows))


def test_samples_are_those_of_the_cpu() -> None:
    """The device computes: what it draws is what the CPU draws."""
    torch.manual_seed(0)
    here = shape_task(torch.device("cpu"))
    expected = here.policy.rollout(*chain_start(here, here.policy)).final
    with rehearsal() as device:
        there = replace(
            here, device=device, policy=replace(here.policy, denoiser=trainable_module(here.policy).to(device))
        )
        found = there.policy.rollout(*chain_start(there, there.policy)).final
        assert found.device == device
        torch.testing.assert_close(found.cpu(), expected)


class Misplaced(nn.Module):
    """A network with a table that is no buffer and stays where it was made."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.table = network, torch.zeros(3)

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        noise: Tensor = self.network(x, t, context)
        return noise + self.table


def test_a_tensor_that_is_left_behind_is_noticed(tmp_path: Path) -> None:
    """The rehearsal can fail: in a network, in a context, and in a loss."""
    with rehearsal() as device:
        task = shape_task(device)
        context, noise = chain_start(task, task.policy)
        behind = replace(task.policy, denoiser=Misplaced(trainable_module(task.policy)))
        with pytest.raises(MisplacedError, match=r"add.*on the CPU, there one of shape \(3,\)"):
            behind.rollout(context, noise)
        with pytest.raises(MisplacedError):
            task.policy.rollout(move_context(context, torch.device("cpu")), noise)
        with pytest.raises(MisplacedError):
            _ = torch.ones(2).to(device) * torch.ones(2)


def test_what_the_device_allows_is_what_an_accelerator_allows() -> None:
    """Single numbers and indices from the CPU; no double precision, no index on the device into the CPU."""
    with rehearsal() as device:
        x = torch.arange(4.0).to(device)
        assert (x + torch.tensor(1.0)).tolist() == [1, 2, 3, 4]
        assert x[torch.tensor([1, 2])].tolist() == [1, 2]
        assert (x.new_tensor([2.0]) * x.sum().item()).tolist() == [12]
        with pytest.raises(MisplacedError, match="float64"):
            x.double()
        with pytest.raises(MisplacedError, match="index"):
            torch.arange(4)[x.long()]
        with pytest.raises((RuntimeError, TypeError)):
            x.numpy()
