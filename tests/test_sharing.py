"""A model is pushed to the Hub, fetched by its name, and has a card; the client is the real one, the Hub is here."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import QUICK_RUN, complaint, molrl
from hub_server import Hub, served

from molrl import composition
from molrl.api import load_policy, sample
from molrl.catalogue import catalogue
from molrl.composition import Composition
from molrl.config import ConfigError
from molrl.domains import domain_of_model, is_shipped
from molrl.models import hub as fetching
from molrl.models.shipped import SHIPPED, find_model
from molrl.runs import checkpoint
from molrl.runs.card import training_data, write_cards
from molrl.runs.errors import CheckpointError
from molrl.runs.folder import CARD

SHAPES, MOLECULES = SHIPPED / "shapes/shapes", SHIPPED / "molecules/qm9_heavy"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(fetching, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    with served() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        forget()
        yield server
    forget()


def forget() -> None:
    """Forget what this process has looked up."""
    fetching.fetch.cache_clear()
    composition.pinned.cache_clear()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run with its card."""
    folder = tmp_path_factory.mktemp("shared") / "run"
    done = molrl("train", "task=qed", "algo=ddpo", "reward=logp", "seed=3", f"run={folder}", *QUICK_RUN)
    assert done.code == 0, done
    return folder


def head(card: Path) -> dict[str, Any]:
    _, text, body = card.read_text("utf-8").split("---\n", 2)
    assert body.startswith("\n# ")
    return dict(yaml.safe_load(text))


@pytest.mark.parametrize(("folder", "domain"), [(SHAPES, "shapes"), (MOLECULES, "molecules")])
def test_a_model_comes_back_as_it_was_pushed(folder: Path, domain: str, hub: Hub) -> None:
    done = molrl("push", str(folder), "hub:me/model")
    assert done.code == 0, done
    pinned = f"hub:me/model@{hub.commit('me/model')}"
    assert done.out.splitlines()[-1].endswith(f"policy={pinned}")
    policy = load_policy("hub:me/model", num_steps=3)
    assert (policy.domain, policy.weights) == (domain, pinned)
    fetched = find_model(pinned)
    assert fetched is not None
    allowed = {name: data for name, data in contents(folder).items() if not name.endswith(".gz")}
    assert contents(fetched) == allowed == hub.repositories["me/model"]
    tensors, original = checkpoint.load(fetched)[0]["weights"], checkpoint.load(folder)[0]["weights"]
    assert all(torch.equal(tensors[name], value) for name, value in original.items())


def test_samples_are_those_of_the_model_that_was_pushed(hub: Hub) -> None:
    assert molrl("push", str(SHAPES), "hub:me/model").code == 0
    here, there = (sample(load_policy(name, num_steps=3), 2) for name in (str(SHAPES), "hub:me/model"))
    assert all((one.points == other.points).all() for one, other in zip(here, there, strict=True))


def test_a_repository_is_private_unless_it_is_to_be_public(hub: Hub) -> None:
    assert "private" in molrl("push", str(SHAPES), "hub:me/one").out
    assert "public" in molrl("push", str(SHAPES), "hub:me/two", "private=false").out
    assert hub.private == {"me/one": True, "me/two": False}


def test_nothing_but_tensors_json_and_the_card_is_fetched(hub: Hub) -> None:
    more = {
        "setup.py": b"!",
        "weights.bin": b"!",
        "sub/model.json": b"{}",
        ".hidden.json": b"{}",
        "reference.smi.gz": b"!",
    }
    hub.repositories["me/model"] = contents(SHAPES) | more
    pinned = Composition("sample", ["policy=hub:me/model"]).chosen["policy"]
    assert set(hub.downloads()) == set(contents(SHAPES))
    folder = find_model(pinned)
    assert folder is not None
    assert set(contents(folder)) == set(contents(SHAPES))


def test_the_commit_is_in_the_settings_and_a_later_one_is_not_taken_for_it(hub: Hub) -> None:
    hub.repositories["me/model"] = contents(SHAPES)
    first = Composition("sample", ["policy=hub:me/model"]).config
    pinned = f"hub:me/model@{hub.commit('me/model')}"
    assert first["policy"]["weights"] == first["chosen"]["policy"] == pinned
    hub.repositories["me/model"][CARD] = b"# Another\n"
    forget()
    later = Composition("sample", ["policy=hub:me/model"]).config["policy"]["weights"]
    assert later == f"hub:me/model@{hub.commit('me/model')}" != pinned
    before = len(hub.requests)
    again = Composition("sample", [f"policy={pinned}"]).config
    assert again == first
    assert len(hub.requests) == before  # what was fetched needs no network


def test_a_name_in_a_file_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    """An adapter of images may name any base; only policy= on the command line fetches."""
    hub.repositories["me/model"] = contents(SHAPES)
    assert find_model("hub:me/model") is None
    assert find_model(f"hub:me/model@{hub.commit('me/model')}") is None
    assert domain_of_model("hub:me/model") == "images"  # a pipeline of others, for all that is known
    assert hub.requests == []


@pytest.mark.parametrize(
    ("files", "announced", "problem"),
    [
        ({f"{number}.json": b"{}" for number in range(65)}, {}, "66 files, more than the 64 allowed"),
        ({"weights.safetensors": b"1"}, {"weights.safetensors": 2**34 + 1}, "more than the 17179869184 allowed"),
        ({"model.json": b"1"}, {"model.json": 2**22 + 1}, "model.json has 4194305 bytes"),
        ({f"{n}.safetensors": b"1" for n in "abc"}, {f"{n}.safetensors": 2**34 for n in "abc"}, "bytes in all"),
        ({"model.json": b"12"}, {"model.json": 1}, "model.json"),
    ],
)
def test_too_many_too_large_or_other_files_are_refused(
    files: dict[str, bytes], announced: dict[str, int], problem: str, hub: Hub, tmp_path: Path
) -> None:
    hub.repositories["me/model"] = {"manifest.json": b"{}", **files}
    hub.announced = announced
    with pytest.raises(CheckpointError, match=problem):
        fetching.fetch("hub:me/model")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_an_altered_model_is_refused_when_it_is_loaded(hub: Hub) -> None:
    files = contents(SHAPES)
    hub.repositories["me/model"] = files | {"model.json": files["model.json"].replace(b"0.0", b"0.1", 1)}
    said = complaint(["sample", "policy=hub:me/model", "n=1"], 5)
    assert "model.json: SHA-256 differs" in said


@pytest.mark.parametrize("name", ["hub:me", "hub:me/..", "hub:/etc/passwd", "hub:me/model@a b", "hub:me/a/b"])
def test_what_is_no_name_of_a_repository_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected hub:OWNER/NAME"):
        fetching.parse(name)


def test_a_repository_that_is_not_there_is_one_line(hub: Hub) -> None:
    assert "no such repository or revision" in complaint(["sample", "policy=hub:me/gone", "n=1"], 5)


def test_without_the_library_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'molrl[hub]'" in complaint(["push", str(SHAPES), "hub:me/model"], 2)


def test_a_run_has_a_card_with_its_figures_and_its_command(run: Path) -> None:
    card, summary = run / "model" / CARD, json.loads((run / "summary.json").read_text())
    facts = head(card)
    assert facts["license"] == "apache-2.0"
    assert facts["library_name"] == "molrl"
    assert "molecules" in facts["tags"]
    own = facts["molrl"]
    assert (own["task"], own["reward"], own["algo"], own["seed"]) == ("qed", "logp", "ddpo", 3)
    assert own["before"] == summary["before"]
    assert own["after"] == summary["after"]
    assert f"torch {torch.__version__}" in own["versions"]
    text = card.read_text("utf-8")
    assert f"| valid | {summary['before']['validity']:.4g} | {summary['after']['validity']:.4g} |" in text
    assert f"| reward | {summary['before']['reward_mean']:.4g} ± " in text
    assert "_" not in text.partition("## What it does")[2].partition("## How it was made")[0]
    assert f"Seed 3, 2 rounds, {summary['reward_queries']} reward queries. Versions" in text


def test_a_card_says_what_the_base_was_trained_on(run: Path, tmp_path: Path) -> None:
    """It is so of every base that ships, and of the model of a run, whose own base said it."""
    shipped = [entry.name for entry in catalogue("policies") if is_shipped(entry.name)]
    assert len(shipped) > 5
    assert not [name for name in shipped if "see the card" in training_data(name)]
    text = (run / "model" / CARD).read_text("utf-8")
    assert head(run / "model" / CARD)["molrl"]["base_model"] == "qm9_heavy"
    assert "`qm9_heavy`, which ships with molrl" in text
    assert "- **Data**: 128,736 QM9 geometries (Ramakrishnan" in text
    assert "without fluorine; hydrogens counted on their nearest heavy atom. The full set was used" in text
    assert training_data(str(run)) == training_data("qm9_heavy")
    (tmp_path / "manifest.json").touch()
    (tmp_path / CARD).symlink_to(run / "model" / CARD)  # nothing is read through a link
    assert training_data(str(tmp_path)) == f"see the card of `{tmp_path}`."


def test_the_card_of_the_best_model_has_its_own_figure(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.copytree(copy / "model", copy / "best", dirs_exist_ok=True)
    summary = json.loads((copy / "summary.json").read_text())
    summary["best"] = {"iteration": 7, "metric": "validity", "value": 0.625}
    (copy / "summary.json").write_text(json.dumps({**summary, "iterations": 1, "ended": "minutes=1 passed"}))
    write_cards(copy)
    text = (copy / "best" / CARD).read_text("utf-8")
    assert "This one is the best by valid (0.625), after 7 rounds." in text
    assert "Seed 3, 1 round, " in text
    assert "reward queries; minutes=1 passed. Versions" in text


def test_the_command_of_a_card_composes_to_the_settings_of_the_run(run: Path) -> None:
    words = head(run / "model" / CARD)["molrl"]["command"].split()
    assert words[:2] == ["molrl", "train"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    free = ("run", "device", "threads", "wait", "minutes")
    again = Composition("train", words[2:]).config
    assert {name: value for name, value in again.items() if name not in free} == {
        name: value for name, value in config.items() if name not in free
    }


def test_a_card_is_written_once_more_with_another_licence(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    first = (copy / "model" / CARD).read_bytes()
    done = molrl("card", str(copy), "license=cc-by-4.0")
    assert done.out.split()[0] == str(copy / "model" / CARD)
    assert head(copy / "model" / CARD)["license"] == "cc-by-4.0"
    write_cards(copy)
    assert (copy / "model" / CARD).read_bytes() == first


def test_a_base_of_somebody_else_leaves_the_licence_to_them(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["policy"]["weights"] = "hub:them/base@main"
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    write_cards(copy)
    facts = head(copy / "model" / CARD)
    assert (facts["license"], facts["base_model"]) == ("other", "them/base")


def test_a_run_is_pushed_with_its_card(run: Path, hub: Hub) -> None:
    done = molrl("push", str(run), "hub:me/run")
    assert done.code == 0, done
    assert "left out: reference.smi.gz" in done.out
    assert hub.repositories["me/run"][CARD] == (run / "model" / CARD).read_bytes()
    assert load_policy("hub:me/run").domain == "molecules"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["push"], 2, "got nothing; usage: molrl push"),
        (["push", "shapes", "me/model"], 2, "usage: molrl push"),
        (["push", "shapes", "hub:me/model", "private=maybe"], 2, "allowed are true, false"),
        (["push", "shapes", "hub:me/model", "licence=mit"], 2, "did you mean license?"),
        (["push", "shapes", "hub:me/model@main"], 2, "a push makes the next revision"),
        (["push", "no_such_model", "hub:me/model"], 5, "no such model"),
        (["card", "no_such_run"], 2, "not a finished run"),
        (["card"], 2, "expected one run"),
    ],
)
def test_wrong_words_are_one_line(arguments: list[str], code: int, words: str) -> None:
    assert words in complaint(arguments, code)


def test_a_model_without_a_card_or_with_damage_or_a_link_is_not_sent(hub: Hub, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(SHAPES, copy)
    (copy / CARD).unlink()
    assert f"has no {CARD}" in complaint(["push", str(copy), "hub:me/model"], 2)
    (copy / CARD).write_text("# Mine\n")
    (copy / "notes.json").symlink_to(tmp_path / "secret.json")
    assert "notes.json" in complaint(["push", str(copy), "hub:me/model"], 2)
    (copy / "notes.json").unlink()
    (copy / "weights.safetensors").write_bytes((copy / "weights.safetensors").read_bytes()[:-1])
    assert "weights.safetensors" in complaint(["push", str(copy), "hub:me/model"], 5)
    assert hub.requests == []


def test_a_hub_that_refuses_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint + "/nothing")
    assert "hub:me/model: not sent" in complaint(["push", str(SHAPES), "hub:me/model"], 6)
