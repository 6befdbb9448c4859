"""Weights of a Stable Diffusion under the names of its first code, as single files have them.

The tables are those of CompVis/stable-diffusion (`ldm/modules/diffusionmodules`) and of mlfoundations/open_clip.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

UNET = (
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
)
RESNET = {
    **{"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3"},
    **{"time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"},
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = (
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"\.layer_norm1\.", ".ln_1."),
    (r"\.layer_norm2\.", ".ln_2."),
    (r"\.fc1\.", ".c_fc."),
    (r"\.fc2\.", ".c_proj."),
    (r"\.self_attn\.", ".attn."),
    (r"^final_layer_norm\.", "ln_final."),
    (r"^embeddings\.token_embedding\.", "token_embedding."),
    (r"^embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_projection\.weight$", "text_projection"),
)


def unet_name(name: str, layers: int) -> str:
    """Return the first name of a weight of a UNet with this many layers in each block."""
    for new, old in UNET:
        if name.startswith(f"{new}."):
            return name.replace(new, old, 1)
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        middle = 1 if match[1] == "attentions" else 2 * int(match[2])
        return f"middle_block.{middle}.{resnet_name(match[3]) if match[1] == 'resnets' else match[3]}"
    match = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    assert match is not None, name
    side, block, kind, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    number = block * (layers + 1) + layer
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"output_blocks.{block * (layers + 1) + layers}.UPSAMPLER.{rest}"
    place = f"input_blocks.{number + 1}" if side == "down" else f"output_blocks.{number}"
    return f"{place}.0.{resnet_name(rest)}" if kind == "resnets" else f"{place}.1.{rest}"


def resnet_name(rest: str) -> str:
    layer, _, end = rest.partition(".")
    return f"{RESNET[layer]}.{end}"


def original_unet(unet: Any) -> dict[str, Tensor]:
    """Return a UNet's weights; an upsampler comes after the attention of its block, where it has one."""
    names = {unet_name(name, unet.config.layers_per_block): value for name, value in unet.state_dict().items()}
    attended = {name.rsplit(".1.", 1)[0] for name in names if re.match(r"output_blocks\.\d+\.1\.", name)}
    attended = {re.match(r"output_blocks\.\d+", name)[0] for name in attended}  # type: ignore[index]
    return {
        f"model.diffusion_model.{name.replace('UPSAMPLER', '2' if name.split('.UPSAMPLER')[0] in attended else '1')}": v
        for name, v in names.items()
    }


def original_vae(vae: Any) -> dict[str, Tensor]:
    """Return an autoencoder's weights, its attention as convolutions of 1 x 1."""
    last, found = len(vae.config.block_out_channels) - 1, dict[str, Tensor]()
    for name, value in vae.state_dict().items():
        old = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
        old = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", old)
        old = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda match: f"up.{last - int(match[1])}.block.", old)
        old = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda match: f"up.{last - int(match[1])}.upsample.", old)
        old = re.sub(r"mid_block\.resnets\.(\d)\.", lambda match: f"mid.block_{int(match[1]) + 1}.", old)
        old = old.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if match := re.fullmatch(r"(.*)mid_block\.attentions\.0\.(.*)\.(weight|bias)", old):
            old = f"{match[1]}mid.attn_1.{ATTENTION[match[2]]}.{match[3]}"
        found[f"first_stage_model.{old}"] = value[..., None, None] if "attn" in old and value.dim() == 2 else value
    return found


def original_clip(encoder: Any, prefix: str) -> dict[str, Tensor]:
    """Return a text encoder's weights under transformers' names, with the buffer of old versions."""
    state = {name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()}
    length = encoder.config.max_position_embeddings
    return {
        **{f"{prefix}text_model.{name}": value for name, value in state.items() if name != "embeddings.position_ids"},
        f"{prefix}text_model.embeddings.position_ids": torch.arange(length)[None],
    }


def open_clip(encoder: Any, prefix: str) -> dict[str, Tensor]:
    """Return a text encoder's weights under OpenCLIP's names: one matrix for queries, keys and values."""
    state = {name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()}
    found, joined = {f"{prefix}logit_scale": torch.tensor(4.6)}, dict[str, list[Tensor]]()
    for name, value in state.items():
        if match := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name):
            key = f"{prefix}transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"
            joined.setdefault(key, [value] * 3)["qkv".index(match[2])] = value
            continue
        old = substituted(name, OPEN_CLIP)
        found[f"{prefix}{old}"] = value.T if old == "text_projection" else value
    return {**found, **{key: torch.cat(parts) for key, parts in joined.items()}}


def substituted(name: str, table: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name


def single_file(pipeline: Any) -> dict[str, Tensor]:
    """Return all weights of a Stable Diffusion 1.x or XL, with the table of noise levels that such files have."""
    found = {**original_unet(pipeline.unet), **original_vae(pipeline.vae), "alphas_cumprod": torch.ones(1000)}
    if (second := getattr(pipeline, "text_encoder_2", None)) is None:
        found |= original_clip(pipeline.text_encoder, "cond_stage_model.transformer.")
    else:
        found |= original_clip(pipeline.text_encoder, "conditioner.embedders.0.transformer.")
        found |= open_clip(second, "conditioner.embedders.1.model.")
    return {name: value.clone().contiguous() for name, value in found.items()}
