"""A description names its network, and only networks of the domain or of installed packages are built."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from command import QUICK_PRETRAINING, complaint, molrl
from torch import nn

from molrl import plugins
from molrl.models.molecules.egnn import EGNN
from molrl.models.networks import build_network, takes

OWN = {"egnn": EGNN}
SIZES = {"width": 8, "pair_width": 8, "blocks": 1, "radial": 4}
NARROW = '''from molrl.models.molecules.egnn import EGNN


class Narrow(EGNN):
    """An EGNN without conditions."""

    def __init__(self, *, features: int, width: int, pair_width: int, blocks: int, radial: int) -> None:
        super().__init__(features=features, width=width, pair_width=pair_width, blocks=blocks, radial=radial)
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Install a package that registers a network, `narrow`, as far as entry points go."""
    (tmp_path / "narrow_network.py").write_text(NARROW)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = {group: dict(plugins.registered(group)) for group in plugins.GROUPS}
    points[plugins.DENOISERS]["narrow"] = EntryPoint("narrow", "narrow_network:Narrow", plugins.DENOISERS)
    plugins.registered.cache_clear()
    monkeypatch.setattr(plugins, "entry_points", lambda group: points[group].values())
    yield "narrow"
    plugins.registered.cache_clear()


def test_a_registered_network_is_pretrained_and_sampled(plugin: str, tmp_path: Path) -> None:
    """Its name is all that the model folder says of it."""
    run = tmp_path / "run"
    done = molrl("pretrain", *QUICK_PRETRAINING, f"model.network.kind={plugin}", f"run={run}")
    assert done.code == 0, done
    weights = f"policy.weights={run / 'model'}"
    out = tmp_path / "out.sdf"
    sampled = molrl("sample", weights, "n=2", "policy.num_steps=2", "threads=1", f"out={out}")
    assert "2 molecules" in sampled.out, sampled
    assert out.read_text().count("$$$$") == 2


def test_a_network_takes_what_its_constructor_names(plugin: str) -> None:
    assert isinstance(build_network({"kind": plugin, **SIZES}, OWN, features=4, conditions=0), nn.Module)
    assert takes("egnn", OWN, "conditions")
    assert not takes(plugin, OWN, "conditions")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"kind": "os.system", "width": 8}, "allowed are egnn"),
        ({"kind": "egnn", **SIZES, "width": 10**9}, "whole numbers from 1 to"),
        ({"kind": "egnn", **SIZES, "width": True}, "whole numbers from 1 to"),
        ({"kind": "egnn", **SIZES, "width": "8"}, "whole numbers from 1 to"),
    ],
)
def test_no_other_network_is_built(network: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_network(network, OWN, features=4, conditions=0)


def test_a_missing_network_names_those_there_are() -> None:
    said = complaint(["pretrain", *QUICK_PRETRAINING, "model.network.kind=narrow", "run=nowhere"], 2)
    assert "'narrow'" in said
    assert "egnn" in said
