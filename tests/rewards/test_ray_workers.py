"""Workers on a Ray cluster: values and reasons of local ones, even when Ray's processes are killed."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from command import score_molecules as score_file
from faulty_scorers import Square
from test_workers import FAULTS

from molrl.building import build
from molrl.composition import compose
from molrl.config import ConfigError
from molrl.data.molecules.bonds import edm_table
from molrl.rewards.molecules.qed import QED
from molrl.rewards.workers.pooled import Pooled

pytestmark = pytest.mark.timeout(900)  # seconds on a machine that is busy with something else; 20 on one that is not
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'molrl[ray]'")
PATIENCE = {"RAY_raylet_start_wait_time_s": "120"}  # of Ray with its own processes, on a busy machine
SAMPLES: list[Any] = [1, 2, *FAULTS, 3, "memory", 4]

# One cluster for all: its start takes longer than everything else.
SCRIPT = """
import json, sys
import ray
from faulty_scorers import Faulty, KillsItsParent, Square
from molrl.data.molecules.bonds import edm_table
from molrl.rewards.molecules.qed import QED
from command import score_molecules as score_file
from molrl.rewards.workers.pooled import Pooled

def local_scorer():
    class Local:
        def score_one(self, sample): ...
    return Local()

if __name__ == "__main__":
    samples, folder, short = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=short)
    results = {}
    with Pooled(Faulty(), workers="ray", timeout=1.0, chunk=4) as reward:
        scores = reward.score(samples)
        results["faults"] = [scores.values, scores.reasons]
        first, second = reward.submit([5]), reward.submit([6, 7])
        results["submitted"] = [second().tolist(), first().tolist()]
    with Pooled(KillsItsParent(f"{folder}/mark"), workers="ray", chunk=4) as reward:
        scores = reward.score([*range(30), "kill", *range(30)])
        results["killed"] = [scores.values, scores.reasons]
    pooled = Pooled(QED(reader=edm_table), workers="ray")
    score_file(f"{folder}/in.smi", {"qed": pooled}, f"{folder}/ray.csv", reader=edm_table)
    try:
        Pooled(local_scorer(), workers="ray").start()
    except RuntimeError as error:
        results["unloadable"] = str(error)
    results["left alone"] = ray.is_initialized()
    print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def short() -> Iterator[str]:
    """Make a folder whose name is short enough for Ray's sockets."""
    folder = tempfile.mkdtemp(prefix="ray")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join(sys.path)
    return {**os.environ, "PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0", **PATIENCE, **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ray")
    (made / "in.smi").write_text("CC(=O)Oc1ccccc1C(=O)O aspirin\nC1CC ring\nC.C two\n" + "CCO\n" * 40, "utf-8")
    (made / "script.py").write_text(SCRIPT, "utf-8")
    return made


@pytest.fixture(scope="module")
def cluster(folder: Path, short: str) -> Mapping[str, Any]:
    """Return the results of a script with a cluster of its own."""
    command = [sys.executable, str(folder / "script.py"), json.dumps(SAMPLES), str(folder), short]
    start = partial(
        subprocess.run, command, env=environment(), capture_output=True, text=True, timeout=400, check=False
    )
    done = start()
    if "timed out during startup" in done.stderr:  # Ray gives its processes half a minute, which a busy machine needs
        done = start()
    assert done.returncode == 0, done.stderr
    results: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results


@needs_ray
def test_every_fault_costs_one_value_with_the_reason_that_local_workers_give(cluster: Mapping[str, Any]) -> None:
    values, reasons = cluster["faults"]
    assert reasons == ["", "", *FAULTS.values(), "", "error: MemoryError", ""]
    assert [value for value, reason in zip(values, reasons, strict=True) if not reason] == [1, 4, 9, 16]


@needs_ray
def test_a_killed_process_of_the_cluster_costs_nothing(cluster: Mapping[str, Any], folder: Path) -> None:
    assert (folder / "mark").exists()
    squares = [float(n * n) for n in range(30)]
    assert cluster["killed"] == [[*squares, -1.0, *squares], [""] * 61]


@needs_ray
def test_batches_that_were_handed_out_together_keep_their_own_values(cluster: Mapping[str, Any]) -> None:
    assert cluster["submitted"] == [[36, 49], [25]]


@needs_ray
def test_a_file_scored_on_a_cluster_is_the_same(cluster: Mapping[str, Any], folder: Path) -> None:
    score_file(folder / "in.smi", {"qed": QED(reader=edm_table)}, folder / "here.csv", reader=edm_table)
    assert (folder / "ray.csv").read_bytes() == (folder / "here.csv").read_bytes()


@needs_ray
def test_a_scorer_that_cannot_be_sent_is_an_error_at_the_start(cluster: Mapping[str, Any]) -> None:
    assert "a worker of the Ray cluster cannot work: ScoreTask cannot be sent to a worker" in cluster["unloadable"]


@needs_ray
def test_a_cluster_that_was_there_before_is_left_alone(cluster: Mapping[str, Any]) -> None:
    assert cluster["left alone"] is True


LISTENING = """
import os, re, sys
from pathlib import Path
from faulty_scorers import Square
from molrl.rewards.workers.pooled import Pooled

def children(parent):
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(folder.name)
                yield from children(int(folder.name))
        except OSError:
            pass

def sockets(process):
    for file in Path(f"/proc/{process}/fd").iterdir():
        try:
            yield os.readlink(file)
        except OSError:
            pass

if __name__ == "__main__":
    with Pooled(Square(), workers="ray") as reward:
        assert reward([3]).tolist() == [9]
        own = {name for process in [os.getpid(), *children(os.getpid())] for name in sockets(process)}
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                    print("listens", words[1].partition(":")[0])
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}  # as the kernel writes


@needs_ray
@pytest.mark.skipif(sys.platform != "linux", reason="sockets are listed on Linux only")
def test_a_cluster_that_is_started_here_listens_on_the_loopback_interface_alone(folder: Path) -> None:
    (folder / "listening.py").write_text(LISTENING, "utf-8")
    done = subprocess.run(
        [sys.executable, str(folder / "listening.py")],
        env={
            name: value
            for name, value in environment(RAY_TMPDIR=tempfile.gettempdir()).items()
            if name != "RAY_ADDRESS"
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    addresses = re.findall(r"listens (\w+)", done.stdout)
    assert len(addresses) >= 3
    assert set(addresses) <= LOOPBACK


@needs_ray
def test_impossible_settings_are_refused_before_a_cluster_is_looked_for() -> None:
    with pytest.raises(ValueError, match=r"timeout: got 0\.0"):
        Pooled(Square(), workers="ray", timeout=0.0)


@needs_ray
def test_an_address_where_no_cluster_is_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(RuntimeError, match=rf"RAY_ADDRESS=127\.0\.0\.1:{port}: no Ray cluster answers there"):
        Pooled(Square(), workers="ray").start()


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molrl.rewards.workers.ray.find_spec", lambda _: None)
    config = compose("score", ["file=x.smi", "reward.workers=ray"])
    with pytest.raises(ConfigError, match=r"reward: workers=ray needs Ray: pip install 'molrl\[ray\]'"):
        build(config["reward"], "reward")


def test_another_word_for_the_workers_is_refused() -> None:
    config = compose("score", ["file=x.smi", "reward.workers=rays"])
    with pytest.raises(ConfigError, match=r"reward\.workers='rays': expected int or 'ray'"):
        build(config["reward"], "reward")
