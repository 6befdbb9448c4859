"""`molrl evaluate`: print the metrics of a file of samples, by the domain that reads it."""

from typing import Any

from molrl.domains import domain as domain_named
from molrl.domains import domain_of_file


def evaluate_command(*, file: str, domain: str | None, reference: str | None, out: str | None, **own: Any) -> int:
    """Print the metrics of a file of samples and return the exit code.

    Args:
        file: of samples.
        domain: what they are; None: as the file looks.
        reference: what they are compared with: a file, or a model (its training set or held-out samples).
        out: also write the figures here, as JSON.
        own: settings of the domain.

    Raises:
        ValueError: no domain reads such a file.
        ConfigError: no such domain, or settings that it does not have.
    """
    about = domain_of_file(file) if domain is None else domain_named(domain)
    return about.evaluate(file=file, reference=reference, out=out, **own)
