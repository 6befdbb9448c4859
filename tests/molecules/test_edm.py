"""EDM's network: the published parameters, the published equations, and errors that name what does not fit."""

from pathlib import Path

import pytest
import torch
from edge_list import edge_list_edm
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from molrl.models.molecules.edm import EDM

# Names and shapes of the 141 tensors of the published QM9 model, from the public code
# (ehoogeboom/e3_diffusion_for_molecules, commit fce07d7), width 256.
OUTSIDE_BLOCKS = {
    "buffer": (1,),
    "gamma.gamma": (1001,),
    "dynamics.egnn.embedding.weight": (256, 7),
    "dynamics.egnn.embedding.bias": (256,),
    "dynamics.egnn.embedding_out.weight": (7, 256),
    "dynamics.egnn.embedding_out.bias": (7,),
}
BLOCK = {
    "gcl_0.edge_mlp.0.weight": (256, 514),
    "gcl_0.edge_mlp.0.bias": (256,),
    "gcl_0.edge_mlp.2.weight": (256, 256),
    "gcl_0.edge_mlp.2.bias": (256,),
    "gcl_0.att_mlp.0.weight": (1, 256),
    "gcl_0.att_mlp.0.bias": (1,),
    "gcl_0.node_mlp.0.weight": (256, 512),
    "gcl_0.node_mlp.0.bias": (256,),
    "gcl_0.node_mlp.2.weight": (256, 256),
    "gcl_0.node_mlp.2.bias": (256,),
    "gcl_equiv.coord_mlp.0.weight": (256, 514),
    "gcl_equiv.coord_mlp.0.bias": (256,),
    "gcl_equiv.coord_mlp.2.weight": (256, 256),
    "gcl_equiv.coord_mlp.2.bias": (256,),
    "gcl_equiv.coord_mlp.4.weight": (1, 256),
}


@pytest.fixture(scope="module")
def published() -> EDM:
    torch.manual_seed(0)
    return EDM(width=256, blocks=9, features=6)


@pytest.fixture
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return EDM(width=8, blocks=2, features=6).state_dict()


def batch(sizes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return centred molecules of QM9-like extent, their times and mask, float64."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    x = torch.randn(*mask.shape, 9, generator=generator, dtype=torch.float64) * mask[..., None]
    x[..., :3] -= mask[..., None] * x[..., :3].sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    return x, torch.rand(len(sizes), generator=generator, dtype=torch.float64), mask


def wide_awake(model: EDM) -> EDM:
    """Replace the published tiny start of the last position layers, which would hide the position branch."""
    for name, parameter in model.named_parameters():
        if name.endswith("coord_mlp.4.weight"):
            torch.nn.init.normal_(parameter, std=0.02)
    return model.double()


def test_the_published_network_has_5339920_parameters(published: EDM) -> None:
    assert sum(parameter.numel() for parameter in published.parameters()) == 5_339_920


def test_names_and_shapes_are_the_published_ones(published: EDM) -> None:
    blocks = {f"dynamics.egnn.e_block_{k}.{key}": shape for k in range(9) for key, shape in BLOCK.items()}
    assert {key: tuple(value.shape) for key, value in published.state_dict().items()} == OUTSIDE_BLOCKS | blocks
    assert len(published.state_dict()) == 141


def test_the_gamma_table_follows_from_the_schedule(published: EDM) -> None:
    """Values of EDM's polynomial_2 schedule, T = 1000, s = 1e-5, from its formula."""
    assert_close(
        published.gamma.gamma[[0, 1, 500, 999, 1000]],
        torch.tensor([-11.512915, -11.330595, -0.251309, 11.176730, 11.512516]),
        rtol=0,
        atol=1e-5,
    )


def test_the_last_position_layer_starts_with_gain_one_thousandth(published: EDM) -> None:
    """Xavier's uniform bound for (1, 256) is sqrt(6 / 257)."""
    for k in range(9):
        weight = published.get_parameter(f"dynamics.egnn.e_block_{k}.gcl_equiv.coord_mlp.4.weight")
        assert 0 < weight.abs().max().item() <= 1e-3 * (6 / 257) ** 0.5


@pytest.mark.parametrize("size", [(16, 2), (256, 9)], ids=["small", "published"])
def test_dense_pairs_agree_with_the_edge_list(size: tuple[int, int]) -> None:
    torch.manual_seed(2)
    model = wide_awake(EDM(width=size[0], blocks=size[1], features=6))
    x, t, mask = batch((5, 9, 3))
    with torch.no_grad():
        expected = edge_list_edm(model.state_dict(), x, t, mask)
        got = model(x, t, {"mask": mask})
    assert expected[..., :3].abs().max() > 0.1
    assert_close(got, expected, rtol=0, atol=1e-10)


def test_gradients_agree_with_the_edge_list() -> None:
    torch.manual_seed(3)
    model = wide_awake(EDM(width=16, blocks=2, features=6))
    x, t, mask = batch((5, 9, 3))
    parameters = dict(model.named_parameters())
    weight = torch.randn(x.shape, dtype=torch.float64)
    expected = torch.autograd.grad((edge_list_edm(parameters, x, t, mask) * weight).sum(), list(parameters.values()))
    got = torch.autograd.grad((model(x, t, {"mask": mask}) * weight).sum(), list(parameters.values()))
    assert_close(got, expected, rtol=1e-10, atol=1e-10)


# QM9 with charges, GEOM-Drugs without (16 elements), and a small one
@pytest.mark.parametrize(("width", "blocks", "features"), [(256, 9, 6), (256, 4, 16), (8, 2, 3)])
def test_weights_imply_the_network(width: int, blocks: int, features: int) -> None:
    source = EDM(width=width, blocks=blocks, features=features)
    loaded = EDM.from_state_dict(source.state_dict())
    assert loaded.state_dict().keys() == source.state_dict().keys()
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_double_precision_weights_stay_double() -> None:
    source = EDM(width=8, blocks=1, features=6).double()
    loaded = EDM.from_state_dict(source.state_dict())
    key = "dynamics.egnn.embedding.weight"
    assert torch.equal(loaded.get_parameter(key), source.get_parameter(key))


def test_missing_unexpected_and_misshaped_keys_are_all_named(weights: dict[str, Tensor]) -> None:
    del weights["gamma.gamma"]
    weights["module.extra"] = torch.zeros(2)
    weights["dynamics.egnn.e_block_1.gcl_0.edge_mlp.0.weight"] = torch.zeros(8, 17)
    with pytest.raises(ValueError, match=r"width 8, 2 blocks, 6 features") as error:
        EDM.from_state_dict(weights)
    assert "missing: gamma.gamma" in str(error.value)
    assert "unexpected: module.extra" in str(error.value)
    assert "e_block_1.gcl_0.edge_mlp.0.weight (8, 17) instead of (8, 18)" in str(error.value)


def test_a_gap_in_the_blocks_is_named(weights: dict[str, Tensor]) -> None:
    gap = {key.replace("e_block_1", "e_block_5"): value for key, value in weights.items()}
    with pytest.raises(ValueError, match=r"missing: dynamics.egnn.e_block_1.*unexpected: dynamics.egnn.e_block_5"):
        EDM.from_state_dict(gap)


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not EDM weights: dynamics.egnn.embedding.weight: no such key"):
        EDM.from_state_dict({"layer.weight": torch.zeros(3, 3)})


def test_a_safetensors_file_loads(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    save_file(weights, tmp_path / "edm.safetensors")
    loaded = EDM.from_safetensors(tmp_path / "edm.safetensors").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())


def test_a_pickle_is_refused_with_its_name(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "generative_model_ema.npy"
    torch.save(weights, path)
    with pytest.raises(ValueError, match=r"generative_model_ema\.npy: not a safetensors file"):
        EDM.from_safetensors(path)


def test_a_file_with_other_weights_is_refused_with_its_name(tmp_path: Path) -> None:
    save_file({"layer.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors: not EDM weights"):
        EDM.from_safetensors(tmp_path / "other.safetensors")
