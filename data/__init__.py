"""Finished samples of each domain (molecules, shapes, images) and their sources: files, readers and data sets."""
