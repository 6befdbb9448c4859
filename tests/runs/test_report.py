"""Laws of the report of a run."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from molrl.runs.report import write_report
from molrl.runs.report.curves import collect_curves
from molrl.runs.report.wording import facts, format_decimal, format_duration

HOSTILE = "<script>alert('$x_{')</script>&\"$"
VOID = {"meta", "img", "line", "circle"}
BEFORE = {"n": 100, "reward_mean": 0.46, "reward_sem": 0.003, "validity": 0.93, "novelty": 0.5, "sizes": {"9": 100}}
AFTER = {"n": 200, "reward_mean": 0.58, "reward_sem": 0.004, "validity": 0.9, "novelty": None, "sizes": {"9": 200}}
SUMMARY = {
    **{"task": "qed", "reward": "logp", "algo": "rgdm", "seed": 1234, "reward_queries": 25600, "wall_seconds": 754.2},
    **{"before": BEFORE, "after": AFTER},
}
IMAGES = {"before": Image.new("RGB", (300, 200), "#3366cc"), "after": Image.new("RGB", (300, 200), "#cc6633")}
LABELS = {"validity": "valid", "uniqueness": "unique"}


def rounds(count: int) -> list[dict[str, Any]]:
    return [
        {"iteration": i, "reward": 0.4 + 0.01 * i, "reward_std": 0.1, "kl": 0.1 * i, "validity": 0.9, "uniqueness": 1.0}
        for i in range(count)
    ]


class Page(HTMLParser):
    """A parser of a page as a browser reads it; it fails on tags that do not match."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def report(
    folder: Path, summary: dict[str, Any], metrics: list[dict[str, Any]], images: dict[str, Image.Image]
) -> tuple[str, Page, Image.Image]:
    write_report(folder, summary, metrics, images, LABELS)
    source = (folder / "report.html").read_text("utf-8")
    return source, Page(source), Image.open(folder / "report.png")


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page, Image.Image]:
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text("algo:\n  clip: 0.0125\n", "utf-8")
    return report(folder, SUMMARY, rounds(30), IMAGES)


def test_the_page_says_what_was_measured(usual: tuple[str, Page, Image.Image]) -> None:
    source, page, _ = usual
    assert [" | ".join(map(str.strip, Page(line).words)) for line in re.findall(r"<tr.*?</tr>", source)] == [
        "before | (100 samples) | after | (200 samples) | change",
        "reward | 0.460 | ± 0.003 | 0.580 | ± 0.004 | +0.120 | ± 0.005",
        "validity | 0.930 | 0.900 | −0.030",
        "novelty | 0.500 | – | –",
    ]
    for text in (
        "qed · rgdm",
        "0.460 → 0.580",
        "reward logp",
        "seed 1234",
        "reward queries 25,600",
        "13 min",
        "clip: 0.0125",
    ):
        assert text in page.text


def test_the_page_needs_nothing_from_elsewhere(usual: tuple[str, Page, Image.Image]) -> None:
    source, page, _ = usual
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]+", "", source))
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset", "data")]
    assert len(sources) == 2
    assert all(value is not None and value.startswith("data:image/png;base64,") for value in sources)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


def test_images_are_in_the_page_bit_for_bit(usual: tuple[str, Page, Image.Image]) -> None:
    for code, original in zip(re.findall(r"base64,([^\"]+)", usual[0]), IMAGES.values(), strict=True):
        assert Image.open(io.BytesIO(base64.b64decode(code))).tobytes() == original.tobytes()


def test_images_are_in_the_figure_pixel_for_pixel(usual: tuple[str, Page, Image.Image]) -> None:
    pixels = np.asarray(usual[2].convert("RGB"))
    assert pixels.shape[1] == 1600
    for colour in ((0x33, 0x66, 0xCC), (0xCC, 0x66, 0x33)):
        assert (pixels == colour).all(-1).sum() == 300 * 200


def test_curves_stay_inside_their_panels(usual: tuple[str, Page, Image.Image]) -> None:
    panels = re.findall(r'<svg viewBox="0 0 (\d+) (\d+)"(.*?)</svg>', usual[0])
    assert len(panels) == 4
    for width, height, body in panels:
        points = np.array([pair.split(",") for text in re.findall(r'points="([^"]+)"', body) for pair in text.split()])
        assert (points.astype(float) >= 0).all()
        assert (points.astype(float) <= [int(width), int(height)]).all()


def test_the_first_three_labelled_metrics_have_a_curve() -> None:
    rows: list[dict[str, float | None]] = [
        {"iteration": 0, "reward": 1.0, **dict.fromkeys("abde", 0.5), "c": None},
        {"iteration": 1, "kl": 0.1},
    ]
    curves = collect_curves(rows, {"c": "third", "e": "1-NNA", "a": "valid", "f": "far", "b": "bytes", "d": "deep"})
    assert [(line.metric, line.title) for line in curves[1:]] == [
        ("kl", "KL to the start, nats"),
        ("e", "1-NNA"),
        ("a", "Valid"),
        ("b", "Bytes"),
    ]
    assert [line.metric for line in collect_curves(rows, {})] == ["reward", "kl"]


def test_markup_in_a_name_is_shown_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"config {HOSTILE}", "utf-8")
    summary = {f"fact_{HOSTILE}": HOSTILE, "task": HOSTILE, "algo": HOSTILE, "after": {f"metric_{HOSTILE}": 0.5}}
    source, page, _ = report(tmp_path, summary, [], {f"image {HOSTILE}": IMAGES["before"]})
    assert "<script" not in source.lower()
    assert "script" not in page.tags
    shown = HOSTILE.replace("_", " ")
    for text in (f"config {HOSTILE}", f"fact {shown} {HOSTILE}", f"{HOSTILE} · {HOSTILE}", f"metric {shown}"):
        assert text in page.text
    assert f"Image {HOSTILE}" in page.text
    assert ("alt", f"image {HOSTILE}") in page.attributes


@pytest.mark.parametrize(
    "metrics",
    [
        pytest.param([], id="none"),
        pytest.param(rounds(1), id="one"),
        pytest.param([{"iteration": 0, "reward": None, "kl": None}], id="only nulls"),
        pytest.param([{**row, "reward": None if row["iteration"] % 2 else 1.0} for row in rounds(9)], id="gaps"),
        pytest.param([{**rounds(1)[0], "reward_std": None}, {**rounds(2)[1], "reward": None}], id="band elsewhere"),
        pytest.param([{"reward": 2.0}, {"reward": 2.0}], id="no iterations"),
        pytest.param([{"iteration": 0, "kl": 1.0}, {"iteration": 1, "kl": 2.0}], id="no reward"),
        pytest.param([{"iteration": i, "reward": -1e6 * i} for i in range(40)], id="large"),
    ],
)
def test_any_log_gives_a_report(tmp_path: Path, metrics: list[dict[str, Any]]) -> None:
    source, page, image = report(tmp_path, SUMMARY, metrics, {})
    known = {
        name for name in ("reward", "kl", "validity", "uniqueness") for row in metrics if row.get(name) is not None
    }
    assert page.tags.count("svg") == len(known)
    assert ("No iterations were logged" in page.text) == (not known)
    assert "nan" not in re.sub(r"base64,[^\"]+", "", source)
    assert image.width == 1600


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"task": "x" * 300, "before": {}, "after": {}},
        {"before": None, "after": {"reward_mean": None, "n": 0, "validity": float("nan")}, "wall_seconds": None},
        json.loads(json.dumps({**SUMMARY, "before": {**BEFORE, "reward_sem": None, "reward_mean": 0}})),
    ],
    ids=["empty", "long", "nulls", "no error"],
)
def test_any_summary_gives_a_report(tmp_path: Path, summary: dict[str, Any]) -> None:
    _, page, image = report(tmp_path, summary, rounds(3), {})
    assert "Before and after" in page.text
    assert "nan" not in page.text
    assert image.width == 1600


def test_a_tall_image_is_made_to_fit(tmp_path: Path) -> None:
    _, _, image = report(tmp_path, SUMMARY, rounds(3), {"samples": Image.new("RGBA", (900, 9000))})
    assert image.height < 2500


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0.000"), (0.1234, "0.123"), (-7.25, "−7.250"), (1e-5, "1e−05"), (123.456, "123.5")],
)
def test_numbers_have_three_decimals_where_they_say_enough(value: float | None, text: str) -> None:
    assert format_decimal(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(42.3, "42 s"), (754.2, "13 min"), (12000, "3 h 20 min")])
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_facts_leave_out_what_is_null() -> None:
    assert facts({"task": "qed", "seed": 1000, "reward_queries": 1000, "wall_seconds": None, "note": None}) == [
        "seed 1000",
        "reward queries 1,000",
    ]
