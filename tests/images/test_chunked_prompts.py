"""Long prompts in chunks: as the pipeline's own embeddings of the parts, joined."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_flows import tiny_flow
from tiny_images import CPU, tiny, tiny_task, tiny_xl
from torch import Tensor
from torch.testing import assert_close

from molrl.models.images.chunked_prompts import TOKENS
from molrl.models.images.families import FAMILIES
from molrl.models.images.prompt_embedding import embed_flow_prompts, embed_prompts
from molrl.noise import Key

pytest.importorskip("diffusers", reason="images need the extra image")
FIRST, SECOND = "red circle on a blue background red circle red blue", "green star"  # of 10 tokens, a chunk, and 2


def own(pipeline: Any, *texts: str, negative: str | None = None) -> tuple[Tensor, ...]:
    """Return what the pipeline itself makes of prompts: embeddings, negative ones, and SDXL's pooled ones."""
    options = {"device": CPU, "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    with torch.no_grad():
        more = {} if negative is None else {"negative_prompt": [negative] * len(texts)}
        return tuple(pipeline.encode_prompt(list(texts), **options, **more))


@pytest.mark.parametrize("negative", ["", "blue"])
@pytest.mark.parametrize("build", [tiny, tiny_xl])
def test_prompts_that_fit_have_the_pipelines_embeddings(build: Any, negative: str) -> None:
    pipeline = build()
    chunked, whole = (
        embed_prompts(pipeline, [FIRST, SECOND, ""], CPU, negative=negative, long_prompts=rule).conditions
        for rule in ("chunk", "refuse")
    )
    assert set(chunked) == set(whole) == ({TOKENS} if build is tiny else {TOKENS, "text_embeds", "time_ids"})
    for name, found in chunked.items():
        assert_close(found, whole[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("build", [tiny, tiny_xl])
def test_a_long_prompt_is_its_chunks_side_by_side(build: Any) -> None:
    """Shorter prompts and the negative one are filled up by empty prompts; pooled is the first chunk."""
    pipeline = build()
    made = embed_prompts(pipeline, [f"{FIRST} {SECOND}", SECOND], CPU, negative="blue", long_prompts="chunk").conditions
    first, second, empty = own(pipeline, FIRST, SECOND, "", negative="blue")[0]
    assert_close(made[TOKENS][0], torch.cat([first, second]), atol=1e-6, rtol=0)
    assert_close(made[TOKENS][1], torch.cat([second, empty]), atol=1e-6, rtol=0)
    assert_close(made[TOKENS][-1], torch.cat([own(pipeline, "blue")[0][0], empty]), atol=1e-6, rtol=0)
    if build is tiny_xl:
        assert_close(made["text_embeds"][:-1], own(pipeline, FIRST, SECOND)[2], atol=1e-6, rtol=0)


def test_the_chunks_follow_the_longest_of_all(tiny_pipeline: Path) -> None:
    """A negative prompt of three chunks; a zero one of SDXL, whose empty negative prompt is zeros."""
    made = embed_prompts(tiny(), [SECOND], CPU, negative="red " * 21, long_prompts="chunk").conditions
    assert made[TOKENS].shape == (2, 36, 16)
    xl = embed_prompts(tiny_xl(), ["red " * 11], CPU, long_prompts="chunk").conditions
    assert xl[TOKENS].shape == (2, 24, 32)
    assert not any(xl[name][-1].any() for name in (TOKENS, "text_embeds"))


def test_rollout_and_training_agree_on_a_long_prompt(tmp_path: Path, tiny_pipeline: Path) -> None:
    """And the words of the second chunk are read: they change the image."""
    finals = []
    for number, tail in enumerate((SECOND, "blue square")):
        prompts = tmp_path / f"{number}.txt"
        prompts.write_text(f"{FIRST} {tail}\n")
        task = tiny_task(tiny_pipeline, prompts=str(prompts), long_prompts="chunk", num_steps=3)
        trajectory = task.rollout(range(2), Key(0, 0)).trajectory
        table = trajectory.transitions(torch.zeros(2))
        log_ratio = task.policy.log_prob(table) - table.log_prob
        assert (log_ratio.abs() / table.x[0].numel()).max() < 1e-5
        finals.append(trajectory.final)
    assert (finals[0] - finals[1]).abs().max() > 1e-3


def test_where_chunks_make_no_sense_they_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got 'chunk', allowed refuse and truncate: the encoders of FLUX\.1 read"):
        embed_flow_prompts(FAMILIES["FluxPipeline"], tiny_flow("flux_1"), ["red"], CPU, long_prompts="chunk")
    with pytest.raises(ValueError, match=r"13 tokens with its two ends.*, and chunk has it read in parts"):
        embed_prompts(tiny(), ["red " * 11], CPU)
