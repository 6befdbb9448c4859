"""A model in another interpreter: its values, and all that can go wrong there."""

import json
import math
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import complaint
from test_molecule_rewards import from_smiles

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.rewards.combine import Term, WeightedSum
from molrl.rewards.molecules.qed import QED
from molrl.rewards.molecules.request import MoleculeRequest
from molrl.rewards.workers.isolated import MAX_LOSSES, Isolated, IsolatedScorer, value_of
from molrl.rewards.workers.pooled import Pooled

MODEL = """
import os, sys, time
def load(**arguments):
    print("noise on stdout")
    if arguments.get("fail"):
        raise ValueError("it has no such property")
    def predict(requests):
        print("more noise")
        values = []
        for request in requests:
            smiles = request["smiles"]
            if "Cl" in smiles:
                sys.stderr.write("out of memory\\n"); os._exit(3)
            if "Br" in smiles:
                time.sleep(60)
            if "I" in smiles:
                raise KeyError(smiles)
            number = float("nan") if "P" in smiles else len(smiles) * arguments["scale"]
            values.append(None if "S" in smiles else number)
        return values[1:] if "F" in "".join(r["smiles"] for r in requests) else values
    return predict
"""


def isolated(folder: Path, *, batch: int = 8, timeout: float = 20.0, text: str = MODEL, **arguments: Any) -> Isolated:
    path = folder / "model.py"
    path.write_text(text)
    return Isolated(
        python=sys.executable,
        model=str(path),
        arguments={"scale": 0.5, **arguments},
        describe=MoleculeRequest(geometry=False, floor=-1.0, reader=rdkit_bonds),
        start_timeout=30.0,
        timeout=timeout,
        batch=batch,
    )


@pytest.fixture
def reward(tmp_path: Path) -> Iterator[Isolated]:
    one = isolated(tmp_path, timeout=1.0)
    yield one
    one.close()


def test_values_come_in_the_order_of_the_samples_and_bad_ones_have_the_floor(reward: Isolated) -> None:
    """Half the letters of each canonical SMILES, whatever the model prints; no interpreter is started twice."""
    samples = [from_smiles("CCO"), from_smiles("*"), from_smiles("c1ccccc1"), from_smiles("OCC"), from_smiles("C")]
    assert reward.score(samples).values == [1.5, -1.0, 4.0, 1.5, 0.5]
    first = reward.running
    assert reward(samples[::-1]).tolist() == [0.5, 1.5, 4.0, -1.0, 1.5]
    assert reward.running is first
    assert reward.kind == "molecules"


def test_batches_of_any_size_give_the_same_values(tmp_path: Path) -> None:
    samples = [from_smiles("C" * length) for length in range(1, 8)]
    for batch in (1, 3, 7):
        one = isolated(tmp_path, batch=batch)
        assert one.score(samples).values == [length / 2 for length in range(1, 8)]
        one.close()


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("CCl", "crash: exit code 3, out of memory"),
        ("CBr", "timeout: no answer within 1 s"),
        ("CI", "error: KeyError: 'CI'"),
        ("CF", "nonsense: got 0 values, need 1 values"),
        ("CS", "no value"),
        ("CP", "non-finite: nan"),
    ],
)
def test_a_failure_costs_its_own_sample(reward: Isolated, smiles: str, reason: str) -> None:
    found = reward.score([from_smiles("CC"), from_smiles(smiles), from_smiles("CCC")])
    assert found.reasons == ["", reason, ""]
    assert [found.values[0], found.values[2]] == [1.0, 1.5]
    assert math.isnan(found.values[1])
    assert reward.score([from_smiles("CCCC")]).values == [2.0]


def test_a_model_that_never_answers_ends_the_run(reward: Isolated) -> None:
    samples = [from_smiles("I" + "C" * length) for length in range(MAX_LOSSES)]
    with pytest.raises(RuntimeError, match=r"none of 8 samples had an answer; error: KeyError"):
        reward.score(samples)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("x = 1", "KeyError: 'load'"),
        ("def load(scale): raise SystemExit('install it')", "install it"),
        ("import os; os._exit(4)", "exit code 4, it wrote no error"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=r"model.py could not be loaded by .*: crash: ") as error:
        isolated(tmp_path, text=text).start()
    assert message in str(error.value)


def test_a_model_that_takes_too_long_to_load_is_given_up(tmp_path: Path) -> None:
    one = isolated(tmp_path, text="import time; time.sleep(60)")
    one.start_timeout = 0.5
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"timeout: no answer within 0.5 s"):
        one.start()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("line", ["{", "[1, 2]", '{"values": 3}', '{"values": [1, 2, 3]}', "x" * 300, "null"])
def test_what_is_no_answer_is_nonsense(tmp_path: Path, line: str) -> None:
    """A model that writes to the stream of the answers by itself."""
    text = f"import os\ndef load(**_):\n    def predict(_):\n        os.write(answers, {line!r}.encode() + b'\\n')\n"
    text = text.replace(
        "def load(**_):", "def load(**_):\n    answers = max(map(int, os.listdir('/proc/self/fd')[:-1]))"
    )
    one = isolated(tmp_path, text=text + "        return [1.0]\n    return predict\n")
    assert one.score([from_smiles("C")]).reasons[0].startswith("nonsense: got ")
    one.close()


def test_the_interpreter_sees_no_packages_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hidden.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="No module named 'hidden'"):
        isolated(tmp_path, text="import hidden").start()


def test_a_copy_in_another_process_starts_its_own_interpreter(reward: Isolated) -> None:
    reward.start()
    copied = pickle.loads(pickle.dumps(reward))
    assert copied.running is None
    assert copied.score([from_smiles("CC")]).scored == ((1.0, ""),)
    copied.close()


def test_a_scorer_of_single_samples_has_the_values_of_the_reward_and_its_floor(tmp_path: Path) -> None:
    """In two worker processes, and as a term of a combination whose other term is the weight."""
    samples = [from_smiles("CCO"), from_smiles("*"), from_smiles("C")]
    scorer = IsolatedScorer(reward=isolated(tmp_path))
    with Pooled(scorer, workers=2, timeout=60.0, chunk=1) as pool:
        assert pool.score(samples).values == [1.5, -1.0, 0.5]
    terms = {
        "model": Term(weight=2.0, scorer=scorer, threshold=None),
        "rings": Term(weight=1.0, scorer=QED(reader=rdkit_bonds), threshold=None),
    }
    both = WeightedSum(floor=-9.0, terms=terms).score(samples)
    assert both.values == pytest.approx([3.0 + 0.4068, -9.0, 1.0 + 0.3598], abs=1e-3)
    scorer.reward.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"python": "no/such/python"}, "python: got 'no/such/python', need the path of a Python interpreter"),
        ({"model": "no/such/model.py"}, "model: there is no file no/such/model.py"),
        ({"model": "no.such.module"}, "model: got 'no.such.module', need a file that ends with .py"),
        ({"timeout": 0.0}, "got 30.0, 0.0, 8; need seconds above 0"),
        ({"batch": 0}, "got 30.0, 20.0, 0; need seconds above 0, and at least 1"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    one = isolated(tmp_path)
    settings = {name: getattr(one, name) for name in ("python", "model", "arguments", "describe")}
    numbers = {"start_timeout": 30.0, "timeout": 20.0, "batch": 8}
    with pytest.raises(ValueError, match=message):
        Isolated(**{**settings, **numbers, **change})


@pytest.mark.parametrize(
    ("value", "reason"), [(True, "non-finite: True"), ("1", "non-finite: 1"), (1e39, "non-finite: 1e+39")]
)
def test_what_is_no_number_is_no_value(value: object, reason: str) -> None:
    assert value_of(json.loads(json.dumps(value))).reason == reason


def test_admet_in_an_interpreter_without_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "in.smi").write_text("CCO\n")
    settings = [f"reward.python={sys.executable}", "reward.arguments.property=hERG", f"out={tmp_path / 'out.csv'}"]
    said = complaint(["score", str(tmp_path / "in.smi"), "reward=admet", *settings], 6)
    assert "no module admet_ai in this interpreter: install admet-ai there" in said
