"""Numbers of atoms: the training histogram by default, bit for bit, and what the user asks for."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from command import QUICK_RUN, complaint, molrl
from hypothesis import given
from hypothesis import strategies as st
from test_conditional import CONDITION, architecture

import molrl as package
from molrl.config import ConfigError
from molrl.data.molecules.bonds import rdkit_bonds
from molrl.data.molecules.files import read
from molrl.data.molecules.sizes import MAX_ATOMS, Sizes
from molrl.models.molecules.decoder import MoleculeDecoder
from molrl.noise import Key

SIZES = Sizes((3, 5, 8, 9), (10, 30, 40, 20))


def frequencies(sizes: Sizes, n: int = 4000) -> dict[int, float]:
    return {size: count / n for size, count in Counter(sizes.draw(range(n), Key(0))).items()}


def test_without_a_request_nothing_changes() -> None:
    assert SIZES.choose(None) is SIZES


@pytest.mark.parametrize(
    ("request_", "atoms", "weights"),
    [
        (8, (8,), (1,)),
        ("8", (8,), (1,)),
        (40, (40,), (1,)),
        ("4..8", (5, 8), (30, 40)),
        ("3..9", SIZES.atoms, SIZES.counts),
        ("9..9", (9,), (20,)),
        ("9..200", (9,), (20,)),
        ({20: 3, 18: 1}, (18, 20), (1, 3)),
        ({"18": 0.5, "7": 0}, (18,), (0.5,)),
    ],
)
def test_a_request_is_a_number_a_range_or_weights(
    request_: int | str | Mapping[int, float], atoms: tuple[int, ...], weights: tuple[float, ...]
) -> None:
    chosen = SIZES.choose(request_)
    assert (chosen.atoms, chosen.counts) == (atoms, weights)


def test_a_range_keeps_the_proportions_of_the_training_set_and_weights_are_followed() -> None:
    found = frequencies(SIZES.choose("5..8"))
    assert found == pytest.approx({5: 3 / 7, 8: 4 / 7}, abs=0.04)
    assert frequencies(SIZES.choose({6: 1, 7: 3})) == pytest.approx({6: 0.25, 7: 0.75}, abs=0.04)


@given(st.integers(0, 12), st.integers(0, 12))
def test_a_range_is_the_condition_on_it(low: int, high: int) -> None:
    expected = {size: count for size, count in zip(SIZES.atoms, SIZES.counts, strict=True) if low <= size <= high}
    if expected:
        chosen = SIZES.choose(f"{low}..{high}")
        assert dict(zip(chosen.atoms, chosen.counts, strict=True)) == expected
    else:
        with pytest.raises(ValueError, match=rf"atoms={low}\.\.{high}: no training molecule.*have 3 to 9"):
            SIZES.choose(f"{low}..{high}")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("a few", "a few: expected a number"),
        ("5...8", "expected a number"),
        ("-3", "expected a number"),
        (True, "expected a number"),
        (2.5, "expected a number"),
        ([5, 6], "expected a number"),
        (0, "got 0, need whole numbers from 1 to 500"),
        (MAX_ATOMS + 1, "got 501"),
        ({5.5: 1}, "got 5.5"),
        ({"x": 1}, "got x"),
        ({5: -1}, "weight -1 for 5 atoms"),
        ({5: np.inf}, "weight inf"),
        ({5: np.nan}, "weight nan"),
        ({5: "1"}, "weight '1'"),
        ({}, "no number of atoms has a weight above 0"),
        ({5: 0}, "no number of atoms has a weight above 0"),
    ],
)
def test_any_other_request_is_refused(request_: object, words: str) -> None:
    with pytest.raises(ValueError, match="atoms") as caught:
        SIZES.choose(request_)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_sizes_are_drawn_as_asked_and_the_default_as_ever() -> None:
    """The default draw is keyed by the first random number of each sample, whatever else is asked for."""
    model = architecture().build()
    plain = MoleculeDecoder(model=model, reader=rdkit_bonds).draw_context(range(50), Key(3))["mask"].sum(1)
    levels = [Key(3).generator(sample, 0).random() for sample in range(50)]
    assert plain.tolist() == [3 if level < 0.25 else 5 for level in levels]  # counts [1, 3] of the sizes [3, 5]
    asked = MoleculeDecoder(model=model, reader=rdkit_bonds, atoms={4: 1}).draw_context(range(50), Key(3))["mask"]
    assert asked.sum(1).tolist() == [4] * 50


def test_a_size_that_the_model_never_saw_is_noted() -> None:
    model = architecture().build()
    assert MoleculeDecoder(model=model, reader=rdkit_bonds).notes == []
    assert MoleculeDecoder(model=model, reader=rdkit_bonds, atoms="3..4").notes == [
        "atoms: 3 to 3 (training set 3 to 5)"
    ]
    assert MoleculeDecoder(model=model, reader=rdkit_bonds, atoms={4: 1, 5: 1, 8: 2}).notes == [
        "atoms: 4 to 8 (training set 3 to 5, but none of 4, 8)"
    ]


def test_a_property_cannot_be_drawn_for_a_size_without_training_molecules() -> None:
    model = architecture(CONDITION).build()
    with pytest.raises(ValueError, match=r"no training molecule of 4 atoms.*condition\.ring=NUMBER"):
        MoleculeDecoder(model=model, reader=rdkit_bonds, atoms=4)
    decoder = MoleculeDecoder(model=model, reader=rdkit_bonds, atoms=4, condition={"ring": 2.0})
    context = decoder.draw_context(range(3), Key(0))
    assert context["mask"].sum(1).tolist() == [4] * 3
    assert context["condition"].flatten().tolist() == pytest.approx([2.0] * 3)  # (2 - mean 1) / std 0.5


def written(path: Path) -> set[int]:
    """Return the numbers of heavy atoms in a file."""
    return {int((one.numbers > 1).sum()) for one in read(path)[0]}


def test_sample_and_train_draw_the_sizes_that_are_asked_for(tmp_path: Path) -> None:
    quick = ("policy.num_steps=3", "threads=1")
    done = molrl("sample", "n=12", "atoms=7..8", f"out={tmp_path / 'a.sdf'}", *quick)
    assert "atoms: 7 to 8 (training set 3 to 9)\n" in done.out
    assert written(tmp_path / "a.sdf") <= {7, 8}
    done = molrl("sample", "n=4", "atoms={6: 1, 10: 0}", f"out={tmp_path / 'b.sdf'}", *quick)
    assert "atoms: 6 to 6" in done.out
    assert written(tmp_path / "b.sdf") == {6}
    done = molrl("train", "algo=ddpo", "task.atoms=6", f"run={tmp_path / 'run'}", *QUICK_RUN)
    assert done.code == 0, done
    assert written(tmp_path / "run" / "samples" / "after.sdf") == {6}
    policy = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert policy["sizes"]["atoms"] != [6]  # the run's model is still one of all sizes


def test_the_python_function_takes_them_too() -> None:
    policy = package.load_policy("qm9_heavy", num_steps=3)
    assert {len(one) for one in package.sample(policy, 5, atoms={7: 1})} == {7}
    with pytest.raises(ConfigError, match="atomz: no such setting; did you mean atoms"):
        package.sample(policy, 5, atomz=7)


def test_a_wrong_request_is_one_line(tmp_path: Path) -> None:
    assert "no training molecule in this range, they have 3 to 9" in complaint(["sample", "atoms=20..30"], 2)
    assert "expected a number" in complaint(["train", "task.atoms=many", f"run={tmp_path / 'run'}"], 2)
    assert not list(tmp_path.iterdir())
