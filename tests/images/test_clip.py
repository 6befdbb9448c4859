"""Scores on CLIP's features, with a small random CLIP."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from molrl.data.images.image import CaptionedImage
from molrl.models.images.small_pipeline import word_tokenizer
from molrl.rewards.images.clip import CLIPReward, affine_head, preprocess

TRANSFORMERS: Any = pytest.importorskip("transformers", reason="images need the extra image")
WIDTH, EDGE = 8, 16


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = word_tokenizer(["a", "photo", "depicts", "cat"], 16)
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": tokenizer.eos_token_id}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": EDGE, "patch_size": 8}
    config = TRANSFORMERS.CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    torch.manual_seed(0)
    TRANSFORMERS.CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def images(count: int = 5) -> list[CaptionedImage]:
    rng = np.random.default_rng(0)
    return [
        CaptionedImage(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8), "cat" if k % 2 else "a cat")
        for k in range(count)
    ]


def reward(folder: Path, metric: str, **changes: Any) -> CLIPReward:
    settings = {"model": str(folder), "revision": None, "tokenizer": None, "head": None, "batch": 2, "device": "cpu"}
    return CLIPReward(metric=metric, **{**settings, **changes})  # type: ignore[arg-type]


def cosines(folder: Path, texts: list[str], samples: list[CaptionedImage]) -> torch.Tensor:
    """Return the cosines [b] by the network's own forward pass."""
    model, tokenizer = (getattr(TRANSFORMERS, name).from_pretrained(folder) for name in ("CLIPModel", "CLIPTokenizer"))
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model.eval()(pixel_values=torch.cat([preprocess(s, EDGE) for s in samples]), **tokens)
    return torch.as_tensor(out.logits_per_image.diagonal() / model.logit_scale.exp())


def test_scores_are_those_of_the_networks_own_forward_pass(clip: Path) -> None:
    samples = images()
    captions = [f"A photo depicts {sample.prompt}" for sample in samples]
    expected = 2.5 * cosines(clip, captions, samples).clamp(min=0)
    torch.testing.assert_close(reward(clip, "clip_score")(samples), expected, atol=1e-5, rtol=0)
    scale = TRANSFORMERS.CLIPModel.from_pretrained(clip).logit_scale.exp().item()
    picked = scale * cosines(clip, [sample.prompt for sample in samples], samples)
    torch.testing.assert_close(reward(clip, "pick_score")(samples), picked, atol=1e-4, rtol=0)


def head_layers() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(WIDTH, 12), nn.Dropout(0.2), nn.Linear(12, 5), nn.Dropout(0.1), nn.Linear(5, 1))


def test_the_aesthetic_head_is_one_affine_map(clip: Path, tmp_path: Path) -> None:
    layers = head_layers().eval()
    state = {f"layers.{name}": value for name, value in layers.state_dict().items()}
    weight, offset = affine_head(state)
    features = torch.randn(7, WIDTH)
    torch.testing.assert_close(features @ weight + offset, layers(features).squeeze(1), atol=1e-5, rtol=0)
    save_file(state, tmp_path / "layers.safetensors")
    save_file({"weight": weight, "bias": offset}, tmp_path / "affine.safetensors")
    both = [reward(clip, "aesthetic", head=str(tmp_path / f"{name}.safetensors")) for name in ("layers", "affine")]
    one, other = (values(images()) for values in both)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    seen = CLIPReward.normalise(both[0].network.get_image_features(pixel_values=preprocess(images()[0], EDGE)))
    assert one[0].item() == pytest.approx(layers(seen).item(), abs=1e-5)


def test_layers_that_are_no_head_are_named() -> None:
    with pytest.raises(ValueError, match="no head with one output"):
        affine_head({"layers.0.weight": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match="no head with one output"):
        affine_head({"layers.0.weight": torch.zeros(3, 2), "layers.0.bias": torch.zeros(3)})


def test_images_are_prepared_as_clip_was_trained(clip: Path) -> None:
    """Shorter edge, the middle, mean and std: as by the library's own preparation in Pillow."""
    processor = TRANSFORMERS.CLIPImageProcessor
    own = processor(size={"shortest_edge": EDGE}, crop_size={"height": EDGE, "width": EDGE})
    from PIL import Image

    smooth = Image.fromarray(images(1)[0].pixels).resize((48, 40), Image.Resampling.BICUBIC)
    image = CaptionedImage(np.asarray(smooth))
    expected = torch.as_tensor(own(smooth, return_tensors="pt").pixel_values)
    got = preprocess(image, EDGE)
    assert got.shape == (1, 3, EDGE, EDGE)
    assert (got - expected).abs().mean().item() < 0.02  # 8-bit rounding in between


@pytest.mark.parametrize(("metric", "floor"), [("clip_score", 0.0), ("pick_score", -100.0)])
def test_what_is_no_image_has_the_floor(metric: str, floor: float, clip: Path) -> None:
    good, bad = images(1)[0], CaptionedImage(np.zeros((4, 4, 3), np.uint8), "cat", "not finite")
    scores = reward(clip, metric).score([bad, good, bad])
    assert scores.scored[0] == scores.scored[2] == (floor, "not finite")
    assert scores.values[1] == pytest.approx(reward(clip, metric)([good]).item())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "nowhere"}, "model: got 'nowhere', no such folder"),
        ({"batch": 0}, "batch: got 0"),
        ({"metric": "aesthetic"}, "head: got None, no such file; docs/howto/stable_diffusion.md"),
        ({"metric": "aesthetic", "head": "gone.safetensors"}, "head: got 'gone.safetensors'"),
    ],
)
def test_missing_files_are_named(changes: dict[str, Any], words: str, clip: Path) -> None:
    with pytest.raises(ValueError, match=words):
        reward(clip, changes.get("metric", "clip_score"), **{k: v for k, v in changes.items() if k != "metric"})
