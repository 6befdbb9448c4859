"""Errors of runs, in a module that imports no torch: looking a model up must stay fast."""


class CheckpointError(ValueError):
    """A checkpoint is missing, incomplete, altered or made for something else."""
