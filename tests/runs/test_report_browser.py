"""The report in a real browser: no error, and nothing wider than the window."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page, browse, find_chromium
from test_report import AFTER, BEFORE, HOSTILE, SUMMARY, a_run, rounds

from molrl.runs.report import write_report

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_chromium() is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """Return a page of a browser."""
    with browse() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a run with curves, samples, warnings, and names that are markup."""
    folder = tmp_path_factory.mktemp("browser") / "run"
    summary = {**SUMMARY, "before": BEFORE, "after": AFTER, "changes": [HOSTILE]}
    samples = {"before": ["ab", "abcd", "x"] * 9, "after": ["abcde", "y"] * 9}
    write_report(a_run(folder, rounds(30), summary, samples, titles={"x": HOSTILE}))
    return folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 400, 1240])
def test_the_report_fits_the_window_and_raises_no_error(page: Page, report: Path, width: int, scheme: str) -> None:
    page.open(report, width, scheme)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.wait(0.5)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.querySelectorAll('.uplot canvas').length") >= 3
    assert page.complaints == []


def test_the_gallery_is_sorted_filtered_and_opened(page: Page, report: Path) -> None:
    page.open(report, 1240)
    page.evaluate("document.getElementById('filter').value = 'letters: 4'")
    page.evaluate("document.getElementById('filter').dispatchEvent(new Event('input'))")
    titles = page.evaluate("[...document.querySelectorAll('.card h3')].map((title) => title.textContent)")
    assert titles == ["abcd"] * 9
    page.evaluate("document.querySelector('.card .look').click()")
    assert page.evaluate("document.getElementById('viewer').open") is True
    assert page.complaints == []


def test_an_error_of_a_script_is_seen(page: Page, tmp_path: Path) -> None:
    before = len(page.complaints)
    (tmp_path / "broken.html").write_text("<script>missing()</script>")
    page.open(tmp_path / "broken.html", 400)
    assert len(page.complaints) == before + 1
    page.complaints.clear()
