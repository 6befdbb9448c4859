"""Laws of what a run writes and shows while it runs."""

import importlib
import json
from pathlib import Path
from typing import Any, Never

import pytest

from molrl.runs.tracking import Tracker, read_metrics

ROUND = {"reward": 0.5, "reward_std": 0.1, "validity": 0.93, "uniqueness": 0.98, "kl": 1.25, "clip_fraction": 0.1}


LABELS = {"validity": "valid", "size": "atoms", "uniqueness": "unique", "novelty": "novel"}


def refuse(constant: str) -> Never:
    raise AssertionError(f"{constant} is no JSON")


def strict_lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "metrics.jsonl").read_text("utf-8")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def log_rounds(
    folder: Path | None, rewards: list[float], start: int = 0, total: int = 10, before: float | None = None
) -> None:
    with Tracker(folder, total, start, labels=LABELS, before=before) as tracker:
        for iteration, reward in enumerate(rewards, start):
            tracker.log({**ROUND, "iteration": iteration, "reward": reward})


def test_every_line_is_strict_json_with_null_for_what_is_no_number(tmp_path: Path) -> None:
    with Tracker(tmp_path, 3) as tracker:
        tracker.log(
            {"iteration": 0, "reward": float("nan"), "kl": float("inf"), "loss": -float("inf"), "validity": None}
        )
        tracker.log({"iteration": 1, "reward": 0.25, "updates": 4})
        tracker.log({"reward": 0.5})
    assert strict_lines(tmp_path) == [
        {"iteration": 0, "reward": None, "kl": None, "loss": None, "validity": None},
        {"iteration": 1, "reward": 0.25, "updates": 4},
        {"iteration": 2, "reward": 0.5},
    ]


def test_a_line_is_on_the_disk_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    with Tracker(tmp_path, 3) as tracker:
        tracker.log(ROUND)
        assert len(strict_lines(tmp_path)) == 1


def fail_after_a_round(folder: Path) -> Never:
    with Tracker(folder, 3) as tracker:
        tracker.log(ROUND)
        raise RuntimeError("out of luck")


def test_a_run_that_fails_keeps_its_lines(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        fail_after_a_round(tmp_path)
    assert len(strict_lines(tmp_path)) == 1


@pytest.mark.parametrize("torn", ['{"iteration": 2, "rew', "{", "\0\0\0\0", '{"iteration": 2, "name": "\\u00'])
def test_a_torn_last_line_is_survived(tmp_path: Path, torn: str) -> None:
    log_rounds(tmp_path, [0.1, 0.2])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text("utf-8") + torn, "utf-8")
    assert [row["reward"] for row in read_metrics(path)] == [0.1, 0.2]
    log_rounds(tmp_path, [0.3], start=2)
    assert [row["reward"] for row in strict_lines(tmp_path)] == [0.1, 0.2, 0.3]


def test_a_broken_line_before_the_last_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 0}\n[1, 2]\n{"iteration": 1}\n', "utf-8")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: got '\[1, 2\]' as line 2, expected a JSON object"):
        read_metrics(path)


def test_resuming_drops_the_rounds_that_will_be_made_again(tmp_path: Path) -> None:
    log_rounds(tmp_path, [0.0, 0.1, 0.2, 0.3, 0.4])
    log_rounds(tmp_path, [0.7, 0.8], start=3)
    assert [(row["iteration"], row["reward"]) for row in strict_lines(tmp_path)] == [
        *[(0, 0.0), (1, 0.1), (2, 0.2)],
        *[(3, 0.7), (4, 0.8)],
    ]


def test_a_new_run_forgets_an_old_one_in_the_same_folder(tmp_path: Path) -> None:
    log_rounds(tmp_path, [0.1, 0.2])
    log_rounds(tmp_path, [0.9])
    assert [row["reward"] for row in strict_lines(tmp_path)] == [0.9]


def test_the_change_is_that_since_the_measurement_before_training_also_after_resuming(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_rounds(tmp_path, [0.25, 0.35], before=0.3)
    said = capsys.readouterr().err
    assert "1/10  reward 0.250 (-0.050)" in said
    assert "2/10  reward 0.350 (+0.050)" in said
    log_rounds(tmp_path, [0.2], start=2, before=0.3)
    assert "3/10  reward 0.200 (-0.100)" in capsys.readouterr().err


def test_without_a_terminal_a_round_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    log_rounds(None, [0.5, 0.5], total=2, before=0.5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0].startswith("1/2  reward 0.500 (+0.000)  valid 93%  unique 98%  KL 1.25  0:00 left")
    assert err.splitlines()[1].endswith("KL 1.25  done")
    assert err.isascii()
    assert "\x1b" not in err


def test_what_is_not_measured_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Tracker(None, 2, labels=LABELS) as tracker:
        tracker.log({"reward": 1.5})
        tracker.log({"reward": float("nan"), "kl": 2.0, "validity": None})
    first, second = capsys.readouterr().err.splitlines()
    assert first.split("  ") == ["1/2", "reward 1.500", "0:00 left"]
    assert second.split("  ") == ["2/2", "KL 2", "done"]


def test_the_first_three_labelled_metrics_of_a_row_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Tracker(None, 2, labels=LABELS) as tracker:
        tracker.log({"novelty": 0.5, "uniqueness": 1.0, "size": 17.25, "validity": 0.0, "kl": 2.0})
        tracker.log({"novelty": 0.5, "uniqueness": None, "size": -1.0, "validity": 0.934, "other": 0.5})
    first, second = capsys.readouterr().err.splitlines()
    assert first.split("  ")[1:-1] == ["valid 0%", "atoms 17.2", "unique 100%", "KL 2"]
    assert second.split("  ")[1:-1] == ["valid 93%", "atoms -1", "novel 50%"]


def test_without_labels_no_metric_of_a_domain_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Tracker(None, 1) as tracker:
        tracker.log(ROUND)
    assert capsys.readouterr().err.splitlines() == ["1/1  reward 0.500  KL 1.25  done"]


def test_on_a_terminal_the_progress_is_one_line_however_narrow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "40"}.items():
        monkeypatch.setenv(name, value)
    log_rounds(None, [0.5, 0.6], total=2)
    err = capsys.readouterr().err
    assert "reward" in err
    assert "\x1b[1A" not in err  # never moves up: the line that is redrawn is the only one


def test_quiet_shows_warnings_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Tracker(tmp_path, 2, quiet=True) as tracker:
        tracker.log(ROUND)
        assert capsys.readouterr().err == ""
        tracker.log({**ROUND, "reward_lost": 0.25})
    assert capsys.readouterr().err == (
        "warning: iteration 1: 25.0% of the samples could not be scored and are left out\n"
    )
    assert len(strict_lines(tmp_path)) == 2


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        ({"reward_std": 0.0}, "all rewards are 0.5: there is nothing to learn from"),
        ({"reward_std": 3e-9}, "all rewards are 0.5: there is nothing to learn from"),
        ({"clip_fraction": 0.95}, "95% of the likelihood ratios are clipped"),
        ({"reward_lost": 0.002}, "0.2% of the samples could not be scored"),
    ],
)
def test_a_run_that_cannot_learn_is_told_so_once(
    metrics: dict[str, float], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracker(None, 3) as tracker:
        for _ in range(3):
            tracker.log({**ROUND, **metrics})
    assert capsys.readouterr().err.count("warning: ") == 1
    with Tracker(None, 1) as tracker:
        tracker.log({**ROUND, **metrics})
    assert f"warning: iteration 0: {complaint}" in capsys.readouterr().err


def test_a_healthy_run_is_not_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    with Tracker(None, 1) as tracker:
        tracker.log({**ROUND, "reward_lost": 0.0, "clip_fraction": 0.9})
    assert "warning" not in capsys.readouterr().err


def test_tensorboard_shows_what_was_logged(tmp_path: Path) -> None:
    reader: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    log_rounds(tmp_path, [0.5, 0.25])
    with Tracker(tmp_path, 10, start=2, quiet=True) as tracker:
        tracker.log({"reward": float("nan"), "kl": 3.0})
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward")] == [(0, 0.5), (1, 0.25)]
    assert [(event.step, event.value) for event in events.Scalars("kl")] == [(0, 1.25), (1, 1.25), (2, 3.0)]


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log_rounds(None, [0.5])
    assert not list(tmp_path.iterdir())


def test_a_start_beyond_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match="start: got 11, expected 0 to 10"):
        Tracker(None, 10, start=11)
