"""Every denoiser obeys the laws of `molrl.testing`, in single and in double precision."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from torch import nn

from molrl.gaussian import Context
from molrl.models.molecules.edm import EDM
from molrl.models.molecules.egnn import EGNN
from molrl.models.molecules.pair_network import PairNetwork
from molrl.models.molecules.tensor_field import TensorField
from molrl.models.precondition import Preconditioned
from molrl.models.shapes.latent_transformer import LatentTransformer
from molrl.models.shapes.set_transformer import SetTransformer
from molrl.models.shapes.value import ShapeValue
from molrl.schedule import LogLinear
from molrl.testing import check_law
from molrl.testing.denoisers import (
    EUCLIDEAN_LAWS,
    SET_LAWS,
    TOLERANCE,
    Case,
    Law,
    perturb_parameters,
    random_point_sets,
    rotating_the_input_rotates_the_output,
)

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


def pair_network() -> nn.Module:
    return preconditioned(PairNetwork(features=FEATURES, width=16, pair_width=8, blocks=3, radial=8))


def recycled_pair_network() -> nn.Module:
    return preconditioned(PairNetwork(features=FEATURES, width=16, pair_width=8, blocks=3, radial=8, passes=2))


class InBfloat16(nn.Module):
    """A network under autocast, as `Policy` and pretraining run it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: Context) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out: torch.Tensor = self.network(x, t, context).to(x.dtype)
        return out


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
    context = {"mask": mask, "condition": condition}
    with built_in(dtype):
        torch.manual_seed(0)
        network = perturb_parameters(build())
    return Case(network, *random_point_sets(context, channels=3 + FEATURES, dtype=dtype), context)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("build", [edm, egnn, conditional_egnn, pair_network, recycled_pair_network, tensor_field])
@pytest.mark.parametrize("law", EUCLIDEAN_LAWS, ids=lambda law: law.__name__)
def test_law(law: Law, build: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    check_law(law, case_of(build, dtype))


@pytest.mark.parametrize("build", [pair_network, recycled_pair_network, tensor_field])
@pytest.mark.parametrize("law", EUCLIDEAN_LAWS, ids=lambda law: law.__name__)
def test_law_in_bfloat16(law: Law, build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit roundoff of bfloat16 is 2^-9; twenty of them are allowed for three blocks of sums."""
    case = case_of(build, torch.float32)
    monkeypatch.setitem(TOLERANCE, torch.float32, 20 * 2.0**-9)
    check_law(law, case._replace(denoiser=InBfloat16(case.denoiser)))


def set_transformer() -> nn.Module:
    network = SetTransformer(classes=4, width=16, layers=3, inducers=5, heads=2)
    return Preconditioned(network, LogLinear(noise_min=0.02, noise_max=30.0), [1.0, 0.9, 1.1])


def latent_transformer() -> nn.Module:
    network = LatentTransformer(classes=4, width=16, latents=5, latent_width=24, blocks=2, layers=1, heads=2)
    return Preconditioned(network, LogLinear(noise_min=0.02, noise_max=30.0), [1.0, 0.9, 1.1])


CLOUD_NETWORKS = (set_transformer, latent_transformer)


@cache
def cloud_case(dtype: torch.dtype, build: Callable[[], nn.Module] = set_transformer) -> Case:
    context = {"class": torch.tensor([0, 3, 1, 2])}
    with built_in(dtype):
        torch.manual_seed(0)
        network = perturb_parameters(build())
    return Case(network, *random_point_sets(context, channels=3, dtype=dtype, points=9), context)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("build", CLOUD_NETWORKS)
@pytest.mark.parametrize("law", SET_LAWS, ids=lambda law: law.__name__)
def test_law_of_clouds(law: Law, build: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    check_law(law, cloud_case(dtype, build))


@pytest.mark.parametrize("build", CLOUD_NETWORKS)
@pytest.mark.parametrize("law", SET_LAWS, ids=lambda law: law.__name__)
def test_law_of_clouds_in_bfloat16(law: Law, build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    case = cloud_case(torch.float32, build)
    monkeypatch.setitem(TOLERANCE, torch.float32, 20 * 2.0**-9)
    check_law(law, case._replace(denoiser=InBfloat16(case.denoiser)))


@pytest.mark.parametrize("build", CLOUD_NETWORKS)
def test_every_class_has_its_own_output(build: Callable[[], nn.Module]) -> None:
    case = cloud_case(torch.float64, build)
    other = case._replace(context={"class": (case.context["class"] + 1) % 4})
    assert ((other.output() - case.output()).abs().flatten(1).amax(1) > 1e-6).all()


@pytest.mark.parametrize("build", CLOUD_NETWORKS)
def test_a_cloud_with_every_point_twice_is_the_same_cloud(build: Callable[[], nn.Module]) -> None:
    """The network sees a distribution of points, not their number."""
    case = cloud_case(torch.float64, build)
    twice = case._replace(x=torch.cat([case.x, case.x], 1)).output()
    torch.testing.assert_close(twice, torch.cat([case.output()] * 2, 1))


def test_points_are_written_as_if_all_were() -> None:
    """The latents read all points, so the output of those that are written depends on those that are not."""
    case = cloud_case(torch.float64, latent_transformer)
    denoiser, (x, t, context) = case.denoiser, (case.x, case.t, case.context)
    assert isinstance(denoiser, Preconditioned)
    complete, some = denoiser.raw(x, t, context), denoiser.raw(x, t, context, written=4)
    torch.testing.assert_close(some, complete[:, :4])
    assert (denoiser.raw(x[:, :4], t, context) - some).abs().max() > 1e-3


def test_the_value_of_a_cloud_has_no_order() -> None:
    torch.manual_seed(0)
    value = perturb_parameters(ShapeValue(classes=4)).double()
    case = cloud_case(torch.float64)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    values = value(case.x, case.t, case.context)
    assert values.shape == (4,)
    assert values.std() > 1e-3
    torch.testing.assert_close(value(case.x[:, order], case.t, case.context), values)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads: got 3"):
        SetTransformer(classes=2, width=16, layers=1, inducers=4, heads=3)


def test_rotating_the_input_of_the_published_size_rotates_its_output() -> None:
    rotating_the_input_rotates_the_output(case_of(lambda: EDM(width=256, blocks=9, features=FEATURES), torch.float64))


def test_a_missing_e3nn_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "e3nn", None)
    with pytest.raises(ImportError, match=r"pip install 'molrl\[e3nn\]'"):
        TensorField(features=FEATURES, scalars=8, vectors=4, tensors=3, blocks=3, radial=8)
