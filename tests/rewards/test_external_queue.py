"""A reward whose values another program writes: late, twice, wrong, or never."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem
from test_molecule_rewards import BAD, embedded, from_smiles

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.molecule import Molecule
from molrl.rewards.molecules.geometry import NO_GEOMETRY
from molrl.rewards.molecules.request import MoleculeRequest
from molrl.rewards.scores import Scored
from molrl.rewards.workers.external_queue import MAX_ANSWER_BYTES, ExternalQueue, WrongAnswerError, parse_answer

SMILES = ("CCO", "CCCN", "c1ccccc1")
SAMPLES = [from_smiles(smiles) for smiles in SMILES]


def queue(folder: Path, *, wait: float = 20.0, geometry: bool = False) -> ExternalQueue:
    describe = MoleculeRequest(geometry=geometry, floor=-1.0, reader=rdkit_bonds)
    return ExternalQueue(str(folder), wait, 0.01, describe)


def requests(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what is asked, by ID."""
    return {path.stem: json.loads(path.read_text()) for path in (folder / "requests").glob("*.json")}


def answer(folder: Path, name: str, content: bytes) -> None:
    (folder / "answers" / f"{name}.json").write_bytes(content)


def heavy_atoms(request: dict[str, Any]) -> bytes:
    return json.dumps({"value": Chem.MolFromSmiles(request["smiles"]).GetNumHeavyAtoms()}).encode()


@contextmanager
def server(folder: Path, respond: Callable[[dict[str, Any], int], bytes | None]) -> Iterator[None]:
    """Respond to every request again and again; `respond` is told how often it was asked."""
    ended, times = threading.Event(), dict[str, int]()

    def serve() -> None:
        while not ended.is_set():
            for name, request in requests(folder).items():
                times[name] = times.get(name, 0) + 1
                if (content := respond(request, times[name])) is not None:
                    answer(folder, name, content)
            time.sleep(0.02)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_answers_come_in_the_order_of_the_samples(tmp_path: Path) -> None:
    with server(tmp_path, lambda request, times: heavy_atoms(request) if times > 2 else None):
        assert queue(tmp_path).score(SAMPLES).values == [3, 4, 6]


def test_the_same_molecule_is_asked_about_once_whatever_run_asks(tmp_path: Path) -> None:
    """A run that is killed and begun again finds its requests and the answers that came meanwhile."""
    queue(tmp_path).request([*SAMPLES, from_smiles("OCC")])
    asked = {path: path.stat().st_mtime_ns for path in (tmp_path / "requests").iterdir()}
    assert len(asked) == len(SAMPLES)
    for name, request in requests(tmp_path).items():
        answer(tmp_path, name, heavy_atoms(request))
    assert queue(tmp_path, wait=0).score(SAMPLES).values == [3, 4, 6]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "requests").iterdir()} == asked


def test_a_sample_without_an_answer_is_lost_and_found_when_one_came(tmp_path: Path) -> None:
    early = queue(tmp_path, wait=0.05).score(SAMPLES[:1]).scored[0]
    assert math.isnan(early.value)
    assert early.reason == "pending: no answer within 0.05 s"
    ((name, request),) = requests(tmp_path).items()
    answer(tmp_path, name, heavy_atoms(request))
    assert queue(tmp_path, wait=0).score(SAMPLES[:1]).scored == (Scored(3),)


def test_all_samples_of_a_batch_wait_at_the_same_time(tmp_path: Path) -> None:
    began = time.monotonic()
    assert all(math.isnan(value) for value in queue(tmp_path, wait=0.3).score(SAMPLES).values)
    assert 0.3 <= time.monotonic() - began < 0.8


def test_a_bad_molecule_is_not_asked_about(tmp_path: Path) -> None:
    scored = queue(tmp_path, wait=0).score([from_smiles(smiles) for smiles in BAD])
    assert scored.values == [-1.0] * len(BAD)
    assert scored.reasons == list(BAD.values())
    assert requests(tmp_path) == {}


def test_a_geometry_is_sent_with_all_hydrogens_and_asked_about_by_itself(tmp_path: Path) -> None:
    one = embedded("CCO")
    other = replace(one, positions=one.positions + 1)
    queue(tmp_path, geometry=True).request([one, other, one])
    found = requests(tmp_path)
    assert len(found) == 2
    for request in found.values():
        mol = Chem.MolFromMolBlock(request["mol"], removeHs=False)
        assert mol.GetNumAtoms() == 9
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == request["smiles"] == "CCO"


def test_a_graph_alone_has_no_geometry_to_ask_about(tmp_path: Path) -> None:
    scored = queue(tmp_path, wait=0, geometry=True).score(SAMPLES[:1]).scored[0]
    assert (math.isnan(scored.value), scored.reason) == (True, NO_GEOMETRY)


def test_half_an_answer_is_read_again(tmp_path: Path) -> None:
    """Also one that is put right, and one that comes twice: the last counts that is there."""

    def respond(request: dict[str, Any], times: int) -> bytes:
        return heavy_atoms(request)[: 4 if times < 4 else None]

    with server(tmp_path, respond):
        assert queue(tmp_path).score(SAMPLES).values == [3, 4, 6]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'{"value": tr', "need a JSON object"),
        (b"[1]", "need a JSON object"),
        (b"[" * 20_000, "need a JSON object"),
        (b"\xff\xfe", "need a JSON object"),
        (b"{}", 'need "value", a finite number'),
        (b'{"value": NaN}', 'need "value", a finite number'),
        (b'{"value": Infinity}', 'need "value", a finite number'),
        (b'{"value": 1e39}', 'need "value", a finite number'),
        (b'{"value": true}', 'need "value", a finite number'),
        (b'{"value": "1"}', 'need "value", a finite number'),
        (b'{"value": 1, "id": "other"}', "it has the id of another request"),
        (b"{" + b" " * MAX_ANSWER_BYTES + b"}", "more than the"),
    ],
)
def test_a_wrong_answer_costs_its_sample_and_says_why(tmp_path: Path, content: bytes, fault: str) -> None:
    queue(tmp_path).request(SAMPLES[:2])
    right, wrong = (
        next(name for name, request in requests(tmp_path).items() if request["smiles"] == smiles)
        for smiles in SMILES[:2]
    )
    answer(tmp_path, right, b'{"value": -7.25, "id": "%s"}' % right.encode())
    answer(tmp_path, wrong, content)
    good, bad = queue(tmp_path, wait=0).score(SAMPLES[:2]).scored
    assert good == Scored(-7.25)
    assert math.isnan(bad.value)
    assert bad.reason.startswith("wrong answer: ")
    assert fault in bad.reason


def test_an_error_is_the_answer_of_a_measurement_that_failed(tmp_path: Path) -> None:
    queue(tmp_path).request(SAMPLES[:1])
    (name,) = requests(tmp_path)
    answer(tmp_path, name, b'{"error": "no convergence\\u0007"}')
    began = time.monotonic()
    scored = queue(tmp_path).score(SAMPLES[:1]).scored[0]
    assert (math.isnan(scored.value), scored.reason) == (True, "error: no convergence ")
    assert time.monotonic() - began < 5  # it is not waited for


def test_an_answer_is_not_read_through_a_link(tmp_path: Path) -> None:
    queue(tmp_path).request(SAMPLES[:1])
    (tmp_path / "elsewhere").write_text('{"value": 1}')
    (name,) = requests(tmp_path)
    (tmp_path / "answers" / f"{name}.json").symlink_to(tmp_path / "elsewhere")
    assert "a link" in queue(tmp_path, wait=0).score(SAMPLES[:1]).reasons[0]


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    for wait, poll in ((-1.0, 1.0), (math.inf, 1.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match="wait, poll"):
            ExternalQueue(str(tmp_path), wait, poll, MoleculeRequest(geometry=False, floor=0, reader=rdkit_bonds))


def test_parsing_an_answer_twice_gives_the_same() -> None:
    assert parse_answer(b'{"value": 2}', "a") == Scored(2.0)
    with pytest.raises(WrongAnswerError):
        parse_answer(b"2", "a")


def test_requests_name_what_they_ask(tmp_path: Path) -> None:
    named: list[Molecule] = [replace(SAMPLES[0], name="first"), replace(SAMPLES[0], name="second")]
    queue(tmp_path).request(named)
    assert [(request["id"], request["smiles"]) for request in requests(tmp_path).values()] == [
        (*requests(tmp_path), "CCO")
    ]
