"""A received pipeline names no code, kernels or quantisation, reaches no network, and is no larger than its weights."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from molrl.models.images.foreign_folder import CODE_WORDS, check_config, files_of
from molrl.models.images.pipeline import load_pipeline
from molrl.runs.errors import CheckpointError

INDEX, TEXT, UNET = "model_index.json", "text_encoder/config.json", "unet/config.json"
KERNEL = {"_attn_implementation": "attacker/kernels"}
EVIL = ["evilmod", "Foo"]


@pytest.fixture
def folder(tiny_pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pipeline, tmp_path / "received"))


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the list of what is looked up or connected to."""
    calls: list[object] = []

    def look_up(host: object, *_: object, **__: object) -> list[object]:
        calls.append(host)
        return []

    monkeypatch.setattr(socket.socket, "connect", lambda _, address: calls.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return calls


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_pipeline(str(folder), None, torch.float32)
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        (TEXT, KERNEL, "_attn_implementation='attacker/kernels' names kernels"),
        (TEXT, {"_attn_implementation_internal": "attacker/kernels"}, "names kernels, quantisation or code"),
        (TEXT, {"text_config": {"kernel_config": {"rmsnorm": "attacker/k"}}}, "text_config.kernel_config="),
        (TEXT, {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config="),
        (TEXT, {"auto_map": {"AutoModel": "evilmod.Foo"}}, "auto_map="),
        (UNET, {"quantization_config": {"quant_method": "torchao"}}, "quantization_config="),
        (UNET, {"layers_per_block": 10**8}, "layers_per_block=100000000, more than"),
        (UNET, {"layers_per_block": 10**5}, "asks for a network of more than"),
        (UNET, {"block_out_channels": [2**19, 2**19]}, "asks for a network of more than"),
        (UNET, {"sample_size": 100_000}, "sample_size=100000, more than"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**11}, "num_train_timesteps=100000000000"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 10**9}, "model_max_length=1000000000"),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": EVIL}}, "auto_map="),
        (INDEX, {"unet": EVIL}, "unet is evilmod.Foo, expected"),
        (INDEX, {"scheduler": ["subprocess", "Popen"]}, "scheduler is subprocess.Popen, expected"),
        (INDEX, {"feature_extractor": ["os", "system"]}, "feature_extractor is os.system, expected"),
        (INDEX, {"tokenizer": ["transformers", "AutoTokenizer"]}, "tokenizer is transformers.AutoTokenizer, expected"),
        (INDEX, {"_class_name": ["pipeline", "StableDiffusionPipeline"]}, "supported are StableDiffusionPipeline"),
        (INDEX, {"_class_name": {"a": 1}}, "supported are StableDiffusionPipeline"),
    ],
)
def test_what_a_pipeline_does_not_need_is_refused_by_name(
    file: str, changes: dict[str, Any], words: str, folder: Path, reached: list[object]
) -> None:
    edit(folder / file, **changes)
    message = refusal(folder)
    assert str(folder) in message
    assert words in message
    assert reached == []


PLAIN = st.none() | st.booleans() | st.integers(-100, 100) | st.text(max_size=5) | st.floats(-1, 1)
CONFIGS = st.recursive(
    st.dictionaries(st.sampled_from(["hidden_size", "text_config", "act_fn"]), PLAIN, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["text_config", "vision_config", "parts"]), inner | st.lists(inner)),
    max_leaves=6,
)


def nested(places: list[str], config: Any) -> Any:
    for place in places:
        config = {place: config} if place else [config]
    return config


@given(
    CONFIGS,
    st.lists(st.sampled_from(["", "text_config", "x"]), max_size=5),
    st.sampled_from(["", "_", "use_", "my_"]),
    st.sampled_from(CODE_WORDS),
    st.sampled_from(["", "s", "_config", "_internal"]),
    st.sampled_from(["attacker/x", {"a": "b"}, ["a"], True, {}]),
)
def test_code_is_found_wherever_it_is_named(
    plain: Any, places: list[str], before: str, word: str, after: str, value: Any
) -> None:
    check_config(Path("c.json"), plain)
    for harmless in (None, False):
        check_config(Path("c.json"), nested(places, {**plain, f"{before}{word}{after}": harmless}))
    with pytest.raises(CheckpointError, match="names kernels, quantisation or code"):
        check_config(Path("c.json"), nested(places, {**plain, f"{before}{word}{after}": value}))


@given(st.integers(min_value=2**20 + 1) | st.integers(max_value=-(2**20) - 1) | st.sampled_from([float("nan"), 1e300]))
def test_numbers_have_bounds(number: float) -> None:
    with pytest.raises(CheckpointError, match="hidden_size="):
        check_config(Path("c.json"), {"text_config": [{"hidden_size": number}]})


def test_an_adapter_has_nothing_fetched(tmp_path: Path, tiny_pipeline: Path, reached: list[object]) -> None:
    header = {"format": 2, "domain": "images", "revision": None}
    (tmp_path / "adapter.json").write_text(json.dumps({**header, "base": "attacker/model"}))
    assert "attacker/model: cannot be had from the Hugging Face Hub (an adapter names it" in refusal(tmp_path)
    assert reached == []
    (tmp_path / "adapter.json").write_text(json.dumps({**header, "base": str(tmp_path)}))
    assert "names itself" in refusal(tmp_path)


def test_a_sound_folder_is_read_offline(folder: Path, reached: list[object]) -> None:
    edit(folder / TEXT, _name_or_path="attacker/other", _attn_implementation="eager", _attn_implementation_autoset=True)
    load_pipeline(str(folder), None, torch.float32)
    assert reached == []


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe, expected a regular file": os.mkfifo,
    "a link that leaves the folder": lambda path: path.symlink_to("/dev/zero"),
    "an adapter of PEFT": lambda path: path.with_name("adapter_config.json").write_text("{}"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("words", SPECIAL)
def test_special_files_are_refused(words: str, folder: Path) -> None:
    (folder / TEXT).rename(folder / "text_encoder/old.txt")
    SPECIAL[words](folder / TEXT)
    assert words in refusal(folder)


def test_a_snapshot_of_the_hubs_cache_may_link_to_its_own_blobs_only(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b/snapshots/rev", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    assert files_of(snapshot) == [snapshot / "config.json"]
    (tmp_path / "secret.json").write_text("{}")
    (snapshot / "other.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(CheckpointError, match=r"other\.json: a link that leaves the folder"):
        files_of(snapshot)


@pytest.mark.parametrize("names", [{"x": "../secret.safetensors"}, {"x": "/etc/passwd"}, {"x": "w.bin"}, ["x"], None])
def test_weights_in_parts_lie_beside_their_index(names: Any, folder: Path) -> None:
    (folder / "text_encoder/model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert "its weight_map must name .safetensors files beside it" in refusal(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_must_be_finite_in_the_dtype_that_they_are_used_in(dtype: torch.dtype, folder: Path) -> None:
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    weights[name] = weights[name].double()
    weights[name].view(-1)[0] = 1e300 if dtype == torch.float32 else 1e6
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"weights hold NaN or infinity as {dtype}"):
        load_pipeline(str(folder), None, dtype)
