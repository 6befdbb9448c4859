"""Predictions of users' models: by hand, by both kinds of files, and what is refused."""

import csv
import io
import json
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import complaint, molrl
from test_combine import cell
from test_molecule_rewards import BAD, from_smiles

from molrl.data.molecules.bonds import rdkit_bonds
from molrl.exit_codes import ExitCode
from molrl.rewards import user_models
from molrl.rewards.molecules.features import Features
from molrl.rewards.molecules.predictor import Predictor
from molrl.rewards.user_models import load_user_model

onnx = pytest.importorskip("onnx")
skops = pytest.importorskip("skops.io")
pytest.importorskip("onnxruntime")
linear = pytest.importorskip("sklearn.linear_model")
ensemble = pytest.importorskip("sklearn.ensemble")

COUNTS = ["HeavyAtomCount", "NumHDonors"]
ETHANOL = from_smiles("CCO")  # three heavy atoms, one donor


def features(**changes: Any) -> Features:
    plain: dict[str, Any] = {
        "fingerprint": None,
        "radius": 2,
        "size": 64,
        "counts": False,
        "stereo": False,
        "descriptors": [],
    }
    return Features(**{**plain, **changes})


def predictor(file: Path, described: Features, **changes: Any) -> Predictor:
    return Predictor(
        **{
            **{"file": str(file), "features": described, "target": None, "floor": -9.0, "reader": rdkit_bonds},
            **changes,
        }
    )


def linear_onnx(path: Path, weights: list[list[float]], bias: list[float], **changes: Any) -> Path:
    """Write x W + b as an ONNX model."""
    shape = changes.get("shape", [None, len(weights)])
    kind = changes.get("kind", onnx.TensorProto.FLOAT)
    arrays = {"W": np.array(weights, np.float32), "b": np.array(bias, np.float32)}
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["floats"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Gemm", ["floats", "W", "b"], ["y"]),
        *changes.get("nodes", []),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "model",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        changes.get("outputs", [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, len(bias)])]),
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def logistic(weights: list[list[float]], bias: list[float], classes: list[Any]) -> Any:
    model = linear.LogisticRegression()
    model.coef_, model.intercept_, model.classes_ = np.array(weights), np.array(bias), np.array(classes)
    model.n_features_in_ = len(weights[0])
    return model


def dumped(path: Path, model: Any) -> Path:
    path.write_bytes(skops.dumps(model))
    return path


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "INT64"])
def test_an_onnx_model_predicts_what_its_weights_say(tmp_path: Path, kind: str) -> None:
    file = linear_onnx(tmp_path / "m.onnx", [[2.0], [10.0]], [0.5], kind=getattr(onnx.TensorProto, kind))
    reward = predictor(file, features(descriptors=COUNTS))
    assert reward.score_one(ETHANOL) == (2 * 3 + 10 * 1 + 0.5, "")
    assert reward.score_one(from_smiles("CC")) == (2 * 2 + 0.5, "")


def test_the_probability_of_a_class_is_the_logistic_function(tmp_path: Path) -> None:
    file = dumped(tmp_path / "m.skops", logistic([[0.5, -1.0]], [0.25], [0, 1]))
    active = predictor(file, features(descriptors=COUNTS))
    inactive = predictor(file, features(descriptors=COUNTS), target=0)
    odds = 0.5 * 3 - 1.0 * 1 + 0.25
    assert active.score_one(ETHANOL).value == pytest.approx(1 / (1 + math.exp(-odds)))
    assert inactive.score_one(ETHANOL).value == pytest.approx(1 / (1 + math.exp(odds)))


def test_a_class_is_chosen_by_its_label(tmp_path: Path) -> None:
    model = logistic([[1.0], [2.0], [3.0]], [0.0, 0.0, 0.0], ["agonist", "antagonist", "none"])
    file = dumped(tmp_path / "m.skops", model)
    with pytest.raises(ValueError, match="target: got none, the model has the classes agonist, antagonist, none"):
        predictor(file, features(descriptors=["HeavyAtomCount"]))
    reward = predictor(file, features(descriptors=["HeavyAtomCount"]), target="antagonist")
    assert reward.score_one(ETHANOL).value == pytest.approx(math.exp(6) / (math.exp(3) + math.exp(6) + math.exp(9)))


def test_two_columns_that_may_be_anything_have_to_be_chosen(tmp_path: Path) -> None:
    file = linear_onnx(tmp_path / "m.onnx", [[1.0, 5.0]], [0.0, 0.0])
    with pytest.raises(ValueError, match="target: got none, the model has the columns 0, 1"):
        predictor(file, features(descriptors=["HeavyAtomCount"]))
    assert predictor(file, features(descriptors=["HeavyAtomCount"]), target=1).score_one(ETHANOL).value == 15


def test_probabilities_by_class_as_sklearn_onnx_writes_them(tmp_path: Path) -> None:
    """ZipMap makes a dictionary of each row."""
    made = onnx.helper
    zipped = made.make_node("ZipMap", ["y"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    labels = made.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0)
    outputs = [
        made.make_tensor_value_info("label", onnx.TensorProto.INT64, [None]),
        made.make_value_info(
            "p",
            made.make_sequence_type_proto(
                made.make_map_type_proto(
                    onnx.TensorProto.INT64, made.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
                )
            ),
        ),
    ]
    file = linear_onnx(tmp_path / "m.onnx", [[1.0, 5.0]], [0.0, 0.0], nodes=[zipped, labels], outputs=outputs)
    model = onnx.load_model_from_string(file.read_bytes())
    model.opset_import.append(made.make_opsetid("ai.onnx.ml", 3))
    file.write_bytes(model.SerializeToString())
    assert predictor(file, features(descriptors=["HeavyAtomCount"])).score_one(ETHANOL).value == 15
    assert predictor(file, features(descriptors=["HeavyAtomCount"]), target=0).score_one(ETHANOL).value == 3


def test_fingerprints_count_what_can_be_counted_by_hand() -> None:
    """Propane has two kinds of atoms, three atoms, and at radius 1 two more kinds of surroundings."""
    assert features(fingerprint="morgan", radius=0, size=2048)("CCC").sum() == 2
    assert features(fingerprint="morgan", radius=0, size=2048, counts=True)("CCC").sum() == 3
    assert features(fingerprint="morgan", radius=1, size=2048)("CCC").sum() == 4
    assert features(fingerprint="atom_pair", size=2048, counts=True)("CCC").sum() == 3  # of three atoms
    assert features(fingerprint="torsion", size=2048, counts=True)("CCCCC").sum() == 2  # chains of four
    keys = features(fingerprint="maccs")("CCO")
    assert (len(keys), keys[0], keys[164]) == (167, 0, 1)  # key 164: an oxygen


def test_stereoisomers_differ_where_that_is_asked_for() -> None:
    left, right = "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"
    blind, seeing = (features(fingerprint="morgan", size=2048, stereo=stereo) for stereo in (False, True))
    assert (blind(left) == blind(right)).all()
    assert (seeing(left) != seeing(right)).any()


def test_descriptors_follow_the_fingerprint() -> None:
    both = features(fingerprint="morgan", size=64, descriptors=COUNTS)("CCO")
    assert len(both) == 66
    assert both[64:].tolist() == [3, 1]
    assert (both[:64] == features(fingerprint="morgan", size=64)("CCO")).all()


@pytest.mark.parametrize(
    "model",
    [
        "RandomForestClassifier",
        "ExtraTreesRegressor",
        "GradientBoostingRegressor",
        "HistGradientBoostingClassifier",
        "AdaBoostClassifier",
    ],
)
def test_fitted_models_predict_as_before_they_were_written(tmp_path: Path, model: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 4))
    fitted = getattr(ensemble, model)(random_state=0).set_params(
        **{"max_iter" if "Hist" in model else "n_estimators": 4}
    )
    fitted.fit(rows, (rows[:, 0] > 0).astype(int))
    loaded = load_user_model(str(dumped(tmp_path / "m.skops", fitted)), 4)
    expected = fitted.predict_proba(rows) if "Classifier" in model else fitted.predict(rows)[:, None]
    np.testing.assert_array_equal(loaded.predict(rows), expected)
    assert loaded.column(None) == expected.shape[1] - 1


def test_a_model_of_another_width_is_refused(tmp_path: Path) -> None:
    onnx_file = linear_onnx(tmp_path / "m.onnx", [[2.0], [10.0]], [0.5])
    open_file = linear_onnx(tmp_path / "open.onnx", [[2.0], [10.0]], [0.5], shape=[None, None])
    skops_file = dumped(tmp_path / "m.skops", logistic([[0.5, -1.0]], [0.25], [0, 1]))
    for file in (onnx_file, skops_file):
        with pytest.raises(ValueError, match="takes rows of 2 numbers, the features have 64"):
            predictor(file, features(fingerprint="morgan"))
    with pytest.raises(ValueError, match=r"open.onnx: cannot predict one row of 64 numbers"):
        predictor(open_file, features(fingerprint="morgan"))
    with pytest.raises(ValueError, match=r"takes an array of shape \[7, 2\], need rows"):
        load_user_model(str(linear_onnx(tmp_path / "seven.onnx", [[2.0], [10.0]], [0.5], shape=[7, 2])), 2)


class Unknown:
    """A type of somebody else's."""


def test_nothing_but_models_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(1))
    with pytest.raises(ValueError, match=r"need an .onnx or a .skops file; a pickle could run any code"):
        load_user_model(str(tmp_path / "m.pkl"), 2)
    for name in ("m.onnx", "m.skops"):
        (tmp_path / name).write_bytes(pickle.dumps(1))
        with pytest.raises(ValueError, match=r"cannot load it|no .skops file that can be read"):
            load_user_model(str(tmp_path / name), 2)
    with pytest.raises(ValueError, match="cannot be read"):
        load_user_model(str(tmp_path / "missing.onnx"), 2)


def test_types_that_are_not_scikit_learns_are_refused(tmp_path: Path) -> None:
    model = logistic([[0.5, -1.0]], [0.25], [0, 1])
    model.extra = Unknown()
    with pytest.raises(ValueError, match=r"holds test_predictor.Unknown, which is not scikit-learn's own"):
        load_user_model(str(dumped(tmp_path / "m.skops", model)), 2)


def test_a_function_of_the_system_in_a_skops_file_is_refused(tmp_path: Path) -> None:
    """The schema of a file that would call os.system when it is built."""
    call = {
        "__class__": "system",
        "__module__": "os",
        "__loader__": "FunctionNode",
        "content": {"module_path": "os", "function": "system"},
        "__id__": 1,
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("schema.json", json.dumps({**call, "protocol": 0, "_skops_version": "0.10"}))
    (tmp_path / "m.skops").write_bytes(data.getvalue())
    with pytest.raises(ValueError, match=r"os|posix"):
        load_user_model(str(tmp_path / "m.skops"), 2)


def test_what_predicts_nothing_is_refused(tmp_path: Path) -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    scaler = preprocessing.StandardScaler().fit(np.eye(2))
    with pytest.raises(ValueError, match="holds a StandardScaler, need a regressor or a classifier"):
        load_user_model(str(dumped(tmp_path / "m.skops", scaler)), 2)
    machine = linear.RidgeClassifier().fit(np.eye(2), [0, 1])
    with pytest.raises(ValueError, match="need a classifier with predict_proba"):
        load_user_model(str(dumped(tmp_path / "m.skops", machine)), 2)
    with pytest.raises(ValueError, match="cannot predict one row of 2 numbers"):
        load_user_model(str(dumped(tmp_path / "m.skops", ensemble.RandomForestRegressor())), 2)


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = dumped(tmp_path / "m.skops", logistic([[0.5, -1.0]], [0.25], [0, 1]))
    monkeypatch.setattr(user_models, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(ValueError, match=r"unpacks to \d+ bytes, at most 100"):
        load_user_model(str(file), 2)


def test_weights_outside_an_onnx_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = linear_onnx(tmp_path / "m.onnx", [[2.0], [10.0]], [0.5])
    model = onnx.load_model_from_string(file.read_bytes())
    weights = model.graph.initializer[0]
    (tmp_path / "secret").write_bytes(weights.raw_data)
    onnx.external_data_helper.set_external_data(weights, "secret")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    file.write_bytes(model.SerializeToString())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ValueError, match="onnxruntime cannot load it"):
        load_user_model(str(file), 2)


def test_a_bad_sample_has_the_floor(tmp_path: Path) -> None:
    reward = predictor(linear_onnx(tmp_path / "m.onnx", [[2.0], [10.0]], [0.5]), features(descriptors=COUNTS))
    for smiles, reason in BAD.items():
        assert reward.score_one(from_smiles(smiles)) == (-9.0, reason)


def test_a_predictor_travels_to_a_worker_without_its_model(tmp_path: Path) -> None:
    reward = predictor(linear_onnx(tmp_path / "m.onnx", [[2.0], [10.0]], [0.5]), features(descriptors=COUNTS))
    assert pickle.loads(pickle.dumps(reward)).score_one(ETHANOL) == reward.score_one(ETHANOL)


def test_wrong_settings_are_named() -> None:
    for changes, message in (
        ({"descriptors": ["MolWT"]}, "descriptors: got 'MolWT', RDKit has none; did you mean MolWt"),
        ({}, "got neither a fingerprint nor descriptors"),
        ({"fingerprint": "maccs", "counts": True}, "maccs keys have neither"),
        ({"fingerprint": "morgan", "size": 0}, "radius, size: got 2, 0"),
    ):
        with pytest.raises(ValueError, match=message):
            features(**changes)


def test_the_command_line_scores_by_a_model(tmp_path: Path) -> None:
    model, file, out = tmp_path / "m.onnx", tmp_path / "new.smi", tmp_path / "out.csv"
    linear_onnx(model, [[1.0]] * 66, [0.0])
    file.write_text("CCO\nCC\n")
    asked = ["score", str(file), f"out={out}", "reward=predictor", f"reward.scorer.file={model}", "reward.workers=1"]
    counts = f"reward.scorer.features.descriptors=[{','.join(COUNTS)}]"
    assert "takes rows of 66 numbers, the features have 2050" in complaint([*asked, counts], ExitCode.USAGE)
    assert molrl(*asked, counts, "reward.scorer.features.size=64").code == ExitCode.DONE
    bits = features(fingerprint="morgan")
    values = [float(cell(row, "predictor")) for row in csv.DictReader(out.open())]
    assert values == [bits("CCO").sum() + 4, bits("CC").sum() + 2]
