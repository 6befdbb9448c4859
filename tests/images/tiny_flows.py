"""Flow-matching pipelines small enough to be run in every test, one of each family, with random weights."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from molrl.data.images.drawings import WORDS
from molrl.models.images.diffusers_library import diffusers
from molrl.models.images.small_pipeline import word_tokenizer

WIDTH = 16  # of every text encoder
SAID = "m['content'] if m['content'] is string else m['content'][0]['text']"
TEMPLATE = "{% for m in messages %}<u>{{ " + SAID + " }}</u>{% endfor %}"
CHATTY = ["<u>", "</u>", "<pad>"]


def transformers() -> Any:
    diffusers()
    return import_module("transformers")


def clip_encoder(tokenizer: Any, *, projected: bool) -> Any:
    library = transformers()
    config = library.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (library.CLIPTextModelWithProjection if projected else library.CLIPTextModel)(config)


def t5() -> tuple[Any, Any]:
    """Return a tokenizer that knows the words of the drawings, and an encoder."""
    library = transformers()
    words = [(f"▁{word}", -1.0) for word in dict.fromkeys(WORDS)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *words]
    tokenizer = library.T5Tokenizer(vocab=vocabulary, extra_ids=0, additional_special_tokens=None)
    config = library.T5Config(
        vocab_size=len(tokenizer),
        d_model=WIDTH,
        d_kv=8,
        d_ff=WIDTH,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return tokenizer, library.T5EncoderModel(config)


def byte_tokenizer() -> Any:
    """Return a Qwen2 tokenizer of single bytes with a chat template."""
    from tokenizers.pre_tokenizers import ByteLevel

    entries = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *CHATTY, *sorted(ByteLevel.alphabet())]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = transformers().Qwen2Tokenizer(vocab=vocabulary, merges=[], model_max_length=2048)
    tokenizer.chat_template = TEMPLATE
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *CHATTY[:2]]})
    return tokenizer


def language_model(kind: str, tokenizer: Any, layers: int) -> Any:
    library = transformers()
    sizes = {
        **{"vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": WIDTH, "head_dim": 8},
        **{"num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 2},
        **{"max_position_embeddings": 2048, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
    }
    return getattr(library, kind)(library.Qwen3Config(**sizes))


def autoencoder(latent: int = 4, **more: Any) -> Any:
    return diffusers().AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latent,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=16,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **more,
    )


def scheduler(**settings: Any) -> Any:
    return diffusers().FlowMatchEulerDiscreteScheduler(**settings)


def dynamic(**settings: Any) -> Any:
    return scheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, **settings)


def stable_diffusion_3(**settings: Any) -> Any:
    """Build Stable Diffusion 3 with the double attention and the norms of 3.5."""
    library, tokenizer = diffusers(), word_tokenizer(WORDS, 12)
    third, encoder = t5()
    transformer = library.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    encoder = transformers().T5EncoderModel(type(encoder.config)(**{**encoder.config.to_dict(), "d_model": 2 * WIDTH}))
    return library.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=scheduler(**{"shift": 3.0, **settings}),
        vae=autoencoder(),
        text_encoder=clip_encoder(tokenizer, projected=True),
        tokenizer=tokenizer,
        text_encoder_2=clip_encoder(tokenizer, projected=True),
        tokenizer_2=tokenizer,
        text_encoder_3=encoder,
        tokenizer_3=third,
    )


def flux_1(*, guidance: bool = True) -> Any:
    library, tokenizer = diffusers(), word_tokenizer(WORDS, 12)
    second, encoder = t5()
    return library.FluxPipeline(
        transformer=library.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=guidance,
            axes_dims_rope=(4, 6, 6),
        ),
        scheduler=dynamic(),
        vae=autoencoder(),
        text_encoder=clip_encoder(tokenizer, projected=False),
        tokenizer=tokenizer,
        text_encoder_2=encoder,
        tokenizer_2=second,
    )


def flux_2_parts(joint: int, *, guidance: bool) -> dict[str, Any]:
    library = diffusers()
    vae = library.AutoencoderKLFlux2(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=16,
    )
    with torch.no_grad():
        vae.bn.running_mean.copy_(torch.linspace(-0.3, 0.3, 16))
        vae.bn.running_var.copy_(torch.linspace(0.5, 2.0, 16))
    transformer = library.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=joint,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    )
    return {"vae": vae, "transformer": transformer, "scheduler": dynamic()}


def flux_2() -> Any:
    """Build FLUX.2 with Mistral 3, whose tokens come from the plain tokenizer instead of a processor of images."""
    library, tokenizer = transformers(), byte_tokenizer()
    text = {
        **{"model_type": "mistral", "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": WIDTH},
        **{"num_hidden_layers": 31, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8},
    }
    vision = {
        **{"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "image_size": 28, "patch_size": 14},
    }
    encoder = library.Mistral3ForConditionalGeneration(library.Mistral3Config(text_config=text, vision_config=vision))
    return diffusers().Flux2Pipeline(
        text_encoder=encoder, tokenizer=tokenizer, **flux_2_parts(3 * WIDTH, guidance=True)
    )


def flux_2_klein() -> Any:
    tokenizer = byte_tokenizer()
    return diffusers().Flux2KleinPipeline(
        text_encoder=language_model("Qwen3ForCausalLM", tokenizer, 28),
        tokenizer=tokenizer,
        **flux_2_parts(3 * WIDTH, guidance=False),
    )


def qwen_image() -> Any:
    library, known, tokenizer = diffusers(), transformers(), byte_tokenizer()
    text = {
        **{"vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 2048},
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
    }
    vision = {
        **{"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH},
        **{"patch_size": 14, "window_size": 28, "fullatt_block_indexes": [0]},
    }
    encoder = known.Qwen2_5_VLForConditionalGeneration(
        known.Qwen2_5_VLConfig(text_config=text, vision_config=vision, bos_token_id=None, eos_token_id=None)
    )
    return library.QwenImagePipeline(
        transformer=library.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(4, 6, 6),
        ),
        scheduler=dynamic(),
        vae=library.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[-0.2, 0.1, 0.0, 0.3],
            latents_std=[1.5, 1.2, 2.0, 0.8],
        ),
        text_encoder=encoder,
        tokenizer=tokenizer,
    )


def z_image() -> Any:
    library, tokenizer = diffusers(), byte_tokenizer()
    return library.ZImagePipeline(
        transformer=library.ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=WIDTH,
            axes_dims=[4, 6, 6],
            axes_lens=[600, 16, 16],
        ),
        scheduler=scheduler(shift=3.0),
        vae=autoencoder(),
        text_encoder=language_model("Qwen3Model", tokenizer, 2),
        tokenizer=tokenizer,
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "stable_diffusion_3": stable_diffusion_3,
    "flux_1": flux_1,
    "flux_2": flux_2,
    "flux_2_klein": flux_2_klein,
    "qwen_image": qwen_image,
    "z_image": z_image,
}


def tiny_flow(name: str) -> Any:
    """Build the pipeline of a family, with the same weights every time; its zero-initialised layers have some."""
    torch.manual_seed(0)
    pipeline = BUILDERS[name]()
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    for parameter in pipeline.transformer.parameters():
        if not parameter.any():
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return pipeline


def write_flow(name: str, folder: Path) -> Path:
    tiny_flow(name).save_pretrained(folder)
    return folder
