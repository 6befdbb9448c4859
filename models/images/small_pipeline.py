"""A small text-to-image pipeline of diffusers' own classes: what `molrl pretrain model=images` trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any

from molrl.models.images.diffusers_library import diffusers
from molrl.models.images.scheduler_chain import PREDICTION_TYPES

START_TOKEN, END_TOKEN, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"


@dataclass(frozen=True, kw_only=True)
class PipelineDesign:
    """The sizes of a pipeline.

    Attributes:
        words: words that are one token each; others are spelt, a token for each byte.
        tokens: longest prompt, its two ends included.
        image_size: pixels of an edge.
        vae: widths of the autoencoder's blocks; each but the last halves the image.
        latent: channels of a latent.
        unet: widths of the UNet's blocks, the first of them without attention.
        text: width of the text encoder.
        prediction: "epsilon", "sample" or "v_prediction".
    """

    words: Sequence[str]
    tokens: int
    image_size: int
    vae: Sequence[int]
    latent: int
    unet: Sequence[int]
    text: int
    prediction: str

    def __post_init__(self) -> None:
        if self.image_size < 1 or self.image_size % self.downsampling:
            raise ValueError(f"image_size: got {self.image_size}, need a multiple of {self.downsampling}")
        for name in ("vae", "unet"):
            if not getattr(self, name) or any(width < 8 or width % 8 for width in getattr(self, name)):
                raise ValueError(f"{name}: got {list(getattr(self, name))}, need widths that are multiples of 8")
        if self.prediction not in PREDICTION_TYPES:
            raise ValueError(f"prediction: got {self.prediction!r}, allowed {', '.join(PREDICTION_TYPES)}")
        if self.text < 8 or self.text % 8 or self.tokens < 3 or self.latent < 1:
            raise ValueError(
                f"text, tokens, latent: got {self.text}, {self.tokens}, {self.latent}; need a multiple of 8, 3, 1"
            )

    @property
    def downsampling(self) -> int:
        """Return the ratio of an image's edge to its latent's."""
        return 1 << max(0, len(self.vae) - 1)


def word_tokenizer(words: Sequence[str], tokens: int) -> Any:
    """Return a CLIP tokenizer with one token for each of these words and one for each byte of UTF-8.

    A word's merges are appended in the order of its letters, to what earlier merges make of it, so that they never
    undo an earlier word.

    Args:
        tokens: longest prompt, its two ends included.
    """
    rank: dict[tuple[str, str], int] = {}
    for word in dict.fromkeys(words):
        pieces = apply_merges(word, rank)
        while len(pieces) > 1:
            rank[pieces[0], pieces[1]] = len(rank)
            pieces = apply_merges(word, rank)
    merges, letters = list(rank), byte_letters()
    entries = [*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys([*entries, START_TOKEN, END_TOKEN]))}
    tokenizer: Any = import_module("transformers").CLIPTokenizer
    return tokenizer(vocab=vocabulary, merges=merges, model_max_length=tokens)


def byte_letters() -> list[str]:
    """Return the letter that byte-level tokenizers write for each byte: its own if printable, else one from 256 on.

    (Radford et al. 2019, "Language models are unsupervised multitask learners", Sec. 2.2, and their code.)
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def apply_merges(word: str, rank: Mapping[tuple[str, str], int]) -> list[str]:
    """Split a word into pieces, merging pairs by the rank of their merge (Sennrich et al. 2016, arXiv:1508.07909)."""
    pieces = [*word[:-1], word[-1] + WORD_END]
    while candidates := [pair for pair in pairwise(pieces) if pair in rank]:
        best = min(candidates, key=lambda pair: rank[pair])
        joined, index = list[str](), 0
        while index < len(pieces):
            is_best = tuple(pieces[index : index + 2]) == best
            joined.append("".join(best) if is_best else pieces[index])
            index += 2 if is_best else 1
        pieces = joined
    return pieces


def small_pipeline(design: PipelineDesign, scheduler: Mapping[str, Any] | None = None) -> Any:
    """Return a StableDiffusionPipeline with random weights, in evaluation mode, with Stable Diffusion's noise levels.

    Args:
        scheduler: settings of its DDIM scheduler that differ from Stable Diffusion's.
    """
    library, transformers = diffusers(), import_module("transformers")
    tokenizer = word_tokenizer(design.words, design.tokens)
    vae = library.AutoencoderKL(
        block_out_channels=tuple(design.vae),
        down_block_types=("DownEncoderBlock2D",) * len(design.vae),
        up_block_types=("UpDecoderBlock2D",) * len(design.vae),
        latent_channels=design.latent,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=design.image_size,
    )
    attention_blocks = len(design.unet) - 1
    unet = library.UNet2DConditionModel(
        sample_size=design.image_size // design.downsampling,
        in_channels=design.latent,
        out_channels=design.latent,
        block_out_channels=tuple(design.unet),
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * attention_blocks),
        up_block_types=(*("CrossAttnUpBlock2D",) * attention_blocks, "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=design.text,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    text_encoder = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=design.text,
            intermediate_size=2 * design.text,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=design.tokens,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    defaults: dict[str, Any] = {
        **{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000},
        **{"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"},
    }
    pipeline: Any = library.StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=library.DDIMScheduler(**{**defaults, "prediction_type": design.prediction, **(scheduler or {})}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
