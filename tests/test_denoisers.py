"""Every denoiser of molecules obeys the laws of `conformance`, in single and in double precision."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from conformance import LAWS, Case, awake, example, rotating_the_input_rotates_the_output
from torch import nn

from molrl.models.edm import EDM
from molrl.models.egnn import EGNN
from molrl.models.precondition import Preconditioned
from molrl.models.tensor_field import TensorField
from molrl.schedule import LogLinear

FEATURES = 6
SIZES = (4, 1, 7, 2)


def preconditioned(network: nn.Module) -> Preconditioned:
    return Preconditioned(network, LogLinear(noise_min=0.01, noise_max=20.0), [1.5] * 3 + [0.3] * FEATURES)


def edm() -> nn.Module:
    return EDM(width=16, blocks=3, features=FEATURES)


def egnn() -> nn.Module:
    return preconditioned(EGNN(features=FEATURES, width=16, pair_width=8, blocks=3, radial=8))


def conditional_egnn() -> nn.Module:
    return preconditioned(EGNN(features=FEATURES, width=16, pair_width=8, blocks=3, radial=8, conditions=2))


def tensor_field() -> nn.Module:
    pytest.importorskip("e3nn", reason="TensorField needs e3nn")
    return preconditioned(TensorField(features=FEATURES, scalars=8, vectors=4, tensors=3, blocks=3, radial=8))


@contextmanager
def built_in(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@cache
def case_of(build: Callable[[], nn.Module], dtype: torch.dtype) -> Case:
    mask = torch.arange(max(SIZES) + 1) < torch.tensor(SIZES)[:, None]
    condition = torch.randn(len(SIZES), 2, generator=torch.Generator().manual_seed(5), dtype=dtype)
    with built_in(dtype):
        torch.manual_seed(0)
        return example(awake(build()), {"mask": mask, "condition": condition}, features=FEATURES, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("build", [edm, egnn, conditional_egnn, tensor_field])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None], build: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    law(case_of(build, dtype))


def test_rotating_the_input_of_the_published_size_rotates_its_output() -> None:
    rotating_the_input_rotates_the_output(case_of(lambda: EDM(width=256, blocks=9, features=FEATURES), torch.float64))


def test_a_missing_e3nn_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "e3nn", None)
    with pytest.raises(ImportError, match=r"pip install 'molrl\[e3nn\]'"):
        TensorField(features=FEATURES)
