"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685) of a pipeline: read, merged into its weights, joined and written.

A layer W with an adapter is W + B A. Two adapters on one layer are one of the sum of their ranks,
B1 A1 + B2 A2 = [B1 B2] [A1; A2], which is how a run that starts from an adapter writes a single one for its base.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from molrl.machine.files import open_regular
from molrl.runs.errors import CheckpointError
from molrl.runs.headers import read_header

LORA = "pytorch_lora_weights.safetensors"  # the name that diffusers gives
TEXT_PREFIX = "text_model."  # of the names of a text encoder's layers
COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, eq=False)
class LowRank:
    """The change B A of one linear or convolutional layer, float32 on the CPU, with the adapter's scale within B.

    Attributes:
        a: [rank, ...], what the layer's input is multiplied with.
        b: [outputs, rank, ...], what follows it.
    """

    a: Tensor
    b: Tensor

    def __add__(self, other: "LowRank") -> "LowRank":
        """Return the sum of two changes, exactly."""
        return LowRank(torch.cat([self.a, other.a]), torch.cat([self.b, other.b], 1))

    def padded(self, rank: int) -> "LowRank":
        """Return the same change with rows and columns of zeros up to a rank."""
        missing = rank - len(self.a)
        a = torch.cat([self.a, self.a.new_zeros(missing, *self.a.shape[1:])])
        return LowRank(a, torch.cat([self.b, self.b.new_zeros(len(self.b), missing, *self.b.shape[2:])], 1))


Adapter = Mapping[str, Mapping[str, LowRank]]  # the changes by component and name of the layer


def join(first: Adapter, second: Adapter) -> Adapter:
    """Return the one adapter that does what two adapters on the same pipeline do."""
    joined = {part: dict(changes) for part, changes in first.items()}
    for part, changes in second.items():
        layers = joined.setdefault(part, {})
        for name, change in changes.items():
            layers[name] = layers[name] + change if name in layers else change
    return joined


def adapter_of(network: nn.Module) -> dict[str, LowRank]:
    """Return the changes of all adapted layers of a network with one adapter.

    Raises:
        ValueError: a layer is changed in another way than by B A.
    """
    from peft.tuners.lora import LoraLayer

    found: dict[str, LowRank] = {}
    for name, module in network.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module  # whose attributes PyTorch types as tensors
            (adapter,) = layer.lora_A
            a, b = (part[adapter] for part in (layer.lora_A, layer.lora_B))
            if layer.lora_magnitude_vector or b.bias is not None:
                raise ValueError(f"{name} is changed by more than a product of two matrices (DoRA, a bias)")
            numbers = [part.weight.detach().cpu().float().clone() for part in (a, b)]
            found[name] = LowRank(numbers[0], numbers[1] * float(layer.scaling[adapter]))
    return found


def lora_file(name: str) -> Path:
    """Return the safetensors file of a LoRA: the file itself, or the only one in a folder or in a run's `model/`.

    Raises:
        CheckpointError: there is none, or there are several.
    """
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".safetensors":
        return path
    for folder in (path, path / "model"):
        if (folder / LORA).is_file():
            return folder / LORA
    if len(files := sorted(path.glob("*.safetensors"))) == 1:
        return files[0]
    listed = f"it has {', '.join(file.name for file in files)}; name one of them" if files else f"need {LORA}"
    raise CheckpointError(f"{name}: not the folder or the safetensors file of one LoRA; {listed}")


def merge_lora(pipeline: Any, file: Path) -> Adapter:
    """Merge a LoRA that diffusers reads into the weights of a pipeline, and return its changes.

    Raises:
        CheckpointError: it cannot be read, has parts that do not fit the pipeline, or changes layers in another way.
    """
    with open_regular(file, follow=True) as opened:
        read_header(opened, file)
    try:
        check_finite(file)
        where = {"weight_name": file.name, "local_files_only": True, "use_safetensors": True}
        unet = getattr(pipeline, "unet", None)
        options = where if unet is None else {**where, "unet_config": unet.config}
        read = pipeline.lora_state_dict(str(file.parent), **options)
        read = read[0] if isinstance(read, tuple) else read
        pipeline.load_lora_weights(str(file.parent), **where)
        adapter = {part: adapter_of(getattr(pipeline, part)) for part in COMPONENTS if getattr(pipeline, part, None)}
        loaded = 2 * sum(map(len, adapter.values()))  # an A and a B for each layer
        given = sum(not name.endswith(".alpha") for name in read)
        if not loaded or loaded != given:
            raise ValueError(f"{given} tensors of {file.name} name layers, {loaded} of them found theirs")
        pipeline.fuse_lora(components=[part for part, changes in adapter.items() if changes])
        pipeline.unload_lora_weights()
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, TypeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{file}: this LoRA does not fit the pipeline that it is to change ({reason})") from error
    return {part: layers for part, layers in adapter.items() if layers}


def check_finite(file: Path) -> None:
    """Raise ValueError for a LoRA with numbers that are not finite, or of a kind that diffusers reads in part only."""
    with safe_open(file, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118  no iterator
            if "dora_scale" in name:
                raise ValueError("a DoRA, whose magnitudes diffusers leaves out")
            if not tensors.get_tensor(name).isfinite().all():
                raise ValueError(f"{name} holds NaN or infinity")


def write_lora(pipeline_class: Any, adapter: Adapter, folder: Path) -> None:
    """Write an adapter as a LoRA that `pipeline.load_lora_weights(folder)` of diffusers reads.

    All layers of a component get one rank, with zeros, which every reader takes for the scale 1.
    """
    layers: dict[str, Any] = {}
    for part, changes in adapter.items():
        rank = max((len(change.a) for change in changes.values()), default=0)
        padded = {name: change.padded(rank) for name, change in changes.items()}
        layers[f"{part}_lora_layers"] = {
            f"{shared_name(part, name)}.lora_{side}.weight": number.contiguous()
            for name, change in padded.items()
            for side, number in (("A", change.a), ("B", change.b))
        }
    pipeline_class.save_lora_weights(str(folder), **layers, weight_name=LORA, safe_serialization=True)


def shared_name(part: str, name: str) -> str:
    """Return the name that a layer has in files of LoRAs, where CLIP's parts keep a prefix that some releases drop."""
    bare = part.startswith("text_encoder") and not name.startswith(TEXT_PREFIX)
    return f"{TEXT_PREFIX}{name}" if bare else name
