"""Atom types have codes that are far apart and the same in every model; states decode to what they came from."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from molrl.data.molecules.elements import element_numbers, elements_of
from molrl.data.molecules.molecule import Molecule, Molecules
from molrl.models.molecules.atom_types import (
    COMMON_TYPES,
    AtomTypeCodec,
    AtomTypes,
    atom_types,
    spherical_code,
    type_name,
)
from molrl.models.molecules.codec import Elements
from molrl.models.molecules.model import Architecture, load, save
from molrl.models.molecules.pretraining import match_channels
from molrl.models.precondition import Preconditioned

DESIGN = AtomTypes(elements=None, radius=0.25, min_count=1)
NITRO = Molecule(
    numbers=np.array([6, 7, 8, 8]),
    positions=np.array([[0, 0, 0], [1.5, 0, 0], [2.1, 1.0, 0], [2.1, -1.0, 0]], np.float32),
    hydrogens=np.array([3, 0, 0, 0]),
    charges=np.array([0, 1, 0, -1]),
)


def with_types(*types: tuple[int, int, int]) -> Molecule:
    """Return atoms of these types in a row."""
    numbers, hydrogens, charges = np.array(types, np.int64).T
    positions = np.arange(3.0 * len(types), dtype=np.float32).reshape(-1, 3)
    return Molecule(numbers, positions, hydrogens, charges=charges)


@pytest.mark.parametrize(("count", "width"), [(1, 8), (32, 8), (33, 16), (64, 16), (65, 32)])
def test_codes_lie_on_a_sphere_and_are_at_least_a_radius_and_a_bit_apart(count: int, width: int) -> None:
    codes = np.array(spherical_code(count, 2.0))
    assert codes.shape == (count, width)
    assert_close(np.linalg.norm(codes, axis=1), np.full(count, 2.0), rtol=1e-5, atol=0)
    apart = [np.linalg.norm(one - two) for one, two in combinations(codes, 2)]
    assert min(apart, default=9.0) >= 2.0 * np.sqrt(2 - 2 / np.sqrt(width)) - 1e-5


def test_the_two_bases_are_unbiased() -> None:
    """|<h, e>|^2 = 1/d for every pair of vectors of different bases, the definition of mutual unbiasedness."""
    codes = np.array(spherical_code(32, 1.0))
    hadamard, units = codes[:16:2], codes[16::2]
    assert_close(hadamard @ hadamard.T, np.eye(8), atol=1e-5, rtol=0)
    assert_close(np.abs(hadamard @ units.T), np.full((8, 8), 8**-0.5), atol=1e-5, rtol=0)


def test_frequent_types_use_all_channels_alike() -> None:
    """No channel is rare, so none has a small spread that the preconditioning would blow up."""
    codes = np.array(spherical_code(16, 1.0))
    assert_close(codes.var(0), np.full(8, 1 / 8), atol=1e-6, rtol=0)


@given(rows=st.lists(st.sampled_from(COMMON_TYPES), min_size=1, max_size=12), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_states_decode_to_the_molecules_they_came_from(rows: list[tuple[int, int, int]], seed: int) -> None:
    """Also after noise of less than half the least distance between two codes."""
    molecules = [with_types(*rows), NITRO]
    codec = DESIGN.fit([with_types(*COMMON_TYPES)])
    x, mask = codec.encode(molecules, 14)
    assert x.shape == (2, 14, 11)
    noise = torch.randn(x[..., 3:].shape, generator=torch.Generator().manual_seed(seed))
    x[..., 3:] += noise / noise.norm(dim=-1, keepdim=True) * 0.25 * 1.137 * 0.499
    for before, after in zip(molecules, codec.decode(x, {"mask": mask}), strict=True):
        assert atom_types(after) == atom_types(before)
        assert_close(after.positions, before.positions - before.positions.mean(0), atol=1e-5, rtol=0)


def test_a_type_has_the_same_code_in_every_data_set() -> None:
    small, large = DESIGN.fit([NITRO]), DESIGN.fit([with_types(*COMMON_TYPES)])
    assert small.types == ((8, 0, 0), (6, 3, 0), (7, 0, 1), (8, 0, -1))
    assert all(small.codes[row] == large.codes[large.types.index(kind)] for row, kind in enumerate(small.types))
    assert small.channels == large.channels


def test_types_that_are_not_common_come_after_the_common_ones() -> None:
    """Methylidyne-like carbon and lithium are in no list; 33 codes and more need 16 channels."""
    codec = DESIGN.fit([NITRO, with_types((3, 0, 1), (6, 1, 1))])
    assert codec.types[-2:] == ((3, 0, 1), (6, 1, 1))
    assert codec.features == 16


def test_rare_types_and_other_elements_are_unknown_and_named() -> None:
    molecules = [NITRO, NITRO, with_types((6, 3, 0), (16, 1, 0))]
    codec = replace(DESIGN, min_count=2).fit(molecules)
    assert codec.missing(NITRO) == ""
    assert codec.missing(molecules[2]) == "atom type [SH]"
    with pytest.raises(ValueError, match=r"atom type \[SH\]; this model knows \[O\], \[CH3\], \[N\+\], \[O-\]"):
        codec.encode(molecules)
    assert replace(DESIGN, elements=["C", 8]).fit(molecules).elements == (6, 8)
    with pytest.raises(ValueError, match="min_count=99: no atom type"):
        replace(DESIGN, min_count=99).fit(molecules)


def test_types_that_the_start_of_training_knows_may_be_rare_and_keep_their_codes() -> None:
    """Boron with two hydrogens is in no list; a start without atom types, such as qm9_heavy, knows none."""
    design, boron = replace(DESIGN, min_count=2), (5, 2, 0)
    start = DESIGN.fit([NITRO, with_types(boron, (5, 1, 1))])
    molecules = [NITRO, NITRO, with_types((6, 3, 0), (7, 0, 1), boron), with_types((5, 1, 0))]
    codec = design.fit(molecules, start)
    assert codec.types == ((8, 0, 0), (6, 3, 0), (7, 0, 1), (8, 0, -1), boron)
    assert all(codec.codes[row] == start.codes[start.types.index(kind)] for row, kind in enumerate(codec.types))
    assert codec.missing(molecules[3]) == "atom type [BH]"
    elements = Elements(elements=None, type_scale=0.25, charge_scale=None, hydrogen_scale=0.15).fit([NITRO])
    assert boron not in design.fit(molecules, elements).types


def test_flat_arrays_have_the_same_types() -> None:
    molecules = [NITRO, with_types((6, 3, 0), (8, 1, 0))]
    assert DESIGN.fit(Molecules.pack(molecules)) == DESIGN.fit(molecules)


def test_hydrogens_must_be_counted_and_unknown_charges_are_none() -> None:
    codec = DESIGN.fit([NITRO])
    with pytest.raises(ValueError, match="number of hydrogens"):
        codec.missing(replace(NITRO, hydrogens=None))
    assert codec.missing(replace(NITRO, charges=None)) == "atom type [N]"


@pytest.mark.parametrize(
    ("kind", "text"), [((6, 3, 0), "[CH3]"), ((7, 3, 1), "[NH3+]"), ((8, 0, -1), "[O-]"), ((7, 1, -2), "[NH-2]")]
)
def test_types_are_spelled_as_in_smiles(kind: tuple[int, int, int], text: str) -> None:
    assert type_name(kind) == text


def test_a_model_of_types_is_read_back(tmp_path: Path) -> None:
    codec = DESIGN.fit([NITRO])
    described = Architecture(
        network={"kind": "pair_network", "width": 16, "pair_width": 8, "blocks": 1, "radial": 4},
        noise_min=0.02,
        noise_max=9.0,
        data_std=(1.0,) * 3 + (0.1,) * 8,
        codec=codec.plain(),
        sizes={"atoms": [4], "counts": [1]},
    )
    save(tmp_path / "model", described, described.build().denoiser.state_dict(), None)
    assert load(str(tmp_path / "model")).codec == codec


@pytest.mark.parametrize(
    ("types", "codes"),
    [((), ()), (((6, 0, 0),), ()), (((6, 0, 0), (6, 0, 0)), ((1.0,), (2.0,))), (((6, 0, 0), (7, 0, 0)), ((1.0,), ()))],
)
def test_a_description_with_other_codes_than_types_is_refused(
    types: tuple[tuple[int, int, int], ...], codes: tuple[tuple[float, ...], ...]
) -> None:
    with pytest.raises(ValueError, match="codec"):
        AtomTypeCodec(types=types, codes=codes)


@pytest.mark.parametrize("wrong", [["Q"], ["c"], [0], [119], [6, "C"], [], [True]])
def test_what_is_no_list_of_elements_is_refused(wrong: list[str | int]) -> None:
    with pytest.raises(ValueError, match="elements: got"):
        element_numbers(wrong)


def test_elements_are_found_in_the_data() -> None:
    assert element_numbers(["Cl", 6]) == (17, 6)
    assert elements_of([NITRO]) == elements_of(Molecules.pack([NITRO])) == (6, 7, 8)
    found = Elements(elements=None, type_scale=0.25, charge_scale=None, hydrogen_scale=0.15).fit([NITRO])
    assert found.channels == ("C", "N", "O", "hydrogens")


def test_rows_of_elements_that_two_models_know_are_copied() -> None:
    """From C, N, O, hydrogens to C, O, S, hydrogens: C, O and the hydrogens keep their weights, S starts afresh."""
    network = {"kind": "egnn", "width": 8, "pair_width": 4, "blocks": 1, "radial": 4}

    def denoiser(*elements: str) -> Preconditioned:
        codec = Elements(elements=elements, type_scale=0.25, charge_scale=None, hydrogen_scale=0.15).fit([])
        described = Architecture(
            network=network,
            noise_min=0.02,
            noise_max=9.0,
            data_std=(1.0,) * 7,
            codec=codec.plain(),
            sizes={"atoms": [4], "counts": [1]},
        )
        built = described.build().denoiser
        assert isinstance(built, Preconditioned)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.normal_()
        return built

    old, new = denoiser("C", "N", "O"), denoiser("C", "O", "S")
    channels = ("C", "N", "O", "hydrogens"), ("C", "O", "S", "hydrogens")
    matched = match_channels(new, old.state_dict(), *channels)
    before, fresh = old.state_dict(), new.state_dict()
    first, last = "network.node_embedding.weight", "network.out.3.bias"
    assert torch.equal(matched[first][:, [0, 1, 3]], before[first][:, [0, 2, 3]])
    assert torch.equal(matched[first][:, 2], fresh[first][:, 2])
    assert torch.equal(matched[last][[0, 1, 3]], before[last][[0, 2, 3]])
    assert matched.keys() == {first, "network.out.3.weight", last}
