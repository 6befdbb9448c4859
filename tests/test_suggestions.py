"""A misspelt command, choice or setting is answered with the name that was meant."""

import string

import pytest
from command import complaint
from hypothesis import given, settings
from hypothesis import strategies as st

from molrl.arguments import COMMANDS
from molrl.composition import Composition
from molrl.suggestions import did_you_mean, nearest

TRAIN = Composition("train")
NAMES = {
    "command": list(COMMANDS),
    **{group: TRAIN.names(group) for group in ("task", "policy", "reward", "algo")},
    "setting": [name for name in TRAIN.settings if not name.rpartition(".")[2].startswith("_")],
}
LETTERS = st.sampled_from(string.ascii_lowercase)


@st.composite
def misspelt(draw: st.DrawFn, names: list[str]) -> tuple[str, str]:
    """Draw a name of three letters or more, and the same with one letter added, left out, wrong, or two exchanged."""
    name = draw(st.sampled_from([name for name in names if len(name) > 2]))
    at = draw(st.integers(0, len(name) - 2))
    before, one, two, rest = name[:at], name[at], name[at + 1], name[at + 2 :]
    other = draw(LETTERS)
    kinds = [f"{other}{one}{two}", two, f"{other}{two}", f"{two}{one}"]
    return name, f"{before}{draw(st.sampled_from(kinds))}{rest}"


@pytest.mark.parametrize("kind", NAMES)
def test_one_typing_error_is_understood(kind: str) -> None:
    @settings(deadline=None)
    @given(misspelt(NAMES[kind]))
    def check(pair: tuple[str, str]) -> None:
        name, word = pair
        if word not in NAMES[kind]:
            assert name in nearest(word, NAMES[kind])

    check()


@settings(deadline=None)
@given(st.text(max_size=20), st.lists(st.text(max_size=10)))
def test_only_known_names_are_suggested_and_few_of_them(word: str, known: list[str]) -> None:
    found = nearest(word, known)
    assert set(found) <= set(known)
    assert len(found) == len(set(found)) <= 3
    assert bool(found) == bool(did_you_mean(word, known))


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian"], "train"),
        (["complete"], "completion"),
        (["train", "tsk=qed"], "task"),
        (["train", "task=qedd"], "qed"),
        (["train", "task=molecules/qedd"], "qed"),
        (["train", "algo=ddop"], "ddpo"),
        (["train", "reward=synthesizability"], "synthesisability"),
        (["train", "policy=qm9_hevy"], "qm9_heavy"),
        (["train", "task=symetry"], "symmetry"),
        (["train", "task=compresibility"], "compressibility"),
        (["train", "wrkers=2"], "reward.workers"),
        (["train", "reward.wrokers=2"], "reward.workers"),
        (["train", "optimiser.lr=1"], "optimizer.lr"),
        (["train", "policy.numsteps=3"], "policy.num_steps"),
        (["train", "+iteratoins=3"], "iterations"),
        (["train", "--mutlirun"], "--multirun"),
        (["sample", "condition.clas=chair", "policy=shapes"], "condition.class"),
        (["sample", "guidance=rdgm"], "rgdm"),
        (["pretrain", "model=hevy"], "heavy"),
        (["pretrain", "training.stpes=3"], "training.steps"),
        (["oracle", "algo=rgmd"], "rgdm"),
        (["evaluate", "a.sdf", "domain=molecule"], "molecules"),
        (["evaluate", "a.npz", "domain=shapes", "metrics.sedes=1"], "metrics.seeds"),
    ],
)
def test_the_meant_name_is_suggested(arguments: list[str], meant: str) -> None:
    said = complaint(arguments, 2)
    assert "did you mean" in said
    assert meant in said.partition("did you mean")[2].partition("?")[0].split()
