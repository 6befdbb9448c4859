"""The public functions do what the commands do, and `dir(molrl)` shows them."""

import inspect
import math
import pkgutil
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from command import QUICK_PRETRAINING
from command import molrl as command

import molrl
from molrl.config import ConfigError
from molrl.data.molecules.files import read
from molrl.machine.threads import torch_threads

QUICK = {"iterations": 1, "rollouts": 8, "minibatch": 16, "evaluate": 8, "threads": 1}


def test_dir_shows_the_public_names_and_each_has_a_docstring() -> None:
    assert set(dir(molrl)) == {
        "RunResult",
        "__version__",
        "choices",
        "evaluate",
        "load_policy",
        "load_run",
        "pretrain",
        "report",
        "sample",
        "score",
        "train",
    }
    assert all(getattr(molrl, name).__doc__ for name in dir(molrl) if name != "__version__")
    with pytest.raises(AttributeError, match="it has RunResult"):
        molrl.samples  # noqa: B018


def test_samples_are_those_of_the_command(tmp_path: Path) -> None:
    policy = molrl.load_policy("qm9_heavy", num_steps=8)
    drawn = molrl.sample(policy, 6, seed=3)
    done = command("sample", "n=6", "seed=3", "policy.num_steps=8", f"out={tmp_path / 'x.sdf'}", "threads=1")
    assert done.code == 0
    written = read(tmp_path / "x.sdf")[0]
    assert [list(one.numbers) for one in drawn] == [list(one.numbers) for one in written]


def test_scores_come_by_name_by_code_and_by_function(tmp_path: Path) -> None:
    molecules = molrl.sample("qm9_heavy", 4)
    by_name = molrl.score(molecules, "qed", workers=0)
    assert by_name.shape == (4,)
    assert ((by_name >= 0) & (by_name <= 1)).all()
    (tmp_path / "mine.py").write_text("def size(samples):\n    return [len(sample.numbers) for sample in samples]\n")
    sizes = torch.tensor([float(len(one.numbers)) for one in molecules])
    assert torch.equal(molrl.score(molecules, f"{tmp_path / 'mine.py'}:size"), sizes)
    assert math.isnan(molrl.score(molecules, lambda samples: torch.full((len(samples),), torch.nan))[0])
    nested = molrl.score(molecules, "strain", workers=0, scorer={"scorer": {"steps": 1}})
    assert nested.shape == (4,)


def test_shapes_and_conditions(tmp_path: Path) -> None:
    chairs = molrl.sample(molrl.load_policy("shapes", num_steps=5), 2, condition={"class": "chair"})
    assert [chair.label for chair in chairs] == ["chair", "chair"]
    assert {"validity", "one_nna"} <= set(molrl.evaluate(chairs, "shapes"))


def test_a_run_comes_back_with_its_summary_and_its_metrics(tmp_path: Path) -> None:
    threads = set[int]()

    def rings(molecules: Sequence[Any]) -> torch.Tensor:
        threads.add(torch.get_num_threads())
        return torch.tensor([float(len(one.numbers)) for one in molecules])

    with torch_threads(2):
        run = molrl.train(policy={"num_steps": 5}, algo="ddpo", reward=rings, run=tmp_path / "it's mine", **QUICK)
        assert (threads, torch.get_num_threads()) == ({QUICK["threads"]}, 2)
    assert run.summary["reward"] == "rings"
    assert [row["iteration"] for row in run.rows] == [0]
    assert run.metrics["reward"].tolist() == [run.rows[0]["reward"]]
    assert run.metrics.shape == (1, len(run.rows[0]))
    assert "report.html" in run.report.read_text()
    shown = run._repr_html_() or ""
    assert "it&#39;s mine" in shown
    assert f"{run.summary['after']['reward_mean']:.3f}" in shown
    assert len(molrl.sample(molrl.load_policy(run.policy, num_steps=5), 2)) == 2
    assert molrl.load_run(run.folder) == run
    first, state, last = repr(run).splitlines()
    assert str(run.folder) in first
    assert "all 1 iterations are done" in state
    assert "1 rows of metrics, the last one: iteration 0, reward" in last
    assert molrl.report(run) == run.report
    assert molrl.report(run, out=tmp_path / "page.html").read_text() != ""
    (run.folder / "summary.json").write_text("[]")
    with pytest.raises(ConfigError, match="damaged"):
        molrl.load_run(run.folder)


def test_a_run_that_has_not_ended_is_shown_as_far_as_it_came(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run is there"):
        molrl.load_run(tmp_path)
    (tmp_path / "config.yaml").write_text("{}")
    assert repr(molrl.load_run(tmp_path)).endswith("0 rows of metrics")
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 0, "reward": 0.5}\n{"iteration": 1, "rew')
    run = molrl.load_run(str(tmp_path))
    assert run.metrics.to_dict("records") == [{"iteration": 0, "reward": 0.5}]
    assert run.summary == {}
    assert run._repr_html_() is None  # a notebook then shows the text
    assert repr(run).endswith("no summary\n  1 rows of metrics, the last one: iteration 0, reward 0.5 ...")


def test_pretraining_comes_back_with_its_reports_and_its_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that was begun when the trainer had another name goes on all the same."""
    run = molrl.pretrain(*QUICK_PRETRAINING, run=tmp_path / "run")
    assert run.summary == {}
    assert run.metrics["step"].tolist() == [row["step"] for row in run.rows]
    assert len(molrl.sample(molrl.load_policy(run.policy, num_steps=2), 2)) == 2
    path = run.folder / "config.yaml"
    path.write_text(path.read_text().replace("molrl.pretraining.Pretraining", "molrl.pretrain.Pretraining"))
    capsys.readouterr()
    assert molrl.pretrain(*QUICK_PRETRAINING, run=run.folder) == run
    assert command("pretrain", f"resume={run.folder}").code == 0


def test_the_api_page_names_what_there_is_and_all_that_is_public() -> None:
    """It names each member: without names the page would list the helpers of a module too."""
    page = (Path(__file__).parents[1] / "docs/reference/api.md").read_text("utf-8")
    shown = set[str]()
    for block in page.split("::: ")[1:]:
        place, _, options = block.partition("\n")
        named = re.search(r"members: \[(.+)\]", options.partition("\n\n")[0])
        shown |= set(named[1].split(", ")) if named else {place.rpartition(".")[2]}
        found = pkgutil.resolve_name(place)
        assert inspect.isclass(found) or named, place
        assert not named or all(vars(found)[name].__doc__ for name in named[1].split(", "))
    assert {name for name in dir(molrl) if name != "__version__"} <= shown


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: molrl.load_policy("nope"), "policy=nope"),
        (lambda: molrl.load_policy("qm9_heavy", steps=3), "no setting 'policy.steps'; did you mean policy.num_steps"),
        (lambda: molrl.sample("qm9_heavy", 0), "n: got 0"),
        (lambda: molrl.score([], "qedd"), "did you mean qed"),
        (lambda: molrl.train(algo="rgmd"), "did you mean rgdm"),
    ],
)
def test_wrong_arguments_are_one_clear_error(call: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains on fewer samples here; its reward returns a list."""
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    example = readme.partition("```python\n")[2].partition("```")[0]
    small = example.replace("iterations=20", ", ".join(f"{name}={value}" for name, value in QUICK.items()))
    assert small != example
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(small, "README.md", "exec"), names)
    assert names["run"].summary["reward"] == "rings"
    assert names["run"].summary["before"]["reward_mean"] > 0


def test_a_function_may_return_a_list() -> None:
    drawn = molrl.sample(molrl.load_policy("qm9_heavy", num_steps=2), 3)
    assert molrl.score(drawn, lambda _: [1, 2, 3]).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="shape"):
        molrl.score(drawn, lambda _: [1, 2])
