"""Fine-tune diffusion models of molecules, shapes and images toward rewards."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("molrl")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0"
