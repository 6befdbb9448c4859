"""LoRAs as a start: a run's own, others', one after another; what is written is one adapter for the named base."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from command import complaint
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_images import tiny_task, tiny_xl, write_pipeline
from torch import Tensor, nn
from torch.testing import assert_close

from molrl.algos.adjoint import adjoint_targets
from molrl.algos.average import MovingAverage
from molrl.finetune import freeze_copy
from molrl.models.images.guided_unet import GuidedUNet
from molrl.models.images.lora import LORA, LowRank, join
from molrl.models.images.pipeline import check_variant, load_pipeline
from molrl.noise import Key
from molrl.run import train
from molrl.runs.errors import CheckpointError
from molrl.task import sample_chains
from molrl.trainable_parameters import trainable_module

DIFFUSERS: Any = pytest.importorskip("diffusers", reason="images need the extra image")
CHANGE = 1e-3  # by which an adapter must move an output for a comparison to mean something


def trained(base: Path, folder: Path, seed: int, **changes: Any) -> Path:
    """Write the model of a run that moved its adapter at random."""
    task = tiny_task(base, **changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_module(task.policy).parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    task.decoder.save(trainable_module(task.policy), folder)  # type: ignore[attr-defined]
    return folder


def output_of(unet: Any, added: dict[str, Tensor] | None = None) -> Tensor:
    """Return what a UNet makes of fixed latents and a fixed embedding."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    told = torch.randn(2, 5, unet.config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        output: Tensor = unet(x, 500, encoder_hidden_states=told, added_cond_kwargs=added).sample
    return output


def plain(base: Path, *loras: Path) -> Any:
    """Return diffusers' own pipeline with LoRAs merged one after another."""
    pipeline = DIFFUSERS.DiffusionPipeline.from_pretrained(str(base), local_files_only=True)
    for lora in loras:
        pipeline.load_lora_weights(
            str(lora.parent if lora.is_file() else lora), weight_name=lora.name if lora.is_file() else LORA
        )
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    return pipeline


def test_the_adapter_of_a_third_run_loads_on_the_named_base(tiny_pipeline: Path, tmp_path: Path) -> None:
    """Runs of other ranks, each from the last one's model; as plain diffusers loads it, and as we do."""
    folders = [trained(tiny_pipeline, tmp_path / "1", 1, rank=2)]
    for number, rank in ((2, 3), (3, 2)):
        folders.append(trained(tiny_pipeline, tmp_path / str(number), number, rank=rank, weights=str(folders[-1])))
    assert json.loads((folders[2] / "adapter.json").read_text())["base"] == str(tiny_pipeline.resolve())
    ours, _ = load_pipeline(str(folders[2]), None, torch.float32)
    outputs = [output_of(plain(tiny_pipeline, *folders[:1]).unet), output_of(plain(tiny_pipeline, folders[2]).unet)]
    torch.testing.assert_close(output_of(ours.unet), outputs[1], atol=2e-5, rtol=0)
    assert (outputs[1] - outputs[0]).abs().max() > CHANGE
    task = tiny_task(tiny_pipeline, weights=str(folders[1]))  # the reference of a further run is where it started
    assert isinstance(task.policy.denoiser, GuidedUNet)
    reference = task.policy.denoiser.unet
    torch.testing.assert_close(
        output_of(reference), output_of(plain(tiny_pipeline, folders[1]).unet), atol=2e-5, rtol=0
    )


def test_a_run_of_the_command_goes_on_from_another_run(tiny_pipeline: Path, tmp_path: Path) -> None:
    from test_images import settings_of

    learning = ["algo=ddpo", "algo.train_steps=2", "ratio_tolerance=0.1", "optimizer.lr=0.05"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(settings_of(tiny_pipeline, first, *learning)) == 0
    assert train(settings_of(tiny_pipeline, second, *learning, f"policy='{first}'")) == 0
    ours, _ = load_pipeline(str(second), None, torch.float32)
    shown = output_of(plain(tiny_pipeline, second / "model").unet)
    torch.testing.assert_close(output_of(ours.unet), shown, atol=2e-5, rtol=0)
    assert (shown - output_of(plain(tiny_pipeline, first / "model").unet)).abs().max() > CHANGE


def kohya(unet: nn.Module, rank: int, alpha: float, seed: int) -> dict[str, Tensor]:
    """Return a LoRA as other trainers write it: their names, an alpha of its own, more layers than we train."""
    generator, tensors = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear) and ("attn" in name or "ff.net" in name):
            key = f"lora_unet_{name.replace('.', '_')}"
            tensors[f"{key}.lora_down.weight"] = torch.randn(rank, layer.in_features, generator=generator) * 0.3
            tensors[f"{key}.lora_up.weight"] = torch.randn(layer.out_features, rank, generator=generator) * 0.3
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    return tensors


@pytest.mark.parametrize("text", [False, True])
def test_a_lora_of_another_trainer_is_a_start(text: bool, tiny_pipeline: Path, tmp_path: Path) -> None:
    """Its file, in a folder of another name; with an alpha that is not its rank, and with a text encoder's layers."""
    file = tmp_path / "other" / "style.safetensors"
    file.parent.mkdir()
    base = plain(tiny_pipeline)
    tensors = kohya(base.unet, 3, 1.5, 4)
    if text:
        width = base.text_encoder.config.hidden_size
        for part in ("q", "k", "v", "out"):
            key = f"lora_te_text_model_encoder_layers_0_self_attn_{part}_proj"
            tensors[f"{key}.lora_down.weight"] = torch.ones(2, width) / 9
            tensors[f"{key}.lora_up.weight"] = torch.ones(width, 2)
            tensors[f"{key}.alpha"] = torch.tensor(2.0)
    save_file(tensors, file)
    expected = plain(tiny_pipeline, file)
    assert (output_of(expected.unet) - output_of(base.unet)).abs().max() > CHANGE
    for name in (file, file.parent):
        ours, _ = load_pipeline(str(tiny_pipeline), None, torch.float32, lora=str(name))
        torch.testing.assert_close(output_of(ours.unet), output_of(expected.unet), atol=2e-5, rtol=0)
    run = trained(tiny_pipeline, tmp_path / "run", 5, lora=str(file))
    loaded, _ = load_pipeline(str(run), None, torch.float32)
    simple = plain(tiny_pipeline, run)
    torch.testing.assert_close(output_of(loaded.unet), output_of(simple.unet), atol=5e-5, rtol=0)
    assert (output_of(simple.unet) - output_of(expected.unet)).abs().max() > CHANGE
    for pipeline in (loaded, simple):
        for key, value in expected.text_encoder.state_dict().items():
            torch.testing.assert_close(pipeline.text_encoder.state_dict()[key], value, atol=1e-5, rtol=0)


def test_sdxl_goes_on_from_an_adapter(tmp_path: Path) -> None:
    tiny_xl().save_pretrained(tmp_path / "xl")
    first = trained(tmp_path / "xl", tmp_path / "1", 1)
    second = trained(tmp_path / "xl", tmp_path / "2", 2, weights=str(first))
    added = {"text_embeds": torch.ones(2, 8), "time_ids": torch.ones(2, 6)}
    ours, _ = load_pipeline(str(second), None, torch.float32)
    shown = output_of(plain(tmp_path / "xl", second).unet, added)
    torch.testing.assert_close(output_of(ours.unet, added), shown, atol=2e-5, rtol=0)
    assert (shown - output_of(plain(tmp_path / "xl", first).unet, added)).abs().max() > CHANGE


@given(
    ranks=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    kernel=st.sampled_from([(), (3, 3)]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_joined_adapters_do_what_they_do_together(ranks: list[int], kernel: tuple[int, ...], seed: int) -> None:
    """On linear and convolutional layers, padded or not: the product is the sum of the products."""
    generator = torch.Generator().manual_seed(seed)
    one = (1,) * len(kernel)
    changes = [
        LowRank(torch.randn(r, 5, *kernel, generator=generator), torch.randn(6, r, *one, generator=generator))
        for r in ranks
    ]
    adapter: Any = {}
    for change in changes:
        adapter = join(adapter, {"unet": {"layer": change}})
    whole = adapter["unet"]["layer"].padded(sum(ranks) + 2)

    def product(change: LowRank) -> Tensor:
        return change.b.flatten(1) @ change.a.flatten(1)

    assert len(whole.a) == sum(ranks) + 2
    torch.testing.assert_close(product(whole), sum(map(product, changes)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: {**tensors, "unet.no.such.to_q.lora_A.weight": torch.ones(2, 16)}, "found theirs"),
        (lambda tensors: {name: value[..., :-1] for name, value in tensors.items()}, "does not fit"),
        (lambda tensors: {name: value * torch.nan for name, value in tensors.items()}, "NaN or infinity"),
        (lambda tensors: {**tensors, f"{min(tensors)}.dora_scale": torch.ones(2)}, "DoRA"),
        (lambda _: {"weight": torch.ones(2)}, "does not fit"),
    ],
)
def test_a_lora_that_fits_in_part_is_refused(change: Any, words: str, tiny_pipeline: Path, tmp_path: Path) -> None:
    folder = trained(tiny_pipeline, tmp_path / "run", 1)
    save_file({key: value.contiguous() for key, value in change(load_file(folder / LORA)).items()}, tmp_path / LORA)
    with pytest.raises(CheckpointError, match=words):
        load_pipeline(str(tiny_pipeline), None, torch.float32, lora=str(tmp_path / LORA))


@pytest.mark.parametrize("keep", [0, 4, 40, 400])
def test_a_damaged_lora_is_one_error(keep: int, tiny_pipeline: Path, tmp_path: Path) -> None:
    whole = (trained(tiny_pipeline, tmp_path / "run", 1) / LORA).read_bytes()
    (tmp_path / LORA).write_bytes(whole[:keep] or b"\xff" * 99)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_pipeline(str(tiny_pipeline), None, torch.float32, lora=str(tmp_path))


def test_a_lora_alone_asks_for_its_base(tiny_pipeline: Path, tmp_path: Path) -> None:
    folder = trained(tiny_pipeline, tmp_path / "run", 1)
    (folder / "adapter.json").unlink()
    assert f"policy=BASE policy.lora={folder}" in complaint(["sample", f"policy={folder}", "n=2"], 5)
    with pytest.raises(CheckpointError, match="not the folder or the safetensors file of one LoRA"):
        load_pipeline(str(tiny_pipeline), None, torch.float32, lora=str(tmp_path / "gone"))


def test_an_adapter_that_is_its_own_base_is_refused(tmp_path: Path, tiny_pipeline: Path) -> None:
    description = {"format": 2, "domain": "images", "base": str(tmp_path), "revision": None}
    (tmp_path / "adapter.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="names itself"):
        load_pipeline(str(tmp_path), None, torch.float32)


def test_a_variant_is_read_where_it_is_named(tmp_path: Path, tiny_pipeline: Path) -> None:
    """The files of half precision alone, as many models are shared; the run's model remembers them."""
    folder = tmp_path / "half"
    plain(tiny_pipeline).to(torch.float16).save_pretrained(folder, variant="fp16")
    with pytest.raises(CheckpointError, match=r"no weights of the variant null; policy\.variant=fp16"):
        load_pipeline(str(folder), None, torch.float32)
    with pytest.raises(CheckpointError, match=r"no weights of the variant fp16; policy\.variant=null"):
        load_pipeline(str(tiny_pipeline), None, torch.float32, variant="fp16")
    with pytest.raises(CheckpointError, match="need letters and digits"):
        check_variant(folder, "../fp16")
    half, _ = load_pipeline(str(folder), None, torch.float32, variant="fp16")
    torch.testing.assert_close(output_of(half.unet), output_of(plain(tiny_pipeline).unet), atol=2e-2, rtol=0)
    run = trained(folder, tmp_path / "run", 1, variant="fp16")
    assert json.loads((run / "adapter.json").read_text())["variant"] == "fp16"
    assert output_of(load_pipeline(str(run), None, torch.float32)[0].unet).isfinite().all()


def test_networks_with_other_inputs_are_refused(tmp_path: Path, tiny_pipeline: Path) -> None:
    folder = write_pipeline(tmp_path / "p")
    config = folder / "unet" / "config.json"
    for old, new, words in (
        ('"time_cond_proj_dim": null', '"time_cond_proj_dim": 8', "distilled"),
        ('"out_channels": 4', '"out_channels": 8', "learned variances"),
    ):
        text = config.read_text()
        config.write_text(text.replace(old, new))
        with pytest.raises(CheckpointError, match=rf"{words}|not a complete pipeline"):
            load_pipeline(str(folder), None, torch.float32)
        config.write_text(text)


def mean_pixel(samples: Sequence[Tensor]) -> Tensor:
    """Return the mean of each image, with its gradient."""
    return torch.stack([sample.mean() for sample in samples])


mean_pixel.differentiable = True  # type: ignore[attr-defined]


@pytest.mark.parametrize("settings", [{}, {"batch": 1}, {"checkpointing": True}], ids=["whole", "in parts", "again"])
def test_adjoints_go_through_the_network_without_its_adapter(tiny_pipeline: Path, settings: dict[str, Any]) -> None:
    """With an adapter that was moved they are those of the pipeline as it was, also where activations come again."""
    task = tiny_task(tiny_pipeline, reward=mean_pixel, guidance_scale=1.0, num_steps=3, **settings)
    reference = freeze_copy(task.policy)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainable_module(task.policy).parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    original = freeze_copy(tiny_task(tiny_pipeline, tuning="full", guidance_scale=1.0, num_steps=3).policy)
    trajectory = sample_chains(task.policy, task.decoder, [0, 1, 2], Key(0, 1), task.device)
    targets, known = adjoint_targets(task, reference, trajectory, 0.1)
    expected, _ = adjoint_targets(task, original, trajectory, 0.1)
    assert known.all()
    assert_close(targets, expected, atol=1e-5, rtol=0)
    moved, _ = adjoint_targets(task, task.policy, trajectory, 0.1)
    assert (moved - expected).abs().max() > CHANGE
    assert all(parameter.grad is None for parameter in trainable_module(task.policy).parameters())


def test_draft_with_an_adapter_differentiates_its_kl_through_the_reference(tiny_pipeline: Path) -> None:
    """Its gradient by a state is that of the same KL to a copy of the pipeline that has no adapter."""
    task = tiny_task(tiny_pipeline, guidance_scale=1.0, num_steps=3)
    with torch.no_grad():
        for parameter in trainable_module(task.policy).parameters():
            parameter.add_(0.1)
    original = freeze_copy(tiny_task(tiny_pipeline, tuning="full", guidance_scale=1.0, num_steps=3).policy)
    trajectory = sample_chains(task.policy, task.decoder, [0, 1], Key(0, 1), task.device)
    found = []
    for reference in (freeze_copy(task.policy), original):
        x = trajectory.states[1].clone().requires_grad_()
        kernels = [
            policy.sampler.transition(policy.predict_target, x, policy.at(1, x), trajectory.context)
            for policy in (task.policy, reference)
        ]
        found.append(torch.autograd.grad(kernels[0].kl(kernels[1]).sum(), x)[0])
    assert found[0].abs().max() > CHANGE
    assert_close(found[0], found[1], atol=1e-4 * found[1].abs().max().item(), rtol=0)


@pytest.mark.parametrize("text_rank", [None, 2])
def test_an_average_of_the_weights_is_what_the_network_computes_with(
    text_rank: int | None, tiny_pipeline: Path
) -> None:
    """As a network whose own weights are the average; the weights in training stay where they are."""
    task, other = (tiny_task(tiny_pipeline, text_rank=text_rank) for _ in range(2))
    module, averaged = trainable_module(task.policy), trainable_module(other.policy)
    generator = torch.Generator().manual_seed(2)
    average, before = MovingAverage(module, 0.75), [p.detach().clone() for p in module.parameters()]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
        for mean, old, new in zip(averaged.parameters(), before, module.parameters(), strict=True):
            mean.copy_(0.75 * old + 0.25 * new)
    average.update(module)
    slower = average.policy(task.policy)
    x, context = torch.randn(2, 4, 8, 8, generator=generator), {"prompt": torch.tensor([0, 1])}
    with torch.no_grad():
        found, expected, trained = (
            p.predict_target(x, torch.tensor([0.5, 0.9]), context) for p in (slower, other.policy, task.policy)
        )
    assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - trained).abs().max() > CHANGE
