"""Compilation of a policy's network for a run: once for each kind of call, and never again in the run.

The network's repeated blocks are compiled, not the whole: one compiled function serves all of them. They are always
called with `ROWS` rows (`Policy.rows`), so that tables of any length need no further shape. A kind of call is one with
gradients, one without, or one of the frozen reference. Where the width of the states changes between rounds, torch
compiles once more, then for any width.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Literal

import torch
from torch import nn

from molrl.finetune import FinetuneConfig
from molrl.policy import Policy

ROWS = 64  # of one call
REPAID = 2_000_000  # samples times steps of the rollouts of a run that repay a minute of compiling on one core


def repeated_blocks(policy: Policy) -> Sequence[nn.Module]:
    """Return the blocks that the network says can be compiled one by one; none where it says nothing."""
    return list(getattr(policy.denoiser, "repeated_blocks", ()))


def compiler_problem(device: torch.device) -> str:
    """Return why torch cannot compile for a device, or "" where it can."""
    if device.type == "cuda":
        return "" if find_spec("triton") else "triton is not installed"
    if device.type != "cpu":
        return f"torch does not compile for {device.type}"
    compilers = [os.environ.get("CXX", "g++"), "clang++"]
    return "" if any(map(shutil.which, compilers)) else f"no C++ compiler: neither {' nor '.join(compilers)}"


def prepare_to_compile(
    policy: Policy, choice: Literal["auto"] | bool, device: torch.device, config: FinetuneConfig
) -> Policy:
    """Return the policy with a fixed number of rows for its network where a run is to be compiled, else as it is.

    Args:
        policy: whose network it is.
        choice: True and False are obeyed; "auto" compiles what can be compiled and repays it.
        device: to compile for.
        config: the length of the run in all. What is left to do does not count, so that a run that is resumed computes
            as it began.

    Raises:
        ValueError: `choice` is True, and the network or the machine does not allow it.
    """
    problem = compiler_problem(device)
    if not repeated_blocks(policy):
        problem = f"{type(policy.denoiser).__name__} names no repeated blocks that can be compiled"
    if choice is True and problem:
        raise ValueError(f"compile: got true, but {problem}; use auto or false")
    repaid = config.iterations * config.rollouts * policy.sampler.num_steps >= REPAID
    wanted = repaid if choice == "auto" else choice
    return replace(policy, rows=ROWS) if wanted and not problem else policy


def compile_blocks(*policies: Policy, backend: str = "inductor") -> None:
    """Compile the blocks of the networks of these policies in place, where they have a fixed number of rows."""
    for policy in policies:
        for block in repeated_blocks(policy) if policy.rows else ():
            block.compile(backend=backend)
