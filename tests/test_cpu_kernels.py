"""The numeric tests hold whatever kernels a CPU runs: each kind sums in an order of its own.

torch, oneDNN and MKL choose their kernels by the instructions that the CPU has; environment variables make them choose
those of a lesser one. Here the tests are run again under each of these choices. CPUs that this machine does not have
are skipped: run this file on several machines.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
CAPABILITIES = ("DEFAULT", "AVX2", "AVX512")  # of torch on x86, each with the ones before it
SETTINGS = {
    "default": ("DEFAULT", {"ATEN_CPU_CAPABILITY": "default"}),
    "avx2": ("AVX2", {"ATEN_CPU_CAPABILITY": "avx2"}),
    "avx512": ("AVX512", {"ATEN_CPU_CAPABILITY": "avx512"}),
    "onednn of avx2": ("AVX2", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
}
FILES = (
    *("test_denoisers.py", "test_diagnostics.py", "test_finetune.py", "test_gaussian.py", "test_mixed_precision.py"),
    *("test_noise.py", "test_policy.py", "test_samplers.py", "test_schedule.py"),
    *("algos/test_advantages.py", "algos/test_ddpo.py", "algos/test_dpok.py", "algos/test_guidance.py"),
    *("algos/test_rgdm.py", "algos/test_rwr.py", "algos/test_sft.py", "algos/test_grpo.py", "algos/test_windows.py"),
    *("algos/test_particles.py", "algos/test_smc.py", "algos/test_svdd.py"),
    *("images/test_scheduler_chain.py", "images/test_sharding.py", "machine/test_processes.py"),
)
# Tests of how processes start and end: slow, and without numbers.
UNRELATED = "process_dies or that_dies or process_fails or signal_to_one or accelerate"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def usable_capability(capability: str) -> bool:
    """Return whether torch has kernels of this capability and the CPU runs them."""
    ours = torch.backends.cpu.get_cpu_capability()
    return ours in CAPABILITIES and CAPABILITIES.index(capability) <= CAPABILITIES.index(ours)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_numeric_tests_hold_under_the_kernels_of(setting: str) -> None:
    capability, variables = SETTINGS[setting]
    if not usable_capability(capability):
        pytest.skip(f"{setting}: this CPU has {torch.backends.cpu.get_cpu_capability()}, needs {capability}")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"not ({UNRELATED})"]
    command += ["--numprocesses", "2", "--dist", "loadfile", *(str(TESTS / file) for file in FILES)]
    done = subprocess.run(
        command, env={**inherited, **variables}, cwd=TESTS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-10000:] + done.stderr[-2000:]


def test_each_setting_is_what_a_process_then_has() -> None:
    """A variable that torch no longer reads would make all of these runs the same."""
    for name in ("default", "avx2", "avx512"):
        capability, variables = SETTINGS[name]
        if usable_capability(capability):
            program = "import torch; print(torch.backends.cpu.get_cpu_capability())"
            shown = subprocess.check_output([sys.executable, "-c", program], env={**os.environ, **variables}, text=True)
            assert shown.strip() == capability
