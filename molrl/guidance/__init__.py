"""Better samples without training, as baselines of the trained policies: one method, one file.

Best-of-n needs nothing but finished samples. The others query the reward of clean estimates on the way: `svdd` and
`rgdm` choose among candidates of each step, `smc` resamples whole chains.
"""

from molrl.guidance.best_of import BestOf
from molrl.guidance.protocol import Guidance, GuidedSamples
from molrl.guidance.rgdm import RewardGuided
from molrl.guidance.smc import SMC
from molrl.guidance.svdd import SVDD

__all__ = ["SMC", "SVDD", "BestOf", "Guidance", "GuidedSamples", "RewardGuided"]
