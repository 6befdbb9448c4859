"""ADMET-AI (Swanson et al. 2024, doi:10.1093/bioinformatics/btae416) as a model for `Isolated`.

This file is run by an interpreter that has the package admet-ai, and is not imported by this package.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def load(property: str, sign: float) -> Callable[[Sequence[Mapping[str, str]]], list[float | None]]:  # noqa: A002
    """Return the function that predicts a property, times a sign, of molecules given as {"smiles": ...}.

    Raises:
        SystemExit: the package is not installed.
        ValueError: it has no such property.
    """
    try:
        admet_ai = import_module("admet_ai")
    except ModuleNotFoundError as error:
        raise SystemExit(f"no module {error.name} in this interpreter: install admet-ai there") from None
    model = admet_ai.ADMETModel(num_workers=0)
    known = sorted(model.predict("CCO"))
    if property not in known:
        raise ValueError(f"property: got {property!r}, allowed are {', '.join(known)}")

    def predict(requests: Sequence[Mapping[str, str]]) -> list[float | None]:
        """Return the property of each molecule; None for one that RDKit refuses there, which its table leaves out."""
        table = model.predict([request["smiles"] for request in requests])[property].to_dict()
        values = [table.get(request["smiles"]) for request in requests]
        return [None if value is None else sign * float(value) for value in values]

    return predict
