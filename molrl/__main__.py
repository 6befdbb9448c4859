"""`python -m molrl`, which is how launchers start it: `torchrun -m molrl train ...`."""

import sys

from molrl.cli import main

sys.exit(main())
