"""The command `molrl report`: the report of a run from its files, or one page about several."""

from collections.abc import Sequence
from pathlib import Path

from molrl.config import ConfigError
from molrl.exit_codes import ExitCode
from molrl.machine.files import check_plain, replace_file
from molrl.outputs import output_file, unused
from molrl.runs.report import REPORT
from molrl.runs.report.contents import read_contents
from molrl.runs.report.page import render_page

COMPARISON = "comparison.html"
MAX_RUNS = 32


def write_page(*, runs: Sequence[str], out: str | None, overwrite: bool) -> Path:
    """Write the report of a run, or a page that compares several, and return the path of the file.

    The runs may still go on, or may have been stopped; their files are read and left as they are.

    Args:
        runs: folders.
        out: the HTML file; None: report.html in the folder of the run, which molrl made and replaces, or for several
            runs a new comparison.html here.
        overwrite: replace a file of that name.

    Raises:
        ConfigError: a folder holds no run, or the file cannot be written.
    """
    folders = [Path(run) for run in ([runs] if isinstance(runs, str) else runs)]
    if not 1 <= len(folders) <= MAX_RUNS:
        raise ConfigError(f"runs: got {len(folders)}, allowed 1 to {MAX_RUNS} folders of runs")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("runs: one folder is named twice")
    contents = [read_contents(folder) for folder in folders]
    if out is not None:
        path = output_file(out, overwrite=overwrite)
    else:
        path = own_report(folders[0]) if len(folders) == 1 else unused(Path(COMPARISON))
    page = render_page(contents, path.parent)
    try:
        replace_file(path, page.encode(errors="replace"))
    except OSError as error:
        error.filename = str(path)  # and not that of the file beside it, which is written first
        raise
    return path


def report(*, runs: Sequence[str], out: str | None, overwrite: bool) -> int:
    """Write a page as `write_page` does, print its name and return the exit code."""
    print(f"report: {write_page(runs=runs, out=out, overwrite=overwrite)}")
    return ExitCode.DONE


def own_report(folder: Path) -> Path:
    """Return the report.html of a run, which is replaced; raise ConfigError where a link or a folder has that name."""
    path = folder / REPORT
    if path.is_symlink() or path.exists():
        check_plain(path, path.lstat())
    return path
