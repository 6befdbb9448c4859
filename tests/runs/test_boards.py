"""Boards show what a run logs, offline, and a board that fails costs a warning and not the run."""

import importlib
import importlib.machinery
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from command import QUICK_RUN, complaint, molrl
from PIL import Image

from molrl.building import build
from molrl.composition import Composition
from molrl.runs.boards import Board, Boards, TensorBoard, quantiles
from molrl.runs.trackers import MLflow, Trackio, WeightsAndBiases, run_id
from molrl.runs.tracking import Tracker

RED = Image.new("RGB", (4, 3), (255, 0, 0))


class Recorder:
    """A board that keeps what it is shown, and fails from a step on."""

    def __init__(self, fails_at: int = 1000) -> None:
        self.fails_at = fails_at
        self.shown: list[tuple[str, object, int]] = []

    def keep(self, kind: str, value: object, step: int) -> None:
        if step >= self.fails_at:
            raise ConnectionError("the server\nis gone")
        self.shown.append((kind, value, step))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.keep("metrics", dict(metrics), step)

    def image(self, name: str, image: Image.Image, step: int) -> None:
        self.keep(name, image.size, step)

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        self.keep(name, list(values), step)

    def close(self) -> None:
        self.keep("close", None, 0)


def events(folder: Path) -> Any:
    reader: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    return reader.EventAccumulator(str(folder / "tensorboard"), size_guidance={"histograms": 0, "images": 0}).Reload()


def test_tensorboard_has_the_image_and_the_distribution(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, 0)
    board.image("samples", RED, 7)
    board.histogram("rewards", [0.0, 1.0, 1.0, 3.0], 2)
    board.close()
    found = events(tmp_path)
    (image,) = found.Images("samples")
    assert (image.step, image.width, image.height) == (7, 4, 3)
    (counts,) = found.Histograms("rewards")
    value = counts.histogram_value
    assert (counts.step, value.num, value.min, value.max, value.sum, value.sum_squares) == (2, 4, 0, 3, 5, 11)


def test_a_run_shows_its_rewards_and_samples(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert molrl("train", "task=qed", "algo=ddpo", f"run={run}", *QUICK_RUN).code == 0
    found = events(run)
    assert [(one.step, one.histogram_value.num) for one in found.Histograms("rewards")] == [(0, 8), (1, 8)]
    assert [one.step for one in found.Images("samples")] == [0, 2]  # before training and after the last round


def test_the_board_of_the_page_is_built_by_its_yaml_and_shows_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs/tracking.md").read_text("utf-8")
    target = re.search(r"`_target_: (\w+)\.(\w+)` in `(\w+)/(tracker/(\w+)\.yaml)`", page)
    assert target is not None
    package, _, folder, file, name = target.groups()
    assert f"tracker={name} --config-dir {folder} --plugin {package}" in page
    (tmp_path / f"{package}.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    (tmp_path / folder / file).parent.mkdir(parents=True)
    (tmp_path / folder / file).write_text(f"_target_: {target[1]}.{target[2]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("molrl.building.NAMED_PACKAGES", {package})
    config = Composition("train", [f"tracker={name}"], [tmp_path / folder]).config
    settings = build(config["tracker"], "tracker")
    with Tracker(tmp_path / "run", 1, board=partial(settings.open, tmp_path / "run", config, 0)) as tracker:
        tracker.show_image("samples", lambda: Image.new("RGB", (2, 2)), 0)
        tracker.show_histogram("rewards", [1.0], 0)
        tracker.log({"reward": 0.5})
    shown = capsys.readouterr()
    assert shown.out == "0 0.5\n"
    assert "warning" not in shown.err


def test_only_finite_values_are_a_distribution() -> None:
    board, boards = Recorder(), Boards(pytest.fail)
    boards.add("one", lambda: board)
    boards.histogram("rewards", [1.0, float("nan"), 2.0], 0)
    boards.histogram("rewards", [float("nan")], 1)
    assert board.shown == [("rewards", [1.0, 2.0], 0)]


def test_a_board_that_fails_is_left_out_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = Recorder(fails_at=1)
    with Tracker(tmp_path, 3, quiet=True, board=lambda: board) as tracker:
        for step in range(3):
            tracker.log({"reward": float(step)})
            tracker.show_image("samples", lambda: RED, step)
    said = capsys.readouterr().err
    assert said == "warning: tracker board: ConnectionError: the server; the run goes on without it\n"
    assert board.shown == [("metrics", {"reward": 0.0}, 0), ("samples", (4, 3), 0)]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["reward"] for row in rows] == [0.0, 1.0, 2.0]
    assert len(events(tmp_path).Scalars("reward")) == 3


def test_a_board_that_cannot_be_opened_and_an_image_that_cannot_be_drawn_are_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Any:
        raise OSError("not today")

    with Tracker(tmp_path, 1, quiet=True, board=refuse) as tracker:
        tracker.show_image("samples", refuse, 0)
        tracker.log({"reward": 1.0})
    first, second = capsys.readouterr().err.splitlines()
    assert first == "warning: tracker board: OSError: not today; the run goes on without it"
    assert second == "warning: samples: not drawn (OSError: not today)"
    assert len(events(tmp_path).Scalars("reward")) == 1


def test_quantiles_stand_for_a_distribution() -> None:
    assert quantiles("r", [0.0, 1.0, 2.0, 3.0, 4.0]) == pytest.approx(
        {"r_q05": 0.2, "r_q25": 1.0, "r_q50": 2.0, "r_q75": 3.0, "r_q95": 3.8}
    )


def show_everything(board: Board) -> None:
    board.log({"reward": 0.5, "kl": 2.0}, 3)
    board.image("samples", RED, 3)
    board.histogram("rewards", [0.0, 2.0], 3)
    board.close()


OFFLINE_RUN = """
import sys
from pathlib import Path
from PIL import Image
from molrl.runs.trackers import WeightsAndBiases

board = WeightsAndBiases(project="molrl", entity=None, mode="offline").open(Path(sys.argv[1]), {"seed": 3}, 0)
board.log({"reward": 0.5, "kl": 2.0}, 3)
board.image("samples", Image.new("RGB", (4, 3)), 3)
board.histogram("rewards", [0.0, 2.0], 3)
board.close()
"""


def test_weights_and_biases_writes_an_offline_run(tmp_path: Path) -> None:
    """The package itself writes the files, in a process of its own because it starts a service."""
    pytest.importorskip("wandb")
    settings = {"WANDB_API_KEY": "", "HOME": str(tmp_path), "WANDB_ERROR_REPORTING": "false"}
    command = [sys.executable, "-c", OFFLINE_RUN, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "wandb").glob(f"offline-run-*-{run_id(tmp_path)}")
    (data,) = (path.read_bytes() for path in folder.glob("*.wandb"))
    assert all(word in data for word in (b"reward", b"kl", b"histogram", b"seed"))
    (image,) = (folder / "files/media/images").glob("samples_*.png")
    with Image.open(image) as opened:
        assert opened.size == (4, 3)


class FakePackage(ModuleType):
    """A package in the place of trackio or mlflow that keeps how it was called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.calls: list[tuple[Any, ...]] = []
        self.Image = lambda image: ("image", image.size)
        self.Histogram = lambda values: ("histogram", values)

    def init(self, **about: Any) -> Any:
        self.calls.append(("init", about))
        return SimpleNamespace(log=lambda metrics, step: self.calls.append(("log", metrics, step)))

    def finish(self) -> None:
        self.calls.append(("finish",))

    def MlflowClient(self, tracking_uri: str) -> "FakeClient":  # noqa: N802  the package's own name
        self.calls.append(("client", tracking_uri))
        return FakeClient(self.calls)


class FakeClient:
    """A client of MLflow that keeps how it was called; there is no experiment yet."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls

    def get_experiment_by_name(self, _: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return f"id of {name}"

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        self.calls.append(("run", experiment, run_name, tags))
        return SimpleNamespace(info=SimpleNamespace(run_id="1"))

    def log_param(self, _: str, name: str, value: str) -> None:
        self.calls.append(("param", name, value))

    def log_metric(self, _: str, name: str, value: float, timestamp: int, step: int) -> None:
        assert timestamp > 1.7e12  # milliseconds
        self.calls.append((name, value, step))

    def log_image(self, _: str, image: Image.Image, artifact_file: str) -> None:
        self.calls.append((artifact_file, image.size))

    def set_terminated(self, _: str) -> None:
        self.calls.append(("finish",))


def test_trackio_is_called_as_it_is_meant_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = FakePackage("trackio")
    monkeypatch.setitem(sys.modules, "trackio", package)
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    show_everything(Trackio(project="p", space=None).open(tmp_path, {"seed": 3}, 0))
    about = {"project": "p", "name": tmp_path.name, "space_id": None, "config": {"seed": 3}}
    assert package.calls == [
        ("init", {**about, "resume": "allow", "embed": False}),
        ("log", {"reward": 0.5, "kl": 2.0}, 3),
        ("log", {"samples": ("image", (4, 3))}, 3),
        ("log", {"rewards": ("histogram", [0.0, 2.0])}, 3),
        ("finish",),
    ]
    assert os.environ.pop("TRACKIO_DIR") == str(tmp_path / "trackio")


def test_mlflow_is_called_as_it_is_meant_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = FakePackage("mlflow")
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    config = {"algo": {"clip": 0.1}, "seed": 3}
    show_everything(MLflow(experiment="e", server=None).open(tmp_path, config, 4))
    assert package.calls == [
        ("client", (tmp_path / "mlflow").as_uri()),
        ("run", "id of e", tmp_path.name, {"molrl": run_id(tmp_path), "start": "4"}),
        *[("param", "algo.clip", "0.1"), ("param", "seed", "3")],
        *[("reward", 0.5, 3), ("kl", 2.0, 3), ("samples_3.png", (4, 3))],
        *[(f"rewards_q{share:02}", pytest.approx(share / 50), 3) for share in (5, 25, 50, 75, 95)],
        ("finish",),
    ]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_package_that_is_missing_is_one_line_before_the_run_begins(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    run = tmp_path / "run"
    said = complaint(["train", "task=qed", "algo=ddpo", f"tracker={name}", f"run={run}", *QUICK_RUN], 2)
    assert f"pip install 'molrl[{name}]'" in said
    assert not run.exists()


def test_nothing_leaves_this_machine_by_default() -> None:
    for name, setting, value in (("wandb", "mode", "offline"), ("mlflow", "server", None), ("trackio", "space", None)):
        assert Composition("train", [f"tracker={name}"]).config["tracker"][setting] == value


def test_a_run_goes_on_with_another_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = FakePackage("trackio")
    monkeypatch.setitem(sys.modules, "trackio", package)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    run = tmp_path / "run"
    first = molrl("train", "task=qed", "algo=ddpo", f"run={run}", *QUICK_RUN)
    assert first.code == 0, first
    done = molrl("train", f"resume={run}", "iterations=+1", "tracker=trackio")
    assert done.code == 0, done
    assert [call[2] for call in package.calls if call[0] == "log" and "reward" in call[1]] == [2]
    assert yaml.safe_load((run / "config.yaml").read_text())["chosen"]["tracker"] == "trackio"
    assert "tracker" not in (run / "model/README.md").read_text()


def test_a_wandb_project_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", FakePackage("wandb"))
    config = Composition("train", ["tracker=wandb", "tracker.project=mine"]).config["tracker"]
    settings = {name: value for name, value in config.items() if not name.startswith("_")}
    assert WeightsAndBiases(**settings).project == "mine"
