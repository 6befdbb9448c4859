"""The one way to load a model of ours: description, header of the weights, network, weights, each checked in turn."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from molrl.models.description import read_fields
from molrl.runs import checkpoint
from molrl.runs.errors import CheckpointError
from molrl.runs.headers import Header, check_header, no_larger_than

T = TypeVar("T")
WEIGHTS = "weights"


def load_network(
    folder: Path,
    domain: str,
    build: Callable[[Mapping[str, Any]], T],
    network: Callable[[T], nn.Module],
) -> tuple[T, Mapping[str, Header]]:
    """Return what a description builds, with its weights and in evaluation mode, and the headers of the folder's files.

    No tensor is read before the network that the description asks for is as large as the file of the weights says.

    Args:
        folder: of the model.
        domain: what the description must name.
        build: makes the model of the description's own fields; bad ones raise an ordinary error.
        network: the part of the model that has the weights.

    Raises:
        CheckpointError: missing, altered, of another format or domain, or not fitting its own description.
    """
    headers, values = checkpoint.inspect(folder)
    fields = read_fields(folder, values.get("model"), domain)
    try:
        with no_larger_than(headers[WEIGHTS], str(folder)):
            model = build(fields)
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: not a model of {domain} ({error})") from error
    module, owner = network(model), f"the network of {folder / 'model.json'}"
    check_header(module.state_dict(), headers[WEIGHTS], owner)
    checkpoint.load_weights(module, checkpoint.load_group(folder, WEIGHTS), owner)
    module.eval()
    return model, headers
