"""`molrl evaluate`: print the metrics of a file of samples, by the domain that reads it."""

from typing import Any

from molrl.data.files import locate
from molrl.domains import domain as domain_named
from molrl.domains import domain_of_file
from molrl.outputs import output_file


def evaluate_command(
    *, file: str, domain: str | None, reference: str | None, out: str | None, overwrite: bool, **domain_settings: Any
) -> int:
    """Print the metrics of a file of samples and return the exit code.

    Args:
        file: file of samples.
        domain: domain of the samples; None: the one that reads such a file.
        reference: samples to compare with: a file, or a model (its training set or held-out samples).
        out: a JSON file for the metrics; None: no file.
        overwrite: replace a file of that name.
        domain_settings: further settings, of the domain.

    Raises:
        ValueError: if no domain reads such a file.
        ConfigError: if there is no such domain, or it has no such settings.
    """
    about = domain_of_file(file) if domain is None else domain_named(domain)
    path = None if out is None else str(output_file(out, overwrite=overwrite, source=str(locate(file))))
    return about.evaluate(file=file, reference=reference, out=path, **domain_settings)
