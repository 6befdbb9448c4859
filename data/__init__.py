"""Finished samples and where they come from: molecules, their readers and bond perception."""
