"""Worker processes: a fault costs one value, and nothing depends on the number of workers."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_scorers import Environment, Faulty, LeavesChildren, LoadedTorch, ProcessId, Square
from test_molecule_rewards import BAD, GOLDEN, from_smiles

from molrl.data.molecules.bonds import edm_table
from molrl.machine.workers.pool import PROCESS_NAME
from molrl.rewards.molecules.qed import QED
from molrl.rewards.scores import Scored
from molrl.rewards.workers.pooled import Pooled

FAULTS = {
    "hang": "timeout",
    "exit": "crash: exit code 7",
    "quit": "crash: exit code 0",
    "leave": "error: SystemExit: 3",
    "segmentation fault": "crash: SIGSEGV",
    "raise": "error: RuntimeError: no such molecule",
    "nan": "non-finite: nan",
}


@pytest.fixture
def squares() -> Iterator[Pooled]:
    with Pooled(Square(), workers=2) as reward:
        yield reward


def test_every_fault_costs_one_value_and_the_others_are_right() -> None:
    samples: list[Any] = [1, 2, *FAULTS, 3, "hang", 4]
    started = time.monotonic()
    with Pooled(Faulty(), workers=2, timeout=1.0, chunk=4) as reward:
        scores = reward.score(samples)
    assert time.monotonic() - started < 20
    assert scores.reasons == ["", "", *FAULTS.values(), "", "timeout", ""]
    assert [value for value in scores.values if not math.isnan(value)] == [1, 4, 9, 16]
    assert scores.counts() == {"ok": 4, "crash": 3, "timeout": 2, "error": 2, "non-finite": 1}


def test_several_faults_in_one_chunk_cost_only_their_values() -> None:
    with Pooled(Faulty(), workers=1, timeout=1.0, chunk=8) as reward:
        scores = reward.score([1, "exit", 2, "hang", "raise", 3, "segmentation fault", 4])
    reasons = ["", FAULTS["exit"], "", "timeout", FAULTS["raise"], "", FAULTS["segmentation fault"], ""]
    assert scores.reasons == reasons


def test_a_hang_costs_its_own_time_limit_and_not_that_of_its_chunk() -> None:
    with Pooled(Faulty(), workers=1, timeout=2.0, chunk=100) as reward:
        started = time.monotonic()
        assert reward.score([*range(99), "hang"]).counts() == {"ok": 99, "timeout": 1}
        assert time.monotonic() - started < 30


def test_a_pool_goes_on_after_its_workers_died() -> None:
    with Pooled(Faulty(), workers=1) as reward:
        assert reward.score(["exit"] * 3).reasons == ["crash: exit code 7"] * 3
        assert reward([5]).tolist() == [25]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("chunk", [1, 3])
def test_scores_do_not_depend_on_workers_or_chunks(workers: int, chunk: int) -> None:
    samples = [from_smiles(smiles) for smiles in [*GOLDEN, *BAD]]
    with Pooled(QED(reader=edm_table), workers=workers, chunk=chunk) as reward:
        assert reward.score(samples) == QED(reader=edm_table).score(samples)


def test_without_workers_a_pool_scores_in_this_process() -> None:
    assert Pooled(ProcessId(), workers=0).score([0]).values == [os.getpid()]
    assert Pooled(Faulty(), workers=0).score(["raise", 3]).scored[1] == Scored(9.0)


def test_answers_come_in_the_order_of_the_samples(squares: Pooled) -> None:
    assert squares(range(101)).tolist() == [n * n for n in range(101)]


def test_an_empty_batch_has_no_values(squares: Pooled) -> None:
    assert squares([]).shape == (0,)


def test_all_workers_take_part() -> None:
    seen: set[float] = set()
    deadline = time.monotonic() + 60
    with Pooled(ProcessId(), workers=2, chunk=1) as reward:
        while len(seen) < 2 and time.monotonic() < deadline:  # one may still be importing
            seen.update(reward.score([0] * 100).values)
    assert len(seen) == 2


def test_workers_are_kept_between_batches() -> None:
    with Pooled(ProcessId(), workers=1) as reward:
        assert reward.score([0]) == reward.score([0])


def test_workers_are_replaced_after_so_many_items() -> None:
    with Pooled(ProcessId(), workers=1, chunk=1, recycle=3) as reward:
        uses = Counter(reward.score([0] * 8).values)
    assert len(uses) >= 3
    assert max(uses.values()) <= 3


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_memory_beyond_the_limit_is_an_error_of_its_sample() -> None:
    with Pooled(Faulty(), workers=1, memory=256) as reward:
        assert reward.score(["memory", 2]).reasons == ["error: MemoryError", ""]


def test_workers_use_one_thread_and_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with Pooled(Environment(), workers=1) as reward:
        assert reward(["OMP_NUM_THREADS"]).tolist() == [1]
    for scorer in (LoadedTorch(), QED(reader=edm_table)):
        with Pooled(scorer, workers=1) as loaded:
            loaded.start()
    with Pooled(LoadedTorch(), workers=1) as reward:
        assert reward([0]).tolist() == [0]


def test_a_closed_pool_leaves_no_process_and_starts_again() -> None:
    reward = Pooled(Square(), workers=2)
    assert reward([3]).tolist() == [9]
    reward.close()
    assert not workers_alive()
    assert reward([4]).tolist() == [16]
    del reward
    assert not workers_alive()


def test_a_worker_that_died_idle_is_replaced_at_no_sample_s_cost() -> None:
    with Pooled(ProcessId(), workers=1) as reward:
        victim = int(reward.score([0]).values[0])
        os.kill(victim, signal.SIGKILL)
        time.sleep(0.2)
        assert reward.score([0]).reasons == [""]


def test_a_scorer_that_cannot_be_sent_is_refused() -> None:
    class Local:
        def score_one(self, sample: Any, /) -> Scored:
            return Scored(0.0)

    with pytest.raises(ValueError, match="cannot be sent to a worker process"):
        Pooled(Local(), workers=1).start()
    assert not workers_alive()


def test_a_scorer_that_cannot_be_imported_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(
        "import multiprocessing\n"
        "if multiprocessing.parent_process() is not None:\n"
        "    raise ImportError('needs an extra: pip install molrl[extra]')\n"
        "class Scorer:\n"
        "    def score_one(self, sample): ...\n",
        "utf-8",
    )
    script = """
from molrl.rewards.workers.pooled import Pooled
if __name__ == "__main__":
    from plugin import Scorer
    Pooled(Scorer(), workers=1).start()
"""
    done = run(tmp_path, script)
    assert done.returncode == 1
    assert "cannot load its task: ImportError: needs an extra: pip install molrl[extra]" in done.stderr


def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    script = """
from faulty_scorers import Square
from molrl.rewards.workers.pooled import Pooled
Pooled(Square(), workers=1).start()
"""
    done = run(tmp_path, script)
    assert done.returncode == 1
    assert "needs the guard" in done.stderr


def test_ctrl_c_in_the_middle_of_a_batch_leaves_no_process(tmp_path: Path) -> None:
    script = """
import multiprocessing, os, signal, threading
from faulty_scorers import Faulty
from molrl.rewards.workers.pooled import Pooled
if __name__ == "__main__":
    reward = Pooled(Faulty(), workers=2)
    reward.start()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        reward(["hang", "hang", 1])
    except KeyboardInterrupt:
        print("alive", len(multiprocessing.active_children()), "again", reward.score([3]).values)
"""
    done = run(tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alive 0 again [9.0]\n"


@pytest.mark.parametrize("ending", ["", "os.kill(os.getpid(), signal.SIGKILL)"], ids=["exit", "kill"])
def test_workers_end_with_their_parent(tmp_path: Path, ending: str) -> None:
    script = f"""
import os, signal
from faulty_scorers import ProcessId
from molrl.rewards.workers.pooled import Pooled
if __name__ == "__main__":
    print(int(Pooled(ProcessId(), workers=1).score([0]).values[0]), flush=True)
    {ending}
"""
    worker = int(run(tmp_path, script).stdout)
    assert ended(worker)


@pytest.mark.parametrize("bad", [{"workers": -1}, {"timeout": 0.0}, {"chunk": 0}, {"memory": 0}, {"recycle": 0}])
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: got"):
        Pooled(Square(), **{"workers": 1, **bad})


def workers_alive() -> list[str]:
    return [child.name for child in multiprocessing.active_children() if child.name == PROCESS_NAME]


def test_a_worker_that_hangs_when_its_parent_is_killed_ends_too(tmp_path: Path) -> None:
    script = f"""
import os, signal, threading
from faulty_scorers import HangsAfterNote
from molrl.rewards.workers.pooled import Pooled
if __name__ == "__main__":
    reward = Pooled(HangsAfterNote({str(tmp_path / "worker")!r}), workers=1, timeout=2.0)
    reward.start()
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGKILL)).start()
    reward([0])
"""
    assert run(tmp_path, script).returncode == -signal.SIGKILL
    assert ended(int((tmp_path / "worker").read_text("ascii")))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no supervisors")
def test_faults_are_found_where_the_end_of_children_is_ignored(tmp_path: Path) -> None:
    """By a parent, from which workers inherit that."""
    script = """
import signal
from faulty_scorers import Faulty
from molrl.rewards.workers.pooled import Pooled
if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with Pooled(Faulty(), workers=1, timeout=60.0) as reward:
        print(reward.score([1, "exit", 2]).reasons)
"""
    assert run(tmp_path, script).stdout == "['', 'crash: exit code unknown', '']\n"


@pytest.mark.skipif(sys.platform != "linux", reason="descendants can be found on Linux only")
@pytest.mark.parametrize("sample", ["hang", "exit", "segmentation fault", "stay"])
def test_what_a_reward_has_started_ends_with_its_worker(sample: str, tmp_path: Path) -> None:
    """In sessions of its own or not, started or forked, whether the worker hangs, crashes or is closed."""
    note = tmp_path / "children"
    with Pooled(LeavesChildren(str(note)), workers=1, timeout=3.0) as reward:
        assert reward.score([1, sample, 2]).values[::2] == [0.0, 0.0]
    children = [int(line) for line in note.read_text().split()]
    assert len(children) >= 5
    assert [child for child in children if not ended(child)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="descendants can be found on Linux only")
def test_what_a_reward_has_started_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, signal
from faulty_scorers import LeavesChildren
from molrl.rewards.workers.pooled import Pooled
if __name__ == "__main__":
    Pooled(LeavesChildren({str(tmp_path / "children")!r}), workers=1, timeout=60.0).score(["stay"])
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run(tmp_path, script).returncode == -signal.SIGKILL
    assert all(ended(int(line)) for line in (tmp_path / "children").read_text().split())


def ended(process: int) -> bool:
    """Return True if a process ends within seconds."""
    deadline = time.monotonic() + 8
    while running(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not running(process)


def running(process: int) -> bool:
    """Return True if a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run(folder: Path, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script that can import what this one can."""
    path = folder / "script.py"
    path.write_text(script, "utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
