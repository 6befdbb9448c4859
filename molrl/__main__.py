"""`python -m molrl`, as `accelerate launch -m molrl` and torchrun call it."""

from molrl.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
