"""Scores of binding for molecules of unlike size, divided by a power of the number of heavy atoms.

A score is a sum over atoms, so that a search among molecules of any size finds large ones. The power 1 gives the ligand
efficiency (Hopkins, Groom and Alex 2004, doi:10.1016/S1359-6446(04)03069-7), which favours fragments; 1/3, 1/2 and 2/3
lie between that and the score itself, the power 0 (Pan et al. 2003, doi:10.1021/ci020055f).
"""


def check_size_power(power: float) -> None:
    """Raise ValueError unless a power is from 0 to 1."""
    if not 0 <= power <= 1:
        raise ValueError(f"size_power: got {power}, need a number from 0, the score itself, to 1, ligand efficiency")


def sized(score: float, heavy_atoms: int, power: float) -> tuple[float, dict[str, float]]:
    """Return score / heavy_atoms**power, and the parts of that value.

    Args:
        score: of binding, kcal/mol.
        power: from 0 to 1.
    """
    parts = {"score": score, "heavy_atoms": heavy_atoms, "per_heavy_atom": score / heavy_atoms}
    return float(score / heavy_atoms**power), parts
