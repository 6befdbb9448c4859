"""Conformance batteries to run on a reward, a denoiser, an algorithm or a task of one's own.

Each raises AssertionError with the name of the law that is broken; none needs pytest, and none knows a domain: samples
and contexts are passed in.

    from molrl.testing import check_algorithm, check_denoiser, check_reward, check_task
"""

from molrl.testing.algorithms import check_algorithm
from molrl.testing.denoisers import check_denoiser
from molrl.testing.laws import check_law
from molrl.testing.rewards import check_reward
from molrl.testing.tasks import check_task

__all__ = ["check_algorithm", "check_denoiser", "check_law", "check_reward", "check_task"]
