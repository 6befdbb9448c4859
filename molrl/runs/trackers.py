"""The group `tracker=`: boards of other packages, each an extra. All of them write below the run's folder by default.

Nothing leaves this machine unless a setting says so: `tracker.mode=online`, a server, or a Space.
"""

import hashlib
import importlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from molrl.composition import names
from molrl.runs.boards import Board, quantiles

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_VALUE = 500  # characters of a setting that MLflow takes


def require(package: str, extra: str) -> None:
    """Raise ImportError where a package is missing, before a run begins."""
    if find_spec(package) is None:
        raise ImportError(f"tracker={extra} needs {package}: pip install 'molrl[{extra}]'")


def run_id(folder: Path) -> str:
    """Return an identifier that a run has again when it goes on."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class WeightsAndBiases:
    """Weights & Biases: offline, files below RUN/wandb that `wandb sync` sends; or online.

    Attributes:
        project: that the run belongs to.
        entity: team or user of an online run; None: your default one.
        mode: "offline" writes files, "online" sends while the run goes on.
    """

    project: str
    entity: str | None
    mode: Literal["offline", "online"]

    def __post_init__(self) -> None:
        require("wandb", "wandb")

    def open(self, folder: Path, config: Mapping[str, Any], start: int) -> Board:
        """Return the board of a run; one that goes on has the same identifier."""
        wandb = importlib.import_module("wandb")
        quiet = wandb.Settings(**{"console": "off", "silent": True})
        about = {"project": self.project, "entity": self.entity, "name": folder.name, "id": run_id(folder)}
        run = wandb.init(**about, dir=str(folder), mode=self.mode, resume="allow", config=dict(config), settings=quiet)
        return MediaBoard(wandb, run.log, run.finish)


@dataclass(frozen=True, kw_only=True)
class Trackio:
    """Trackio: a database below RUN/trackio, shown by `TRACKIO_DIR=RUN/trackio trackio show`; or a Space.

    Attributes:
        project: that the run belongs to.
        space: OWNER/NAME of a Space of the Hugging Face Hub that the run is sent to; None: it stays here.
    """

    project: str
    space: str | None

    def __post_init__(self) -> None:
        require("trackio", "trackio")

    def open(self, folder: Path, config: Mapping[str, Any], start: int) -> Board:
        """Return the board of a run; one that goes on is continued."""
        os.environ.setdefault("TRACKIO_DIR", str(folder / "trackio"))  # read when the package is imported
        trackio = importlib.import_module("trackio")
        about = {"project": self.project, "name": folder.name, "space_id": self.space}
        run = trackio.init(**about, config=dict(config), resume="allow", embed=False)
        return MediaBoard(trackio, run.log, trackio.finish)


class MediaBoard:
    """A board of a package with `Image`, `Histogram` and one function that logs any of them at a step."""

    def __init__(self, package: Any, log: Any, finish: Any) -> None:
        self.package = package
        self.send = log
        self.finish = finish

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of one round."""
        self.send(dict(metrics), step=step)

    def image(self, name: str, image: "Image", step: int) -> None:
        """Log an image under its name."""
        self.send({name: self.package.Image(image)}, step=step)

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Log the distribution of values."""
        self.send({name: self.package.Histogram(list(values))}, step=step)

    def close(self) -> None:
        """End the run on this board."""
        self.finish()


@dataclass(frozen=True, kw_only=True)
class MLflow:
    """MLflow: files below RUN/mlflow, shown by `mlflow ui --backend-store-uri RUN/mlflow`; or a server.

    Attributes:
        experiment: that the run belongs to.
        server: its address; None: files below the run's folder.
    """

    experiment: str
    server: str | None

    def __post_init__(self) -> None:
        require("mlflow", "mlflow")

    def open(self, folder: Path, config: Mapping[str, Any], start: int) -> Board:
        """Return the board of a run; each time that a run goes on is a run of MLflow, with the same tag `molrl`."""
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # late releases would have a database instead
        mlflow = importlib.import_module("mlflow")
        client = mlflow.MlflowClient(tracking_uri=self.server or (folder / "mlflow").resolve().as_uri())
        known = client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else client.create_experiment(self.experiment)
        run = client.create_run(experiment, run_name=folder.name, tags={"molrl": run_id(folder), "start": str(start)})
        for name, value in names(dict(config)).items():
            if not isinstance(value, Mapping):
                client.log_param(run.info.run_id, name.replace("[", "_").replace("]", "_"), str(value)[:MAX_VALUE])
        return MLflowBoard(client, run.info.run_id)


class MLflowBoard:
    """A run of MLflow, which has no histograms: distributions are logged as quantiles."""

    def __init__(self, client: Any, run: str) -> None:
        self.client = client
        self.run = run

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of one round; the time is in milliseconds."""
        for name, value in metrics.items():
            self.client.log_metric(self.run, name, value, timestamp=int(1000 * time.time()), step=step)

    def image(self, name: str, image: "Image", step: int) -> None:
        """Log an image as a file."""
        self.client.log_image(self.run, image, artifact_file=f"{name}_{step}.png")

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Log quantiles of the values."""
        self.log(quantiles(name, values), step)

    def close(self) -> None:
        """End the run on this board."""
        self.client.set_terminated(self.run)
