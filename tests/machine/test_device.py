"""Devices are those that torch has on this machine; others are one clear error."""

import pytest
import torch

from molrl.config import ConfigError
from molrl.machine.device import choose_device, warn_of_slow_bfloat16
from molrl.machine.memory import OutOfMemory, enough_memory


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "meta", "", "mps:x"])
def test_another_device_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ConfigError, match="allowed are auto, cpu, cuda, cuda:N, mps"):
        choose_device(name)


@pytest.mark.parametrize("available", [True, False])
def test_the_gpu_of_a_mac_is_taken_where_torch_has_it(available: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available)
    if available:
        assert choose_device("mps") == torch.device("mps")
        assert choose_device("mps:0") == torch.device("mps:0")
        with pytest.raises(ConfigError, match="device=mps:1: torch has one such GPU"):
            choose_device("mps:1")
    else:
        with pytest.raises(ConfigError, match=r"device=mps: torch has no GPU of a Mac \(mps\) on this machine"):
            choose_device("mps")


@pytest.mark.parametrize("message", ["MPS backend out of memory (MPS allocated: 9 GB)", "can't allocate memory: 9 GB"])
def test_memory_that_runs_out_is_one_line_on_every_device(message: str) -> None:
    with pytest.raises(OutOfMemory, match=r"out of memory \(.*9 GB.*\): lower rollouts"), enough_memory("rollouts"):
        raise RuntimeError(message)


@pytest.mark.parametrize(
    ("capabilities", "device", "is_warned"),
    [
        ({"avx2": True, "amx_bf16": False, "avx512_bf16": False}, "cpu", True),
        ({"avx2": True, "amx_bf16": False, "avx512_bf16": True}, "cpu", False),
        ({"avx2": True, "amx_bf16": False, "avx512_bf16": False}, "meta", False),
    ],
)
def test_a_processor_without_bfloat16_is_told_of(
    capabilities: dict[str, bool],
    device: str,
    is_warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    warn_of_slow_bfloat16("training.bf16=true", torch.device(device))
    assert capsys.readouterr().err.startswith("molrl: training.bf16=true: this processor has no") == is_warned


def test_what_torch_cannot_tell_is_not_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    warn_of_slow_bfloat16("training.bf16=true", torch.device("cpu"))
    assert capsys.readouterr().err == ""
