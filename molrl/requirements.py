"""The requirements of the installed package, by its own metadata: core dependencies, extras, what is there of them."""

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

NOT_FOR_USERS = ("all", "dev", "docs")  # extras: the sum of the others, and tools of those who work on molrl


def requirements() -> dict[str, list[Requirement]]:
    """Return the requirements of the core ("") and of each extra, those for another Python or system left out.

    Raises:
        PackageNotFoundError: molrl was never installed.
    """
    found: dict[str, list[Requirement]] = {"": []}
    for line in requires("molrl") or ():
        one = Requirement(line)
        extra = extra_of(one)
        if extra not in NOT_FOR_USERS and (one.marker is None or one.marker.evaluate({"extra": extra})):
            found.setdefault(extra, []).append(one)
    return found


def extra_of(requirement: Requirement) -> str:
    """Return the extra that a requirement belongs to; "": the core."""
    _, _, rest = str(requirement.marker or "").partition('extra == "')
    return rest.partition('"')[0]


def installed(requirement: Requirement) -> str | None:
    """Return the installed version of what is required; None: it is not installed."""
    try:
        return version(requirement.name)
    except PackageNotFoundError:
        return None


def is_met(requirement: Requirement) -> bool:
    """Tell whether a version that satisfies a requirement is installed."""
    found = installed(requirement)
    return found is not None and requirement.specifier.contains(found, prereleases=True)
