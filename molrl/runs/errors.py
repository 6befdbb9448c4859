"""Errors of runs, without torch: whoever only looks a model up need not wait for it."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, incomplete, altered or made for something else."""
