"""A run goes on only with the inputs that it began with, whatever the domain."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import QUICK_PRETRAINING, complaint, molrl
from hypothesis import given
from hypothesis import strategies as st

from molrl.config import ConfigError
from molrl.runs.folder import claim
from molrl.runs.inputs import INPUTS, fingerprints


def config_of(folder: Path, **inputs: Any) -> dict[str, Any]:
    return {"run": str(folder / "run"), "threads": 1, "task": inputs, "reward": {"name": "qed"}}


def test_the_fingerprint_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc")
    config = config_of(tmp_path, prompts=str(tmp_path / "a.txt"), number=3, text="no file", question="x" * 9999)
    assert fingerprints(config) == {"task.prompts": hashlib.sha256(b"abc").hexdigest()}


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4), st.data())
def test_any_change_of_an_input_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], data: st.DataObject
) -> None:
    """The bytes or the name of a file in a list or in a folder change, or there is one file more or less."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "data").mkdir()
    for number, content in enumerate(contents):
        (folder / "data" / str(number)).write_bytes(content)
    listed = [str(folder / "data" / str(number)) for number in range(len(contents))]
    config = config_of(folder, data=data.draw(st.sampled_from([f"{folder}/data", listed])))
    with claim(config):
        pass
    with claim({**config, "threads": 2}):  # nothing has changed
        pass
    victim = folder / "data" / str(data.draw(st.integers(0, len(contents) - 1)))
    changes: dict[str, Callable[[], object]] = {
        "bytes": lambda: victim.write_bytes(victim.read_bytes() + b"!"),
        "name": lambda: victim.rename(victim.with_name("other")),
        "less": victim.unlink,
    }
    changes[data.draw(st.sampled_from(sorted(changes)))]()
    with pytest.raises(ConfigError, match=r"what task\.data\S* names is not what the run began with"), claim(config):
        pass


def test_what_grows_with_a_run_is_no_input(tmp_path: Path) -> None:
    """Its own folder, also inside of an input, and caches."""
    (tmp_path / "data" / "cache").mkdir(parents=True)
    config = {**config_of(tmp_path, data=str(tmp_path / "data")), "run": str(tmp_path / "data" / "run")}
    config["task"]["cache"] = str(tmp_path / "data" / "cache")
    with claim(config) as folder:
        (folder / "metrics.jsonl").write_text("{}")
    with claim(config):
        pass
    assert list(fingerprints(config)) == ["task.data"]


def test_an_older_run_without_fingerprints_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    config = config_of(tmp_path, prompts=str(tmp_path / "a.txt"))
    with claim(config) as folder:
        (folder / INPUTS).unlink()
    with claim(config) as folder:
        assert (folder / INPUTS).is_file()
        (folder / INPUTS).write_text("[" * 10**5)
    with pytest.raises(ConfigError, match=r"its inputs\.json cannot be read"), claim(config):
        pass


def test_free_settings_may_name_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    config = config_of(tmp_path, prompts=str(tmp_path / "a.txt"))
    with claim(config, free=("task.prompts",)):
        (tmp_path / "a.txt").write_text("b")
    with claim(config, free=("task.prompts",)):
        pass


def test_pretraining_goes_on_with_its_data_alone(tmp_path: Path) -> None:
    from rdkit import Chem
    from rdkit.Chem.rdDistGeom import EmbedMolecule

    def write(smiles: list[str]) -> None:
        with Chem.SDWriter(str(tmp_path / "mine.sdf")) as writer:
            for text in smiles:
                molecule = Chem.AddHs(Chem.MolFromSmiles(text))
                EmbedMolecule(molecule, randomSeed=1)
                writer.write(molecule)

    quick = [item for item in QUICK_PRETRAINING if not item.startswith("data")]
    arguments = ["pretrain", *quick, "data=file", f"data.path={tmp_path / 'mine.sdf'}", f"run={tmp_path / 'run'}"]
    write(["CCO", "CCN", "CCC"])
    assert molrl(*arguments).code == 0
    write(["CCO", "CCN", "CCF"])
    assert "data.path names is not what the run began with" in complaint(arguments, 2)
