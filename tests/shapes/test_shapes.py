"""Point clouds behind the same protocols as molecules: what a shape model draws, keeps, refuses and is trained with."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import complaint, molrl
from solids import cloud, sphere
from torch import Tensor

from molrl.composition import compose
from molrl.data.shapes.cloud import PointCloud, place_in_unit_box
from molrl.data.shapes.files import read_shape
from molrl.data.shapes.metrics import chamfer_matrix
from molrl.data.shapes.ply import write_ply
from molrl.data.shapes.procedural import Procedural
from molrl.data.shapes.sets import ShapeSet
from molrl.models.draws import draw_samples
from molrl.models.molecules.model import load
from molrl.models.shapes.checks import checks
from molrl.models.shapes.decoder import MAX_ROUND_SAMPLES, RealShapes, ShapeDecoder
from molrl.models.shapes.model import ShapeArchitecture, load_shapes, save_shapes
from molrl.models.shapes.policy import shape_policy
from molrl.models.shapes.quality import pair_with_reference, quality
from molrl.noise import Key
from molrl.rewards.shapes.chamfer import Likeness
from molrl.run import prepare, train
from molrl.runs.errors import CheckpointError

POINTS = 24
CLASSES = ("ball", "stick")
ARCHITECTURE = ShapeArchitecture(
    network={"kind": "set_transformer", "width": 16, "layers": 1, "inducers": 4, "heads": 2},
    classes=CLASSES,
    points=POINTS,
    mean=(0.1, -0.2, 0.0),
    std=0.5,
    data_std=(1.0, 1.0, 1.0),
    noise_min=0.02,
    noise_max=20.0,
)


def clouds(count: int, seed: int = 0, points: int = POINTS) -> list[PointCloud]:
    """Return balls and sticks in turn, as point clouds."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        stretch = (1.0, 1.0, 1.0) if index % 2 == 0 else (0.05, 1.0, 0.05)
        points_at = rng.normal(size=(points, 3)) * stretch
        found.append(PointCloud(place_in_unit_box(points_at.astype(np.float32)), CLASSES[index % 2]))
    return found


def balls_and_sticks(*, points: int) -> ShapeSet:
    return ShapeSet(clouds(40, points=points), clouds(8, seed=1, points=points))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = ARCHITECTURE.build()
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_shapes(tmp_path / "shapes", ARCHITECTURE, model.denoiser.state_dict(), clouds(8, seed=1))
    return tmp_path / "shapes"


def domain_of(folder: Path, **asked: Any) -> ShapeDecoder:
    return ShapeDecoder(model=load_shapes(str(folder)), **asked)


def test_a_model_comes_back_as_it_was_saved(folder: Path) -> None:
    model = load_shapes(str(folder))
    assert model.architecture.plain() == json.loads((folder / "model.json").read_text())
    assert [cloud.label for cloud in model.reference] == [cloud.label for cloud in clouds(8, seed=1)]
    np.testing.assert_allclose(model.reference[3].points, clouds(8, seed=1)[3].points, atol=1e-3)


def test_models_of_one_domain_are_refused_by_the_other(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="a model of shapes, here one of molecules is needed"):
        load(str(folder))
    with pytest.raises(CheckpointError, match="a model of molecules, here one of shapes is needed"):
        load_shapes("qm9_heavy")


@pytest.mark.parametrize(
    "change",
    [{"network": {"kind": "mlp"}}, {"classes": []}, {"points": 0}, {"std": 0.0}, {"layers": 1}],
    ids=lambda change: next(iter(change)),
)
def test_a_folder_that_describes_no_shape_model_is_named(
    change: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ShapeArchitecture, "plain", lambda self: {"format": 2, "domain": "shapes", **vars(self), **change}
    )
    save_shapes(folder, ARCHITECTURE, ARCHITECTURE.build().denoiser.state_dict(), clouds(2))
    with pytest.raises(CheckpointError, match="not a model of shapes"):
        load_shapes(str(folder))


def test_a_shape_that_is_encoded_and_decoded_is_the_same_shape() -> None:
    shapes = clouds(4)
    x, classes = ARCHITECTURE.encode(shapes)
    for shape, back in zip(shapes, ARCHITECTURE.decode(x, classes), strict=True):
        assert back.label == shape.label
        np.testing.assert_allclose(back.points, shape.points, atol=1e-5)


def test_a_class_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['cube'\].*ball, stick"):
        ARCHITECTURE.encode([PointCloud(clouds(1)[0].points, "cube")])


def test_a_state_that_is_no_shape_becomes_a_single_point() -> None:
    x = torch.zeros(3, POINTS, 3)
    x[1, 2, 0] = torch.nan
    x[2, 0, 0] = 1.0
    decoded = ARCHITECTURE.decode(x, torch.zeros(3, dtype=torch.long))
    assert [len(cloud) for cloud in decoded] == [1, 1, POINTS]


def test_a_state_with_a_gradient_keeps_it(folder: Path) -> None:
    """Rewards that have a gradient see the same shapes with one."""
    x, classes = ARCHITECTURE.encode(clouds(2))
    traced = domain_of(folder).decode(x.requires_grad_(), {"class": classes})
    np.testing.assert_allclose(traced[1].points.detach().numpy(), clouds(2)[1].points, atol=1e-5)
    assert [cloud.label for cloud in traced] == [cloud.label for cloud in clouds(2)]
    (gradient,) = torch.autograd.grad(traced[1].points.sum(), x)
    assert (gradient[1] == ARCHITECTURE.std).all()
    assert not gradient[0].any()


def test_classes_are_drawn_for_each_sample_or_asked_for(folder: Path) -> None:
    decoder, key = domain_of(folder), Key(3)
    drawn = decoder.draw_context(range(400), key)["class"]
    assert abs(drawn.double().mean().item() - 0.5) < 0.1
    assert decoder.draw_context([7, 9], key)["class"].tolist() == drawn[[7, 9]].tolist()
    assert decoder.groups({"class": drawn}) == drawn.tolist()
    asked = domain_of(folder, classes="stick")
    assert asked.draw_context(range(5), key)["class"].tolist() == [1] * 5


@pytest.mark.parametrize(("asked", "word"), [({"classes": "cube"}, "ball, stick"), ({"points": 1}, "at least 2")])
def test_what_cannot_be_asked_for_is_said(asked: dict[str, Any], word: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=word):
        domain_of(folder, **asked)


def test_every_number_of_a_state_is_a_degree_of_freedom(folder: Path) -> None:
    """Clouds are not centred one by one."""
    model = load_shapes(str(folder))
    policy = shape_policy(model, num_steps=3, grid_power=1.0, eta=1.0, device=torch.device("cpu"))
    x = torch.zeros(2, POINTS, 3)
    assert policy.sampler.space.dof(x, {}).tolist() == [3 * POINTS] * 2


def test_a_sample_depends_on_the_seed_and_its_index_alone(folder: Path) -> None:
    decoder = domain_of(folder, points=40)
    policy = shape_policy(decoder.model, num_steps=4, grid_power=1.0, eta=1.0, device=torch.device("cpu"))
    few, many = (
        draw_samples(policy, decoder, n, seed=0, batch=batch, device=torch.device("cpu"))
        for n, batch in ((3, 3), (7, 2))
    )
    for one, other in zip(few, many[:3], strict=True):
        assert len(one) == 40
        assert one.label == other.label
        np.testing.assert_allclose(one.points, other.points, atol=1e-3)


def test_real_shapes_come_in_the_setting_of_the_domain(folder: Path) -> None:
    real = RealShapes(balls_and_sticks, domain_of(folder, points=10, classes="stick"))
    x0, context = real([4, 5], Key(0))
    assert x0.shape == (2, 10, 3)
    assert context["class"].tolist() == [1, 1]
    torch.testing.assert_close(real([5], Key(0))[0][0], x0[1])


def test_the_chamfer_distance_is_the_mean_squared_distance_both_ways() -> None:
    a = np.array([[[0.0, 0, 0], [1, 0, 0]]])
    b = np.array([[[0.0, 0, 2], [0, 0, 1]]])
    assert chamfer_matrix(a, b).item() == pytest.approx((1 + 2) / 2 + (4 + 1) / 2)


def test_each_sample_is_compared_with_a_reference_of_its_class() -> None:
    """Three balls and two balls: one ball has nothing to be compared with; a single point is no shape."""
    broken = PointCloud(np.zeros((1, 3), np.float32), "ball")
    reference = clouds(4)
    kept, matched = pair_with_reference([broken, *clouds(6, seed=2)[::2]], reference)
    assert [cloud.label for cloud in kept] == ["ball", "ball"]
    assert [id(cloud) for cloud in matched] == [id(reference[0]), id(reference[2])]


def test_several_classes_are_asked_for_equally_often(folder: Path) -> None:
    both, one = domain_of(folder, classes=["stick", "ball"]), domain_of(folder, classes=["stick"])
    numbers = both.draw_context(range(400), Key(0))["class"]
    assert 160 < int((numbers == 0).sum()) < 240
    assert one.draw_context(range(5), Key(0))["class"].tolist() == [1] * 5
    for wrong in (["ball", "cube"], []):
        with pytest.raises(ValueError, match="this model knows ball, stick"):
            domain_of(folder, classes=wrong)


def test_a_round_looks_at_some_samples_and_a_report_at_all(folder: Path) -> None:
    decoder = domain_of(folder)
    samples = [
        *clouds(MAX_ROUND_SAMPLES, points=128),
        *(replace(cloud, label="ball") for cloud in clouds(MAX_ROUND_SAMPLES, points=128)),
    ]
    assert decoder.measure(samples).keys() == decoder.assess(samples).keys()
    assert decoder.measure(samples)["stable_fraction"] == checks(samples[:MAX_ROUND_SAMPLES])["stable_fraction"]
    assert decoder.assess(samples)["stable_fraction"] == checks(samples)["stable_fraction"]


def test_what_stands_is_symmetric_and_is_what_it_is_called() -> None:
    shapes = Procedural(families=("chair", "lamp"), split="test", tippy=0.0, asymmetric=0.0)
    tippy = Procedural(families=("chair", "lamp"), split="test", tippy=1.0, asymmetric=0.0)
    sound, falling = (checks([source.point_cloud(index, 512) for index in range(20)]) for source in (shapes, tippy))
    assert sound["stable_fraction"] >= 0.9
    assert falling["stable_fraction"] <= 0.1
    assert sound["symmetric_fraction"] >= 0.8
    assert sound["asymmetry"] < 1e-3 < falling["asymmetry"]
    assert sound["class_accuracy"] >= 0.95
    renamed = [replace(shapes.point_cloud(0, 512), label="lamp"), shapes.point_cloud(1, 512)]
    assert checks(renamed)["class_accuracy"] == 0.5
    assert np.isnan(checks(clouds(3, points=128))["class_accuracy"])
    assert all(np.isnan(value) for value in checks([]).values())


def test_quality_knows_its_own_kind_from_another() -> None:
    same = quality(clouds(40, seed=5, points=128), clouds(40, seed=6, points=128))
    shrunk = [PointCloud(cloud.points * np.float32(0.3), cloud.label) for cloud in clouds(40, seed=5, points=128)]
    other = quality(shrunk, clouds(40, seed=6, points=128))
    assert 0.3 < same["one_nna"] < 0.7
    assert other["one_nna"] == 1.0
    assert other["mmd"] > 2 * same["mmd"]
    assert np.isnan(quality([], clouds(4))["one_nna"])


def test_samples_that_are_no_shapes_lower_the_validity(folder: Path) -> None:
    broken = PointCloud(np.zeros((1, 3), np.float32), "ball")
    assert domain_of(folder).measure([*clouds(3), broken])["validity"] == 0.75


def test_shapes_are_written_with_their_values(folder: Path, tmp_path: Path) -> None:
    broken = PointCloud(np.zeros((1, 3), np.float32), "ball")
    domain_of(folder).write([*clouds(2), broken], tmp_path / "a.npz", {"reward": [1.0, 2.0, 3.0]})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["points"].shape == (2, POINTS, 3)
        assert file["label"].tolist() == ["ball", "stick"]
        assert file["reward"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("kind", [".ply", ".glb"])
def test_shapes_are_written_one_by_one(kind: str, folder: Path, tmp_path: Path) -> None:
    domain_of(folder).write(clouds(2), tmp_path / f"a{kind}", {})
    assert sorted(path.name for path in tmp_path.glob(f"a*{kind}")) == [f"a-0{kind}", f"a-1{kind}"]
    back = read_shape(tmp_path / f"a-1{kind}", POINTS)
    order, expected = (np.lexsort(points.T) for points in (back.points, clouds(2)[1].points))
    np.testing.assert_allclose(back.points[order], clouds(2)[1].points[expected], atol=1e-5)
    domain_of(folder).write(clouds(1), tmp_path / f"one{kind}", {})
    assert (tmp_path / f"one{kind}").exists()


@pytest.mark.parametrize("kind", [".ply", ".glb"])
def test_the_command_names_the_files_that_it_wrote_and_reads_them_as_a_target(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    """They have fewer points than are sampled on a mesh."""
    settings = ("policy.num_steps=3", "policy.points=160")
    done = molrl("sample", f"policy={folder}", "n=2", f"out={tmp_path}/chair{kind}", *settings)
    assert f"wrote 2 files, {tmp_path}/chair-0{kind} to chair-1{kind}" in done.out
    assert len(read_shape(tmp_path / f"chair-0{kind}", 2048)) == 160
    write_ply(tmp_path / "ball.ply", sphere(160))
    reward = Likeness(target=str(tmp_path / "ball.ply"))
    assert reward([cloud(sphere(160))]).item() == pytest.approx(0, abs=1e-6)


def test_shapes_are_drawn_with_their_class(folder: Path) -> None:
    assert domain_of(folder).draw(clouds(3), ["0.1", "0.2", "0.3"]).width > 100


def test_the_command_draws_from_the_model_it_is_given(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.npz"
    done = molrl(
        "sample",
        f"policy={folder}",
        "n=5",
        f"out={out}",
        "policy.num_steps=3",
        "policy.points=32",
        "condition.class=stick",
    )
    assert done.code == 0
    assert "5 shapes" in done.out
    with np.load(out, allow_pickle=False) as file:
        assert file["points"].shape == (5, 32, 3)
        assert set(file["label"].tolist()) == {"stick"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("condition.class=cube", "cube ball stick"),
        ("condition.qed=0.5", "condition.qed class"),
        ("out=a.sdf", "a.sdf shapes .npz .ply .glb"),
        ("policy.points=1", "points 1 2"),
    ],
)
def test_what_a_shape_model_cannot_do_is_said(setting: str, words: str, folder: Path) -> None:
    said = complaint(["sample", f"policy={folder}", "n=2", setting], 2)
    assert not [word for word in words.split() if word not in said], said


def test_molecules_have_no_number_of_points() -> None:
    assert "points=9" in complaint(["sample", "n=2", "points=9"], 2)


def height(samples: Sequence[PointCloud]) -> Tensor:
    """Compute the mean height of the points of each shape."""
    return torch.tensor([float(sample.points[:, 1].mean()) for sample in samples])


def settings_of(folder: Path, run: Path, *changes: str) -> dict[str, Any]:
    policy = (f"policy={folder}", "policy.num_steps=6", "policy.grid_power=1.0", "policy.eta=1.0")
    small = ("device=cpu", "evaluate=8", "threads=1", "task.classes=null")
    return compose("train", ["task=stability", *policy, f"run={run}", *small, *changes])


@pytest.mark.parametrize(
    "changes",
    [
        ["algo=ddpo", "algo.train_steps=3", "algo.first=0.0", "algo.last=1.0", "minibatch=24"],
        ["algo=dpok", "algo.train_steps=3", "algo.first=0.0", "algo.last=1.0", "minibatch=24"],
        ["algo=rgdm", "algo.states=2", "algo.first=0.0", "algo.last=1.0", "minibatch=16", "algo.lookahead=1"],
        ["algo=rwr"],
    ],
    ids=lambda changes: changes[0].removeprefix("algo="),
)
def test_the_trainers_take_shapes_as_they_take_molecules(changes: list[str], folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(settings_of(folder, run, "iterations=2", "rollouts=8", *changes), height) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(np.isfinite(row["reward"]) for row in rows)
    summary = json.loads((run / "summary.json").read_text())
    assert {"one_nna", "coverage", "diversity"} <= summary["after"].keys()
    assert (run / "samples" / "after.npz").exists()
    assert (run / "report.html").exists()
    before, after = (load_shapes(str(place)).denoiser.state_dict() for place in (folder, run / "model"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_task_of_shapes_has_what_the_algorithms_ask_for(folder: Path, tmp_path: Path) -> None:
    task = prepare(settings_of(folder, tmp_path / "run", "algo=dpok"), height).task
    assert task.value_network is not None
    torch.manual_seed(0)
    x, context = torch.randn(3, POINTS, 3), {"class": torch.tensor([0, 1, 1])}
    assert task.value_network()(x, torch.tensor([0.1, 0.5, 1.0]), context).shape == (3,)
