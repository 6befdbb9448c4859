"""Models that users trained: an .onnx file, or a .skops file of scikit-learn. Neither runs code when it is read.

A pickle would, so none is read. A .skops file is refused where it holds more than scikit-learn's own types, the arrays
and plain values in them, and the functions of numpy and scipy.special that skops trusts.
"""

import importlib.util
import io
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from molrl.machine.files import read_bounded

Floats: TypeAlias = NDArray[np.float64]

MAX_BYTES = 1 << 30  # of a file; a forest of 500 trees on 100,000 molecules has some 300 MB
MAX_UNPACKED_BYTES = 4 << 30
TRUSTED = (  # of scikit-learn, beyond its estimators, which skops trusts: what is inside fitted ones
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.DotProduct",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.RationalQuadratic",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.JaccardDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)
ONNX_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}
PACKAGES = {".onnx": ("onnxruntime",), ".skops": ("sklearn", "skops")}


@dataclass(frozen=True)
class UserModel:
    """A fitted model of rows of numbers.

    Attributes:
        predict: rows [n, width] -> values [n, k].
        columns: names of the k values: the classes of a classifier, else "0" to "k - 1".
        is_classifier: whether the columns are the probabilities of classes.
    """

    predict: Callable[[Floats], Floats]
    columns: tuple[str, ...]
    is_classifier: bool

    def column(self, target: str | None) -> int:
        """Return the index of a column by its name; None: the only one, or the second of a classifier's two.

        Raises:
            ValueError: there is no such column, or several without a choice.
        """
        if target is None and (len(self.columns) == 1 or (self.is_classifier and len(self.columns) == 2)):
            return len(self.columns) - 1
        if target in self.columns:
            return self.columns.index(target)
        kind = "classes" if self.is_classifier else "columns"
        raise ValueError(f"target: got {target or 'none'}, the model has the {kind} {', '.join(self.columns[:20])}")


def load_user_model(file: str, width: int) -> UserModel:
    """Return the model in a file, which has predicted one row of `width` zeros.

    Raises:
        ValueError: it is no such file, holds more than a model, or does not take rows of this width.
    """
    suffix = Path(file).suffix.lower()
    if suffix not in PACKAGES:
        raise ValueError(f"file: got {file!r}, need an .onnx or a .skops file; a pickle could run any code")
    if missing := [name for name in PACKAGES[suffix] if importlib.util.find_spec(name) is None]:
        raise ValueError(f"{', '.join(missing)} not installed: pip install 'molrl[predictor]'")
    try:
        data = read_bounded(Path(file).expanduser(), MAX_BYTES, follow=True)
    except OSError as error:
        raise ValueError(f"file: {file} cannot be read ({error.strerror})") from error
    return onnx_model(data, file, width) if suffix == ".onnx" else skops_model(data, file, width)


def onnx_model(data: bytes, file: str, width: int) -> UserModel:
    """Return the model in the bytes of an ONNX file, run on one core.

    Its values are those of its only output of floats, or of probabilities by class (ZipMap of sklearn-onnx).
    """
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised as well
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise ValueError(f"{file}: onnxruntime cannot load it ({first_line(error)})") from error
    source, output = onnx_input(session, file, width), onnx_output(session, file)

    def run(rows: Floats) -> Any:
        return session.run([output], {source.name: rows.astype(ONNX_TYPES[source.type])})[0]

    try:
        first = run(np.zeros((1, width)))
    except Exception as error:  # onnxruntime's errors have no common class
        raise ValueError(f"{file}: cannot predict one row of {width} numbers ({first_line(error)})") from error
    if isinstance(first, list):
        classes = list(first[0])
        return UserModel(
            lambda rows: as_table([[row[one] for one in classes] for row in run(rows)], file),
            tuple(map(str, classes)),
            True,
        )
    columns = as_table(first, file).shape[1]
    return UserModel(lambda rows: as_table(run(rows), file), tuple(map(str, range(columns))), False)


def onnx_input(session: Any, file: str, width: int) -> Any:
    """Return the only input of an ONNX model, which must take rows of numbers of this width."""
    found = [f"{one.name}: {one.type} {one.shape}" for one in session.get_inputs()]
    if len(found) != 1 or session.get_inputs()[0].type not in ONNX_TYPES:
        raise ValueError(f"{file}: has the inputs {'; '.join(found)}; need one of {', '.join(ONNX_TYPES)}")
    shape = session.get_inputs()[0].shape
    if len(shape) != 2 or (isinstance(shape[0], int) and shape[0] != 1):
        raise ValueError(f"{file}: takes an array of shape {shape}, need rows: [any number, width]")
    check_width(shape[1] if isinstance(shape[1], int) else None, width, file)
    return session.get_inputs()[0]


def onnx_output(session: Any, file: str) -> str:
    """Return the name of the only output of an ONNX model that has floats."""
    outputs = [one for one in session.get_outputs() if "float" in one.type or "double" in one.type]
    if len(outputs) != 1:
        found = "; ".join(f"{one.name}: {one.type}" for one in session.get_outputs())
        raise ValueError(f"{file}: has the outputs {found}; need one of floats")
    return str(outputs[0].name)


def skops_model(data: bytes, file: str, width: int) -> UserModel:
    """Return the scikit-learn model in the bytes of a .skops file: probabilities of a classifier, else predictions."""
    skops = import_module("skops.io")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise ValueError(f"unpacks to {unpacked} bytes, at most {MAX_UNPACKED_BYTES}")
        foreign = sorted(set(skops.get_untrusted_types(data=data)) - set(TRUSTED))
        if foreign:
            raise ValueError(f"holds {', '.join(foreign)}, which is not scikit-learn's own; ONNX has no such limit")
        model = skops.loads(data, trusted=list(TRUSTED))
    except ValueError as error:
        raise ValueError(f"{file}: {first_line(error)}") from error
    except Exception as error:  # a damaged archive raises what its parts do
        raise ValueError(f"{file}: is no .skops file that can be read ({type(error).__name__})") from error
    check_width(getattr(model, "n_features_in_", None), width, file)
    is_classifier = hasattr(model, "classes_")
    method = getattr(model, "predict_proba" if is_classifier else "predict", None)
    if method is None:
        need = "a classifier with predict_proba" if is_classifier else "a regressor or a classifier"
        raise ValueError(f"{file}: holds a {type(model).__name__}, need {need}")

    def predict(rows: Floats) -> Floats:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that the columns had in training
            return as_table(method(rows), file)

    try:
        k = predict(np.zeros((1, width))).shape[1]
    except Exception as error:  # whatever an estimator raises
        raise ValueError(f"{file}: cannot predict one row of {width} numbers ({first_line(error)})") from error
    columns = model.classes_ if is_classifier else range(k)
    return UserModel(predict, tuple(map(str, columns)), is_classifier)


def check_width(expected: int | None, width: int, file: str) -> None:
    """Raise ValueError where a model states another width of its rows than that of the features."""
    if expected is not None and expected != width:
        raise ValueError(f"{file}: takes rows of {expected} numbers, the features have {width}")


def as_table(values: Any, file: str) -> Floats:
    """Return predictions [n] or [n, k] as [n, k]."""
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2:
        raise ValueError(f"{file}: predicts an array of shape {table.shape}, need [rows] or [rows, columns]")
    return table


def first_line(error: Exception) -> str:
    """Return the beginning of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
