"""Rules of the whole test run: one thread, no screen, no network, no file of tests that is skipped unseen."""

import os
import signal
import socket
import sys
from collections import defaultdict
from pathlib import Path

import pytest

# Set before anything imports torch; child processes inherit them.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MPLBACKEND="Agg")

# A shell that runs the tests in the background has them ignore Ctrl-C, and every process that they start as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LOOPBACK = ("127.", "::1", "localhost")


def refuse_the_network(event: str, arguments: tuple[object, ...]) -> None:
    """Raise in an audit hook where a socket would reach beyond this machine."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path names a Unix socket
    else:
        return
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and name and name != socket.gethostname() and not name.startswith(LOOPBACK):
        raise RuntimeError(f"{event} to {name!r}: tests reach no other machine, only {', '.join(LOOPBACK)}")


sys.addaudithook(refuse_the_network)


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a Stable Diffusion pipeline with random weights, made once for all tests."""
    for package in ("diffusers", "transformers", "peft"):
        pytest.importorskip(package, reason="images need the extra image")
    from tiny_images import write_pipeline

    return write_pipeline(tmp_path_factory.mktemp("pipeline") / "tiny")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Outcomes())
    for plugin in ("own_process", "tensor_shapes"):
        config.pluginmanager.import_plugin(plugin)


class Outcomes:
    """A plug-in that fails a run under CI if a whole file was skipped: a missing extra must not look like success."""

    def __init__(self) -> None:
        self.outcomes: dict[str, set[str]] = defaultdict(set)  # by file

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.outcomes[report.nodeid].add("skipped")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self.outcomes[report.location[0]].add(report.outcome)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        skipped = sorted(file for file, outcomes in self.outcomes.items() if outcomes == {"skipped"})
        if skipped and os.environ.get("CI"):
            print(f"\nskipped as a whole, which fails under CI: {', '.join(skipped)}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
