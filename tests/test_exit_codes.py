"""One exit code for each kind of error, the same for all commands."""

import errno
import shutil
from pathlib import Path

import pytest
from command import QUICK_RUN, molrl

from molrl import cli
from molrl.cli import HELP
from molrl.config import ConfigError
from molrl.exit_codes import ExitCode, exit_code_of
from molrl.models.shipped import SHIPPED
from molrl.runs.errors import CheckpointError, SaveError
from molrl.training_state import TrainingError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("{}")
    (tmp_path / "empty.sdf").touch()
    (tmp_path / "bad.smi").write_text("C1CC\nnothing\n")
    (tmp_path / "mixed.smi").write_text("CCO\nC1CC\n")
    (tmp_path / "good.smi").write_text("CCO\n")
    (tmp_path / "bad.obj").write_text("v 0 0\nf 1 2 3\n")
    shutil.copytree(SHIPPED / "molecules" / "qm9_heavy", tmp_path / "model")
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"cut off")
    (tmp_path / "hopeless.py").write_text("def hopeless(samples):\n    return [float('nan')] * len(samples)\n")


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (ExitCode.DONE, "--help"),
        (ExitCode.DONE, "train --help"),
        (ExitCode.DONE, "train --cfg"),
        (ExitCode.DONE, "score good.smi reward=logp reward.workers=0"),
        (ExitCode.DONE, "evaluate mixed.smi"),
        (ExitCode.USAGE, ""),
        (ExitCode.USAGE, "trainn"),
        (ExitCode.USAGE, "completion tcsh"),
        (ExitCode.USAGE, "train algo=nothing"),
        (ExitCode.USAGE, "train rollouts=0"),
        (ExitCode.USAGE, "train resume=nowhere"),
        (ExitCode.USAGE, "train run=there.json"),
        (ExitCode.USAGE, "pretrain model=nothing"),
        (ExitCode.USAGE, "pretrain run=there.json"),
        (ExitCode.USAGE, "pretrain data=enumerated data.n=0 run=new"),
        (ExitCode.USAGE, "pretrain model=shapes data.n=0 run=new"),
        (ExitCode.USAGE, "pretrain model=images data.n=0 run=new"),
        (ExitCode.USAGE, "sample n=0"),
        (ExitCode.USAGE, "sample policy=nowhere"),
        (ExitCode.USAGE, "score"),
        (ExitCode.USAGE, "score good.smi reward=nothing"),
        (ExitCode.USAGE, "score good.smi reward.workers=0 out=there.json"),
        (ExitCode.USAGE, "evaluate good.smi out=there.json"),
        (ExitCode.USAGE, "evaluate good.smi hydrogens=some"),
        (ExitCode.USAGE, "oracle algo=nothing"),
        (ExitCode.USAGE, "oracle out=there.json"),
        (ExitCode.USAGE, "migrate"),
        (ExitCode.BAD_INPUT, "train policy=model"),
        (ExitCode.BAD_INPUT, "sample policy=model"),
        (ExitCode.BAD_INPUT, "pretrain data=file data.path=absent.sdf run=new"),
        (ExitCode.BAD_INPUT, "pretrain data=file data.path=empty.sdf run=new"),
        (ExitCode.BAD_INPUT, "pretrain model=shapes data=shape_files data.path=absent run=new"),
        (ExitCode.BAD_INPUT, "score absent.sdf"),
        (ExitCode.BAD_INPUT, "score empty.sdf reward.workers=0"),
        (ExitCode.BAD_INPUT, "score absent.obj reward=shape_stability"),
        (ExitCode.BAD_INPUT, "evaluate absent.sdf"),
        (ExitCode.BAD_INPUT, "evaluate empty.sdf"),
        (ExitCode.BAD_INPUT, "evaluate good.smi reference=absent.sdf"),
        (ExitCode.BAD_INPUT, "evaluate absent.obj"),
        (ExitCode.USAGE, "export"),
        (ExitCode.USAGE, "export nowhere out=new"),
        (ExitCode.BAD_INPUT, "migrate nowhere"),
        (ExitCode.BAD_INPUT, "migrate model"),
        (ExitCode.NOTHING_SCORED, "score bad.smi reward.workers=0"),
        (ExitCode.NOTHING_SCORED, "score bad.obj reward=shape_stability reward.workers=0"),
        (ExitCode.NOTHING_SCORED, "evaluate bad.smi"),
        (ExitCode.NOTHING_SCORED, "evaluate bad.obj"),
        (ExitCode.SOME_FAILED, "score mixed.smi reward.workers=0"),
    ],
)
def test_the_code_tells_the_kind_of_the_error(code: ExitCode, command: str) -> None:
    done = molrl(*command.split())
    assert done.code == code, done
    assert done.err.count("\n") == (1 if code in (ExitCode.USAGE, ExitCode.BAD_INPUT) and command else 0), done


def test_training_on_what_cannot_be_scored_is_nothing_scored() -> None:
    settings = [item for item in QUICK_RUN if not item.startswith("reward.")]
    done = molrl("train", "algo=ddpo", "reward=hopeless.py:hopeless", "run=new", *settings)
    assert done.code == ExitCode.NOTHING_SCORED, done


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), ExitCode.USAGE),
        (ModuleNotFoundError("x"), ExitCode.USAGE),
        (ValueError("x"), ExitCode.BAD_INPUT),
        (CheckpointError("x"), ExitCode.BAD_INPUT),
        (FileNotFoundError(errno.ENOENT, "x"), ExitCode.BAD_INPUT),
        (PermissionError(errno.EACCES, "x"), ExitCode.BAD_INPUT),
        (SaveError("x"), ExitCode.FAILED),
        (TrainingError("x"), ExitCode.FAILED),
        (MemoryError("x"), ExitCode.FAILED),
        (OSError(errno.ENOSPC, "x"), ExitCode.FAILED),
        (KeyError("x"), ExitCode.INTERNAL),
        (AssertionError("x"), ExitCode.INTERNAL),
        (NotImplementedError("x"), ExitCode.INTERNAL),
        (RecursionError("x"), ExitCode.INTERNAL),
        (TypeError("x"), ExitCode.INTERNAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_every_kind_of_error_ends_any_command_with_its_code(
    error: Exception, code: ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "start", fail)
    monkeypatch.delenv("MOLRL_TRACEBACK", raising=False)
    assert exit_code_of(error) == code
    for command in (["train"], ["sample"], ["score", "a.sdf"], ["evaluate", "a.sdf"], ["pretrain"], ["oracle"]):
        done = molrl(*command)
        assert done.code == code, done
        assert done.err.splitlines()[-1].startswith("molrl: ")
        assert ("Traceback" in done.err) == (code is ExitCode.INTERNAL)


def test_an_interruption_has_the_code_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "start", stop)
    assert molrl("sample").code == ExitCode.INTERRUPTED


def test_every_code_is_documented() -> None:
    shown, table = " ".join(HELP.split()), (ROOT / "docs/reference/reliability.md").read_text("utf-8")
    assert not [code for code in ExitCode if f" {code:d} " not in shown or f"| {code:d} |" not in table]
