"""Errors of runs, in a module that imports no torch: looking a model up must stay fast."""


class CheckpointError(ValueError):
    """A checkpoint is missing, incomplete, altered or made for something else."""


class SaveError(CheckpointError):
    """A checkpoint could not be written: the disk is full, or its folder is gone or may not be written."""
