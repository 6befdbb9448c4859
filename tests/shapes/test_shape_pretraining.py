"""`molrl pretrain model=shapes` learns from procedural shapes and leaves a model that the other commands take."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import complaint, molrl

from molrl.data.shapes.ply import write_ply
from molrl.data.shapes.procedural import Procedural
from molrl.data.shapes.sets import file_set, procedural_set
from molrl.data.shapes.stl import write_stl
from molrl.models.shapes.model import load_shapes
from molrl.models.shapes.pretraining import ShapeDesign
from molrl.models.shapes.stable_target import StableLoss
from molrl.pretraining import denoising_loss

pytest.importorskip("manifold3d", reason="procedural shapes need the extra shapes")

QUICK = (
    *(
        "model=shapes",
        "model.points=16",
        "model.pool=64",
        "data.n=20",
        "data.held_out=10",
        "evaluate=6",
        "num_steps=3",
        "threads=1",
    ),
    "model.network={kind: set_transformer, width: 8, layers: 1, inducers: 2, heads: 2}",
    *("training.steps=4", "training.batch=4", "training.save_every=2", "training.warmup=1", "training.cooldown=1"),
)
FAMILIES = ("chair", "lamp")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain") / "run"
    done = molrl("pretrain", f"run={folder}", *QUICK)
    assert done.code == 0, done.err
    assert "20 shapes" in done.out
    return folder


def test_pretraining_makes_a_model_that_can_be_sampled(trained: Path, tmp_path: Path) -> None:
    model = load_shapes(str(trained / "model"))
    assert list(model.architecture.classes) == ["airplane", "car", "chair", "lamp", "table"]
    assert len(model.reference) == 10
    out = tmp_path / "new.npz"
    assert molrl("sample", f"policy={trained / 'model'}", "n=3", f"out={out}", "policy.num_steps=3").code == 0
    rows = [json.loads(line) for line in (trained / "pretrain.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert all(0 <= row["one_nna"] <= 1 for row in rows)


def test_pretraining_goes_on_to_what_it_would_have_been(trained: Path, tmp_path: Path) -> None:
    rest = [item for item in QUICK if not item.startswith(("training.steps", "training.cooldown"))]
    for steps in (2, 4):
        settings = [f"training.steps={steps}", "training.cooldown=1" if steps == 4 else "training.cooldown=0"]
        assert molrl("pretrain", f"run={tmp_path / 'run'}", *rest, *settings).code == 0
    uninterrupted, parts = (
        load_shapes(str(path / "model")).denoiser.state_dict() for path in (trained, tmp_path / "run")
    )
    assert all(torch.equal(uninterrupted[name], parts[name]) for name in uninterrupted)


def test_training_may_start_from_another_model(trained: Path, tmp_path: Path) -> None:
    """One step at a rate of nearly nothing leaves its weights where they were; the number of points may differ."""
    still = [f"init={trained / 'model'}", "training.steps=1", "training.lr=1e-9", "training.save_every=1"]
    assert molrl("pretrain", f"run={tmp_path / 'run'}", *QUICK, "model.points=24", *still).code == 0
    before, after = (load_shapes(str(path / "model")) for path in (trained, tmp_path / "run"))
    assert after.architecture.points == 24
    old, new = before.denoiser.state_dict(), after.denoiser.state_dict()
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data=enumerated"], "model=shapes shapes data=enumerated molecules"),
        (["model.points=1"], "points 1 2"),
        (["model.pool=15"], "pool 15 16"),
        (["model.network.heads=3"], "heads 3 8"),
        (["model.network.kind=egnn"], "egnn set_transformer"),
        (["data.families=[boat]"], "boat airplane"),
        (["data.n=0"], "n 0 1"),
        (["model.noise_min=-1"], "noise_min -1"),
        (["model.written=8"], "written 8 set_transformer writes all points that it reads"),
        (["model.written=17"], "written 17 1 16"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_is_said_and_leaves_no_folder(changes: list[str], words: str, tmp_path: Path) -> None:
    quick = QUICK if changes != ["data=enumerated"] else [item for item in QUICK if not item.startswith("data.")]
    message = complaint(["pretrain", f"run={tmp_path / 'run'}", *quick, *changes], 2)
    assert not [word for word in words.split() if word not in message], message
    assert not (tmp_path / "run").exists()


def test_without_spare_points_the_loss_is_the_usual_one() -> None:
    sizes: dict[str, Any] = {"network": {}, "points": 16, "noise_min": 0.05, "noise_max": 20.0}
    assert ShapeDesign(**sizes, pool=16).loss is denoising_loss
    assert ShapeDesign(**sizes, pool=17).loss == StableLoss(16)
    latents: dict[str, Any] = {**sizes, "network": {"kind": "latent_transformer"}, "written": 4}
    assert ShapeDesign(**latents, pool=17).loss == StableLoss(16, 4)
    with pytest.raises(ValueError, match="written: got 4, allowed 1 to 16"):
        ShapeDesign(**latents, pool=16)


def test_molecules_are_not_learnt_from_shapes(tmp_path: Path) -> None:
    said = complaint(["pretrain", "data=procedural", f"run={tmp_path / 'run'}"], 2)
    assert "model=heavy is for molecules, data=procedural is for shapes" in said


def test_a_longer_set_begins_with_the_shorter_one() -> None:
    short, long = (
        procedural_set(families=FAMILIES, n=n, held_out=2, seed=0, tippy=0.2, asymmetric=0.2, points=12) for n in (3, 6)
    )
    for one, other in zip(short.train, long.train, strict=False):
        np.testing.assert_array_equal(one.points, other.points)
    trained, held = ({cloud.name for cloud in clouds} for clouds in (long.train, long.held_out))
    assert not trained & held


def test_shapes_may_come_from_files(tmp_path: Path) -> None:
    for family in FAMILIES:
        (tmp_path / "mine" / family).mkdir(parents=True)
        procedural = Procedural(families=(family,))
        for index in range(4):
            mesh = procedural.solid(index).mesh
            write_ply(tmp_path / "mine" / family / f"{index}.ply", mesh.vertices, mesh.faces)
    shapes = file_set(path=str(tmp_path / "mine"), held_out=3, seed=0, up="y", points=16)
    assert {cloud.label for cloud in [*shapes.train, *shapes.held_out]} == set(FAMILIES)
    assert (len(shapes.train), len(shapes.held_out)) == (5, 3)
    with pytest.raises(ValueError, match="held_out: got 8 of 8"):
        file_set(path=str(tmp_path / "mine"), held_out=8, seed=0, up="y", points=16)


def test_a_small_file_of_points_fills_a_pool_and_no_cloud_repeats_a_point(tmp_path: Path) -> None:
    """A pool of 48 repeats each of 20 points two or three times; clouds of 16 have 16 different ones."""
    rng, folder = np.random.default_rng(0), tmp_path / "mine" / "rock"
    folder.mkdir(parents=True)
    for number, count in enumerate((20, 48, 15)):
        np.savetxt(folder / f"{number}.xyz", rng.random((count, 3)))
    shapes = file_set(path=str(tmp_path / "mine"), held_out=0, seed=0, up="y", points=48, min_points=16)
    assert sorted(len(np.unique(cloud.points, axis=0)) for cloud in shapes.train) == [20, 48]
    design = ShapeDesign(network={"kind": "set_transformer"}, points=16, pool=48, noise_min=0.02, noise_max=20.0)
    pools = design.describe(shapes)[1]
    drawn = pools.rows(torch.arange(6))[0][:, :16]
    assert [len(cloud.unique(dim=0)) for cloud in drawn] == [16] * 6
    with pytest.raises(ValueError, match="min_points: got 49, allowed 1 to 48"):
        file_set(path=str(tmp_path / "mine"), held_out=0, seed=0, up="y", points=48, min_points=49)


@pytest.mark.parametrize("points", [24, 200])
def test_a_folder_of_meshes_trains_a_model_of_any_number_of_points(tmp_path: Path, points: int) -> None:
    """Boxes and wedges, in files of two formats: read, learned by latents, drawn, and written as closed meshes."""
    rng = np.random.default_rng(1)
    cube = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([part for a, b, c, d in quads for part in ((a, b, c), (a, c, d))])
    for label, top in (("box", 1.0), ("wedge", 0.3)):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for number, write in enumerate([write_ply, write_stl] * 3):
            corners = cube * rng.uniform(0.5, 1.0, 3) * np.where(cube[:, [1]] > 0, [top, 1, 1], 1)
            write(tmp_path / "mine" / label / f"{number}{'.ply' if write is write_ply else '.stl'}", corners, faces)
    network = "{kind: latent_transformer, width: 8, latents: 4, latent_width: 16, blocks: 1, layers: 1, heads: 2}"
    settings = [f"model.network={network}", f"model.points={points}", f"model.pool={2 * points}", "model.written=16"]
    quick = [item for item in QUICK if not item.startswith(("data.", "model"))]
    source = ["model=shapes_1024", "data=shape_files", f"data.path={tmp_path / 'mine'}", "data.held_out=4"]
    done = molrl("pretrain", f"run={tmp_path / 'run'}", *source, *quick, *settings)
    assert done.code == 0, done.err
    model = load_shapes(str(tmp_path / "run" / "model"))
    assert model.architecture.points == points
    assert list(model.architecture.classes) == ["box", "wedge"]
    drawn = molrl("sample", f"policy={tmp_path / 'run'}", "n=2", f"out={tmp_path / 'new.npz'}", "policy.num_steps=2")
    assert drawn.code == 0, drawn.err
    with np.load(tmp_path / "new.npz", allow_pickle=False) as archive:
        assert archive["points"].shape == (2, points, 3)


def test_states_have_mean_zero_and_scale_one() -> None:
    shapes = procedural_set(families=FAMILIES, n=30, held_out=0, seed=0, tippy=0.2, asymmetric=0.2, points=64)
    design = ShapeDesign(network={"kind": "set_transformer"}, points=16, pool=64, noise_min=0.02, noise_max=20.0)
    architecture, pools = design.describe(shapes)
    states = pools.x0.double()
    torch.testing.assert_close(states.mean((0, 1)), torch.zeros(3, dtype=torch.float64), atol=1e-3, rtol=0)
    assert states.square().mean().item() == pytest.approx(1, abs=1e-3)
    rms = states.square().mean((0, 1)).sqrt()
    torch.testing.assert_close(rms, torch.tensor(architecture.data_std, dtype=torch.float64), atol=1e-3, rtol=0)
