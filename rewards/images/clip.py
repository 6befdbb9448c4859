"""Scores of images by CLIP's features (Radford et al. 2021, arXiv:2103.00020): aesthetic score, CLIPScore, PickScore.

All of them embed images and prompts as unit vectors by one network; a score is a function of these.
"""

import importlib.util
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from molrl.data.images.image import CaptionedImage
from molrl.machine.files import open_regular
from molrl.models.images.foreign_folder import checked_folder
from molrl.rewards.scores import Scored, Scores, Values, scores
from molrl.runs.headers import first_names, read_header

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training images
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
FLOORS: Mapping[str, float] = {"aesthetic": -20.0, "clip_score": 0.0, "pick_score": -100.0}  # of a bad sample
MAX_HEAD_NUMBERS = 2**24  # of the aesthetic head; LAION's has a million
CAPTION = "A photo depicts {}"  # of CLIPScore (Hessel et al. 2021, arXiv:2104.08718, Sec. 3)


@dataclass(frozen=True, kw_only=True)
class CLIPReward:
    """A score of images by a CLIP network.

    Attributes:
        metric: "aesthetic": 5.24 + w.f with LAION's head on the image's features, about 1 to 10 but unbounded;
            "clip_score": 2.5 max(cos, 0) of "A photo depicts ..." (Hessel et al. 2021, Eq. 1);
            "pick_score": exp(logit scale) cos (Kirstain et al. 2023, arXiv:2305.01569, Sec. 3).
        model: folder of a CLIPModel with its tokenizer, or a Hugging Face Hub id.
        revision: of a Hub id.
        tokenizer: folder or Hub id of a tokenizer that is kept elsewhere; None: the model's.
        head: of the aesthetic score: a safetensors file with its layers, or with one affine map.
        batch: images at a time.
        device: of the network.
    """

    metric: Literal["aesthetic", "clip_score", "pick_score"]
    model: str
    revision: str | None
    tokenizer: str | None
    head: str | None
    batch: int
    device: str
    kind: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch: got {self.batch}, need at least 1")
        for name in (self.model, self.tokenizer):
            if name is not None and not Path(name).is_dir() and not HUB_ID.fullmatch(name):
                raise ValueError(f"model: got {name!r}, no such folder; name one, or a Hub id (owner/name) to fetch it")
        if self.metric == "aesthetic" and (self.head is None or not Path(self.head).is_file()):
            raise ValueError(
                f"head: got {self.head!r}, no such file; docs/howto/stable_diffusion.md converts LAION's head "
                "to safetensors"
            )
        if importlib.util.find_spec("transformers") is None:
            raise ImportError("scores of CLIP need transformers: pip install 'molrl[image]'")

    @property
    def floor(self) -> float:
        """Return the value of a bad sample."""
        return FLOORS[self.metric]

    @cached_property
    def network(self) -> Any:
        """Return the CLIPModel, loaded once: float32, from safetensors alone."""
        library: Any = import_module("transformers")
        folder = local_folder(self.model, self.revision)
        with checked_folder(folder):
            network = library.CLIPModel.from_pretrained(str(folder), use_safetensors=True, local_files_only=True)
        network = network.float().eval().requires_grad_(False)
        if broken := [name for name, value in network.state_dict().items() if not value.isfinite().all()]:
            raise ValueError(f"model: {self.model}: weights hold NaN or infinity: {first_names(broken)}")
        return network.to(self.device)

    @cached_property
    def tokenize(self) -> Any:
        """Return the tokenizer, loaded once."""
        library: Any = import_module("transformers")
        folder = local_folder(self.tokenizer or self.model, None if self.tokenizer else self.revision)
        with checked_folder(folder):
            return library.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)

    @cached_property
    def affine(self) -> "tuple[Tensor, Tensor]":
        """Return weights [width] and offset of the aesthetic head."""
        assert self.head is not None
        weight, offset = read_head(Path(self.head))
        return weight.to(self.device), offset.to(self.device)

    def score(self, samples: Sequence[CaptionedImage]) -> Scores:
        """Return values and reasons in the order of the samples."""
        good = [sample for sample in samples if not sample.flaw]
        batches = [good[start : start + self.batch] for start in range(0, len(good), self.batch)]
        values = iter([value for batch in batches for value in self.values(batch).tolist()])
        return scores(Scored(self.floor, s.flaw) if s.flaw else Scored(next(values)) for s in samples)

    def __call__(self, samples: Sequence[CaptionedImage]) -> Values:
        return self.score(samples).tensor()

    def values(self, samples: Sequence[CaptionedImage]) -> "Float[Tensor, ' b']":
        """Return the scores [b] of good images, whose sizes may differ."""
        import torch

        with torch.no_grad():
            edge = int(self.network.config.vision_config.image_size)
            pixels = torch.cat([preprocess(sample, edge) for sample in samples]).to(self.device)
            image_embedding = self.normalise(self.network.get_image_features(pixel_values=pixels))
            if self.metric == "aesthetic":
                weight, offset = self.affine
                return (image_embedding @ weight + offset).cpu()
            prompts = [sample.prompt for sample in samples]
            texts = [CAPTION.format(prompt) for prompt in prompts] if self.metric == "clip_score" else prompts
            tokens = self.tokenize(texts, padding=True, truncation=True, return_tensors="pt").to(self.device)
            text_embedding = self.normalise(self.network.get_text_features(**tokens))
            cosine = (image_embedding * text_embedding).sum(1).cpu()
            if self.metric == "clip_score":
                return 2.5 * cosine.clamp(min=0)
            return cosine * float(self.network.logit_scale.exp())

    @staticmethod
    def normalise(features: Any) -> "Float[Tensor, 'b width']":
        """Return features as vectors of length one; transformers from version 5 on wraps them."""
        vectors: Tensor = getattr(features, "pooler_output", features)
        unit: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
        return unit


def local_folder(name: str, revision: str | None) -> Path:
    """Return a folder itself, or that of a Hub id, which is fetched because the user named it."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.txt", "*.safetensors"]))


def preprocess(image: CaptionedImage, edge: int) -> "Float[Tensor, '1 3 edge edge']":
    """Resize an image's shorter edge to `edge` by antialiased bicubic interpolation, crop the centre and standardise.

    This is CLIP's own preprocessing.
    """
    import torch
    from torch.nn.functional import interpolate

    pixels = torch.from_numpy(image.unit).permute(2, 0, 1).unsqueeze(0)
    height, width = pixels.shape[2:]
    short = min(height, width)
    size = (max(edge, round(height * edge / short)), max(edge, round(width * edge / short)))
    pixels = interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (size[0] - edge) // 2, (size[1] - edge) // 2
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (MEAN, STD))
    return (pixels[:, :, top : top + edge, left : left + edge] - mean) / std


def read_head(path: Path) -> "tuple[Tensor, Tensor]":
    """Return the affine map of an aesthetic head in a safetensors file; ValueError for anything else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with open_regular(path, follow=True) as file:
        numbers = sum(math.prod(entry.shape) for entry in read_header(file, path).values())
    if numbers > MAX_HEAD_NUMBERS:
        raise ValueError(f"head: {path} holds {numbers} numbers, more than the {MAX_HEAD_NUMBERS} allowed")
    try:
        return affine_head(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"head: {path} is no safetensors file ({error})") from error


def affine_head(layers: "Mapping[str, Tensor]") -> "tuple[Tensor, Tensor]":
    """Return LAION's aesthetic head as one affine map [width], offset: its layers have no activation between them.

    Args:
        layers: "layers.0.weight", "layers.0.bias", "layers.2.weight" and so on; or "weight" and "bias" alone.

    Raises:
        ValueError: they do not fit each other.
    """
    numbers = sorted({int(name.split(".")[1]) for name in layers if re.fullmatch(r"layers\.\d+\.(weight|bias)", name)})
    names = [f"layers.{number}." for number in numbers] or [""]
    try:
        weight, offset = layers[f"{names[0]}weight"].double(), layers[f"{names[0]}bias"].double()
        weight = weight.view(1, -1) if weight.dim() == 1 else weight
        for name in names[1:]:
            after = layers[f"{name}weight"].double()
            weight, offset = after @ weight, after @ offset + layers[f"{name}bias"].double()
        return weight.float().reshape(weight.shape[1]), offset.float().reshape(())
    except (KeyError, RuntimeError, IndexError) as error:
        raise ValueError(f"head: layers {sorted(layers)} are no head with one output ({error})") from error
