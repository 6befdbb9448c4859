"""One of several processes of a run leaves it: `python leaving.py HOW FOLDER`, started once for each process.

The last one does it when its reward is computed for the second time; HOW is `killed`, `stuck`, `failing` or `told`.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from test_finetune import ALGORITHMS, finetuning
from torch import Tensor
from toy import number_task, quadratic, unheard

from molrl.cli import complain
from molrl.exit_codes import exit_code_of
from molrl.finetune import finetune, freeze_copy
from molrl.machine.interruption import defer_interruption, exit_code
from molrl.machine.processes import connect_processes
from molrl.run import propagate_interrupt

WAIT = {"stuck": 30.0}  # seconds; the others notice by themselves


def main(how: str, folder: Path) -> int:
    """Run a process of the group and return its exit code, as `molrl train` would have it."""
    calls = 0
    with connect_processes(WAIT.get(how, 200.0)) as world:

        def reward(samples: Sequence[Any]) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 2 and world.rank == world.size - 1:
                leave(how)
            return quadratic(samples)

        task = replace(number_task(reward), processes=world)
        try:
            with defer_interruption("this iteration") as request:
                loop = finetuning(save_every=1, iterations=4)
                finetune(loop, task, ALGORITHMS["DDPO"], freeze_copy(task.policy), folder, unheard, request.is_set)
            propagate_interrupt(request, world)
        except KeyboardInterrupt as stop:
            return exit_code(stop)
    return 0


def connected() -> bool:
    """Return whether threads of the group are left, which would crash the process at the end of Python."""
    return any("gloo" in task.read_text() for task in Path("/proc/self/task").glob("*/comm"))


def leave(how: str) -> None:
    """Leave the group as processes of the package do."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "stuck":
        time.sleep(600)
    elif how == "failing":
        raise ValueError("the reward is out of order")
    else:
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        code = main(sys.argv[1], Path(sys.argv[2]))
        sys.exit("molrl: the group is still connected" if connected() else code)
    except (RuntimeError, ValueError) as error:
        sys.exit(complain(error, exit_code_of(error)))
