"""Every algorithm reaches the fixed point that theory gives for it."""

import json
from pathlib import Path

import pytest
from command import molrl

from molrl.oracle.mixture import MixtureCase
from molrl.oracle.suite import cases
from molrl.oracle.trial import ChainCase

# Of (J - J_0) / (J* - J_0). Fits to a finite sample are as good as its mean: std / sqrt(n) over the move it is to make.
TOLERANCE = {"ddpo_sf": 0.1, "rwr": 0.04, "rwr_sparse": 0.04, "sft_kl_d": 0.06, "sft_kl_o": 0.06}
TOLERANCE |= {"nft": 0.04, "tilt": 0.04}
ON_CHAIN = [case for case in cases() if isinstance(case, ChainCase)]
ON_MIXTURE = [case for case in cases() if isinstance(case, MixtureCase)]


@pytest.mark.parametrize("case", ON_CHAIN, ids=lambda case: case.name)
def test_an_algorithm_reaches_its_own_fixed_point(case: ChainCase) -> None:
    outcome = case.run(seed=0)
    assert outcome.fraction == pytest.approx(1, abs=TOLERANCE.get(case.name.partition(",")[0], 0.02))


@pytest.mark.parametrize("case", ON_MIXTURE, ids=lambda case: case.name)
def test_a_network_gets_most_of_what_any_control_can(case: MixtureCase) -> None:
    """The bound, beta log Z, is not reached by steps of fixed std."""
    outcome = case.run(seed=0)
    assert 0.9 <= outcome.fraction <= 1


def test_the_table_comes_as_json_too(tmp_path: Path) -> None:
    out = tmp_path / "oracle.json"
    done = molrl("oracle", "algo=ddpo", f"out={out}")
    assert done.code == 0, done.err
    (row,) = json.loads(out.read_text())
    assert row["algorithm"] == "ddpo"
    assert row["fraction"] == pytest.approx(1, abs=0.02)
    assert "fraction" in done.out


def test_an_unknown_algorithm_is_refused_with_those_there_are() -> None:
    done = molrl("oracle", "algo=ddpoo")
    assert done.code == 2
    assert "known are ddpo, ddpo_sf, dpok" in done.err
    assert "did you mean ddpo" in done.err
