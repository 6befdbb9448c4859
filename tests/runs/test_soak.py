"""Two hundred kills, anywhere: `pytest -m slow tests/runs/test_soak.py`, or `python benchmarks/faults.py 1 --soak`."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from test_finetune import ALGORITHMS, finetuning, run, untimed, weights
from torch.testing import assert_close
from toy import number_task

from molrl.finetune import finetune, freeze_copy
from molrl.runs.checkpoints import CHECKPOINTS, Series
from molrl.runs.tracking import Tracker, read_metrics

KILLS = 200
ROUNDS = 60


def train(folder: Path) -> None:
    """Continue the toy's run, with its rows in a file."""
    task = number_task()
    start = last.step if (last := Series(folder / CHECKPOINTS).latest()) else 0
    with Tracker(folder, ROUNDS, start, quiet=True) as tracker:
        finetune(
            finetuning(iterations=ROUNDS, save_every=1),
            task,
            ALGORITHMS["DPOK"],
            freeze_copy(number_task().policy),
            folder,
            tracker.log,
        )


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_two_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    """SIGKILL at a random moment of each attempt. A run that ends is compared and begun again in another folder."""
    whole = number_task()
    expected = untimed(run(whole, ALGORITHMS["DPOK"], iterations=ROUNDS))
    moments, kills, finished = random.Random(0), 0, 0
    while kills < KILLS:
        folder = tmp_path / f"{finished}"
        before = Series(folder / CHECKPOINTS).steps()
        child = os.fork()
        if child == 0:
            try:
                train(folder)
            except BaseException:
                os._exit(1)
            os._exit(0)
        time.sleep(moments.uniform(0.0, 2.0))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        after = Series(folder / CHECKPOINTS).steps()
        assert status in (signal.SIGKILL, 0)
        assert not before or after[-1] >= before[-1]  # never backwards
        assert not list((folder / CHECKPOINTS).glob("damaged_*"))
        kills += status == signal.SIGKILL
        if status == 0:
            finished += 1
            assert untimed(read_metrics(folder / "metrics.jsonl")) == expected
            last = Series(folder / CHECKPOINTS).latest()
            assert last is not None
            assert_close(last.tensors["denoiser"], weights(whole), rtol=0, atol=0)
    print(f"{kills} kills, {finished} runs came to their end as if there had been none")
    assert finished > 0
