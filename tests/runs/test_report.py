"""Laws of the report of a run, and of the page that compares several."""

import base64
import fcntl
import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command import complaint, molrl
from PIL import Image

from molrl import domains
from molrl.exhibit import POINT_SCALE, Counts, Exhibit, encode_drawing, encode_image, encode_points
from molrl.glossary import TRAINING, Term, find_term
from molrl.runs.report import LiveReport, write_figure, write_report
from molrl.runs.report.charts import MAX_POINTS, Rounds, make_charts, noise_around
from molrl.runs.report.curves import collect_curves
from molrl.runs.report.drift import is_shift, largest_shift, warnings
from molrl.runs.report.estimates import Estimate, difference, estimate, over_seeds, share_error
from molrl.runs.report.groups import name_groups
from molrl.runs.report.makeup import MAX_ROWS, count_rewards, tabulate
from molrl.runs.report.page import ASSETS, asset
from molrl.runs.report.sheet import MAX_EXHIBIT_BYTES, MAX_EXHIBITS, read_sheet, write_sheet
from molrl.runs.report.wording import facts, format_decimal, format_duration

HOSTILE = "</script><img src=x onerror=alert(1)>{{ 7*7 }}'\"&${x}"
VOID = {"meta", "img", "input", "rect"}
BEFORE = {"n": 100, "reward_mean": 0.46, "reward_sem": 0.003, "validity": 0.93, "novelty": 0.5, "sizes": {"9": 100}}
AFTER = {"n": 100, "reward_mean": 0.58, "reward_sem": 0.004, "validity": 0.9, "novelty": None, "sizes": {"9": 100}}
SUMMARY = {
    **{"task": "qed", "reward": "logp", "algo": "rgdm", "seed": 1234, "reward_queries": 25600, "wall_seconds": 754.2},
    **{"before": BEFORE, "after": AFTER, "ended": "all 30 iterations are done", "changes": []},
}
LABELS = {"validity": "valid", "uniqueness": "unique"}
SETTINGS = {"chosen": {"task": "qed", "algo": "rgdm"}, "iterations": 30, "algo": {"clip": 0.0125, "_target_": "x.Y"}}
PNG = encode_drawing(Image.new("RGB", (30, 20), "#3366cc"))


@dataclass(frozen=True)
class Words:
    """A decoder whose samples are words: as many of them as letters, long ones with an image."""

    titles: Mapping[str, str]

    def exhibit(self, samples: Sequence[str]) -> list[Exhibit]:
        return [
            Exhibit(
                self.titles.get(word, word), {"letters": len(word), "first": word[:1]}, PNG if len(word) > 3 else b""
            )
            for word in samples
        ]

    def count_makeup(self, samples: Sequence[str]) -> dict[str, Counts]:
        letters = "".join(samples)
        counts = {self.titles.get(letter, letter): letters.count(letter) for letter in sorted(set(letters))}
        return {"letters": Counts(counts, len(letters), "letters")}


def rounds(count: int) -> list[dict[str, Any]]:
    return [
        {
            "iteration": i,
            "reward": 0.4 + 0.01 * i,
            "reward_std": 0.1,
            "reward_sem": 0.02,
            "kl": 0.1 * i,
            "validity": 0.9,
            "uniqueness": 1.0,
        }
        for i in range(count)
    ]


def a_run(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any] | None = None,
    samples: Mapping[str, Sequence[str]] | None = None,
    titles: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """Write the files of a run of words."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({**SETTINGS, **settings}, sort_keys=False), "utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary), "utf-8")
    for when, words in (samples or {}).items():
        write_sheet(folder / "report" / f"{when}.json", words, [len(word) / 10 for word in words], Words(titles or {}))  # type: ignore[arg-type]
    if about is not None:
        (folder / "report").mkdir(exist_ok=True)
        (folder / "report" / "about.json").write_text(json.dumps(about), "utf-8")
    return folder


class Page(HTMLParser):
    """A parser of a page as a browser reads it; it fails on tags that do not match."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.data: Any = None
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.is_data = ("type", "application/json") in attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and self.is_data:
            self.data = json.loads(data)
        elif self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str | None]:
        return [value for key, value in self.attributes if key == name]


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text("utf-8"))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Page:
    words = {"before": ["ape", "bear", "crab"], "after": ["dodo"]}
    terms = {"validity": ["sound", "readable samples", ["n"], None]}
    about = {"labels": LABELS, "terms": terms, "launches": [{"command": "molrl train task=qed", "device": "cpu"}]}
    return page_of(a_run(tmp_path_factory.mktemp("run"), rounds(30), SUMMARY, words, about=about))


def test_the_page_says_what_was_measured(usual: Page) -> None:
    for text in (
        *("qed · rgdm", "0.460 → 0.580", "reward logp", "seed 1234", "reward queries 25,600", "13 min"),
        *("Reward 0.460 ± 0.003 0.580 ± 0.004 +0.120 ± 0.005", "Valid 0.930 ± 0.026 0.900 ± 0.030 −0.030 ± 0.040"),
        *("Novelty 0.500 – –", "Valid readable samples"),
        *("ended: all 30 iterations are done", "clip: 0.0125", "molrl train task=qed"),
        "3 of 3 samples before, 1 of 1 samples after",
    ):
        assert text in usual.text


def test_the_page_has_the_curves_and_the_samples(usual: Page) -> None:
    charts = {chart["title"]: chart for chart in usual.data["charts"]}
    assert list(charts)[:4] == ["Reward", "KL to the start, nats", "Valid", "Unique"]
    (line,) = charts["Reward"]["lines"]
    assert line["y"][:2] == [0.4, 0.41]
    assert line["low"][0] == pytest.approx(0.38)
    assert line["high"][0] == pytest.approx(0.42)
    assert usual.data["gallery"]["sets"] == ["before", "after"]
    assert [(item["set"], item["title"]) for item in usual.data["gallery"]["items"]] == [
        *((0, "ape"), (0, "bear"), (0, "crab"), (1, "dodo"))
    ]
    assert usual.data["gallery"]["items"][1]["facts"] == {"reward": 0.4, "letters": 4.0, "first": "b"}
    assert [bool(item.get("image")) for item in usual.data["gallery"]["items"]] == [False, True, True, True]


def test_the_page_requests_nothing_and_runs_its_own_scripts_alone(usual: Page) -> None:
    (policy,) = [value for value in usual.values("content") if value and value.startswith("default-src")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in usual.scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert "script-src 'unsafe-inline'" not in policy
    assert not [value for name in ("src", "srcset", "action", "data") for value in usual.values(name)]
    assert all(value is not None and value.startswith("./") for value in usual.values("href"))
    assert not {"link", "iframe", "object", "base"} & set(usual.tags)


def test_the_molecule_viewer_comes_only_with_molecules(tmp_path: Path, usual: Page) -> None:
    viewer = asset("3Dmol-min.js")
    assert viewer not in usual.scripts
    folder = a_run(tmp_path, rounds(2), SUMMARY, {"before": ["bear"]})
    sheet = json.loads((folder / "report/before.json").read_text())
    sheet["exhibits"][0]["sdf"] = "a molfile"
    (folder / "report/before.json").write_text(json.dumps(sheet))
    assert viewer in page_of(folder).scripts


@pytest.mark.parametrize("name", ["3Dmol", "uPlot"])
def test_what_others_wrote_has_its_licence_beside_it(name: str) -> None:
    licence = (ASSETS / f"{name}-LICENSE.txt").read_text("utf-8")
    assert "Copyright (c)" in licence
    assert "WARRANT" in licence


def test_the_script_sets_text_as_text_alone() -> None:
    script = (ASSETS / "report.js").read_text("utf-8")
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|fetch\(", script)


def test_markup_in_a_name_is_shown_not_run(tmp_path: Path) -> None:
    def page(name: str) -> Page:
        folder = tmp_path / re.sub(r"\W", "_", name) / name.replace("/", "-")
        summary = {
            **{"task": name, "algo": name, f"fact {name}": name, "changes": [name], "ended": name},
            **{"before": {f"metric {name}": 0.5}, "after": {f"metric {name}": 0.5}},
        }
        about = {"labels": {"validity": name}, "launches": [{name: name, "command": name}]}
        titles = {"bear": name, "b": name}
        run = a_run(folder, rounds(6), summary, {"before": ["bear"]}, titles, about, **{name: name})
        (run / f"{name.replace('/', '-')}.txt").write_text("")
        (run / "javascript:alert(1)").write_text("")
        return page_of(run)

    hostile, plain = page(HOSTILE), page("plain")
    assert hostile.tags == plain.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]
    assert hostile.scripts == plain.scripts
    assert hostile.data["gallery"]["items"][0]["title"] == HOSTILE
    assert hostile.data["charts"][2]["title"] == HOSTILE
    assert f"fact {HOSTILE} {HOSTILE}" in hostile.text
    assert "./javascript%3Aalert%281%29" in hostile.values("href")


def test_control_characters_are_shown_as_escapes(tmp_path: Path) -> None:
    text = write_report(a_run(tmp_path, [], {**SUMMARY, "task": "a\u202eb\x1b[31m"})).read_text("utf-8")
    assert r"a\u202eb\x1b[31m" in text
    assert "\u202e" not in text


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="none"),
        pytest.param(rounds(1), id="one"),
        pytest.param([{"iteration": 0, "reward": None, "kl": None}], id="only nulls"),
        pytest.param([{"iteration": 0, "reward": math.nan, "kl": math.inf}], id="not numbers"),
        pytest.param([{**row, "reward": None if row["iteration"] % 2 else 1.0} for row in rounds(9)], id="gaps"),
        pytest.param([{**rounds(1)[0], "reward_sem": None}, {**rounds(2)[1], "reward": None}], id="band elsewhere"),
        pytest.param([{"reward": 2.0}, {"reward": 2.0}], id="no iterations"),
        pytest.param([{"iteration": 0, "kl": 1.0}, {"iteration": 1, "kl": 2.0}], id="no reward"),
        pytest.param([{"iteration": i, "reward": -1e300 * i, "big": 10**400} for i in range(40)], id="large"),
        pytest.param([{"iteration": 1, "reward": 1.0}, {"iteration": 1, "reward": [2], "x": {}}], id="other kinds"),
    ],
)
def test_any_log_gives_a_report(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    page = page_of(a_run(tmp_path, rows))
    known = {
        name
        for row in rows
        for name in ("reward", "kl", "validity", "uniqueness")
        if isinstance(row.get(name), float) and math.isfinite(row[name])
    }
    assert page.tags.count("figure") == len(known) == len(page.data["charts"])
    assert ("No iterations were logged" in page.text) == (not known)


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"task": "x" * 300, "before": {}, "after": {}},
        {"before": None, "after": {"reward_mean": None, "n": 0, "validity": math.nan}, "wall_seconds": None},
        {"before": {**BEFORE, "lost": 100, "reward_mean": None}, "after": AFTER, "changes": None},
    ],
    ids=["empty", "long", "nulls", "nothing scored"],
)
def test_any_summary_gives_a_report(tmp_path: Path, summary: dict[str, Any]) -> None:
    page = page_of(a_run(tmp_path, rounds(3), summary))
    assert "nan" not in page.text
    write_figure(tmp_path, summary, {"samples": Image.new("RGBA", (900, 9000))})
    assert Image.open(tmp_path / "report.png").size[0] == 1600


def test_of_many_samples_the_first_are_shown_and_their_number_is_told(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(10_000)]
    page = page_of(a_run(tmp_path, rounds(2), SUMMARY, {"before": words}))
    assert [item["title"] for item in page.data["gallery"]["items"]] == words[:MAX_EXHIBITS]
    assert f"{MAX_EXHIBITS} of 10,000 samples before" in page.text
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_large_samples_are_fewer(tmp_path: Path) -> None:
    folder = a_run(tmp_path, [], samples={"before": ["x" * (MAX_EXHIBIT_BYTES // 3)] * 9})
    assert len(read_sheet(folder / "report/before.json").exhibits) == 2


@dataclass(frozen=True)
class Stage:
    """A scene that shows words of up to four letters backwards."""

    around: str | None = "ATOM"

    def surroundings(self) -> str:
        if self.around is None:
            raise ValueError("the receptor is gone")
        return self.around

    def pose(self, sample: str) -> str | None:
        return sample[::-1] if len(sample) < 5 else None


def test_samples_of_a_scene_are_shown_in_their_surroundings(tmp_path: Path) -> None:
    folder = a_run(tmp_path, rounds(2), SUMMARY)
    for when in ("before", "after"):
        write_sheet(folder / f"report/{when}.json", ["bear", "camel"], [0.1, 0.2], Words({}), Stage())  # type: ignore[arg-type]
    gallery = page_of(folder).data["gallery"]
    assert [(one["title"], one.get("posed")) for one in gallery["items"][:2]] == [("raeb", True), ("camel", None)]
    assert gallery["surroundings"] == ["ATOM"]
    assert gallery["surroundingsOf"] == [0, 0]


@pytest.mark.parametrize(("scene", "words"), [(Stage(None), ["bear"]), (Stage(), ["camel"]), (None, ["bear"])])
def test_a_scene_that_cannot_be_shown_costs_nothing(tmp_path: Path, scene: Stage | None, words: list[str]) -> None:
    write_sheet(tmp_path / "report/before.json", words, [0.1], Words({}), scene)  # type: ignore[arg-type]
    sheet = read_sheet(tmp_path / "report/before.json")
    assert [one["title"] for one in sheet.exhibits] == words
    assert sheet.surroundings == ""
    assert "posed" not in sheet.exhibits[0]


def test_no_readable_sample_at_all_gives_a_report(tmp_path: Path) -> None:
    folder = a_run(tmp_path, rounds(2), SUMMARY, {"before": [], "after": [""]})
    assert page_of(folder).data["gallery"]["items"][0]["title"] == ""


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"n": 1, "rewards": [], "makeup": [], "exhibits": []}'),
        '{"n": 1, "rewards": [], "makeup": {}, "exhibits": [{"title": "x", "facts": {}, "image": "x\\" onload=y"}]}',
        '{"n": 1, "rewards": [], "makeup": {"x": {"counts": {"a": 2}, "total": 1, "of": "y"}}, "exhibits": []}',
        "[" * 100_000,
    ],
)
def test_a_damaged_sheet_costs_the_gallery_alone_and_is_told(tmp_path: Path, content: str) -> None:
    folder = a_run(tmp_path, rounds(2), SUMMARY)
    (folder / "report").mkdir()
    (folder / "report/before.json").write_text(content)
    page = page_of(folder)
    assert "A part of this run could not be read" in page.text
    assert page.data["gallery"]["items"] == []
    assert len(page.data["charts"]) > 1


def test_the_files_of_the_run_are_linked_and_links_are_not(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", [], SUMMARY)
    (folder / "samples").mkdir()
    (folder / "samples" / "a b.sdf").write_text("x")
    (tmp_path / "secret").write_text("x")
    (folder / "leak").symlink_to(tmp_path / "secret")
    assert page_of(folder).values("href") == [
        *("./config.yaml", "./metrics.jsonl", "./summary.json", "./samples/a%20b.sdf")
    ]


def test_a_run_is_running_while_a_process_holds_it_and_stopped_after(tmp_path: Path) -> None:
    folder = a_run(tmp_path, rounds(12))
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "running: 12 of 30 iterations are done" in page_of(folder).text
    assert "stopped before its end: 12 of 30 iterations are done" in page_of(folder).text


def test_reports_of_a_run_that_goes_on_are_rare(tmp_path: Path) -> None:
    live = LiveReport(a_run(tmp_path, rounds(2)))
    assert live.update(["ape"], [0.3], Words({}))  # type: ignore[arg-type]
    assert (tmp_path / "report.html").exists()
    assert not live.update(["bear"], [0.4], Words({}))  # type: ignore[arg-type]
    assert live.due >= live.seconds / 0.01


def test_the_samples_of_the_last_round_are_shown_until_there_are_those_after(tmp_path: Path) -> None:
    folder = a_run(tmp_path, rounds(3), samples={"before": ["aaaa"] * 100})
    live = LiveReport(folder)
    live.update(["bbbb"] * 80, [0.5] * 80, Words({}))  # type: ignore[arg-type]
    going_on = Page((folder / "report.html").read_text("utf-8"))
    assert going_on.data["gallery"]["sets"] == ["before", "in the last round"]
    assert "Drift in letters: “a” is 100% of the letters before, 0% in the last round." in going_on.text
    write_sheet(folder / "report" / "after.json", ["cccc"] * 90, [0.6] * 90, Words({}))  # type: ignore[arg-type]
    assert page_of(folder).data["gallery"]["sets"] == ["before", "in the last round"]  # of a run that was resumed
    (folder / "summary.json").write_text(json.dumps(SUMMARY), "utf-8")
    assert page_of(folder).data["gallery"]["sets"] == ["before", "after"]


def test_a_report_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = a_run(tmp_path, rounds(2))
    (folder / "report.html").mkdir()
    assert LiveReport(folder).update(["ape"], [0.3], Words({}))  # type: ignore[arg-type]
    assert "molrl: the report could not be written" in capsys.readouterr().err


def test_the_band_is_the_noise_about_the_trend() -> None:
    assert noise_around(np.arange(9.0) * 3)[2:-2] == pytest.approx(0.0)
    assert noise_around(np.array([1.0, -1.0] * 5))[4] == pytest.approx(math.sqrt(16 / 6))
    assert np.isnan(noise_around(np.arange(4.0))).all()
    noise = noise_around(np.random.default_rng(0).normal(size=40_000) + np.linspace(0, 1e3, 40_000))
    assert float(np.mean(noise[3:-3] ** 2)) == pytest.approx(1.0, abs=0.03)


def test_many_rounds_are_averaged_in_groups() -> None:
    rows = [{"iteration": i, "reward": float(i)} for i in range(10 * MAX_POINTS)]
    (chart,) = make_charts([Rounds("run", [rows], {}, {})])
    assert len(chart.x) == MAX_POINTS
    assert chart.lines[0].y[:2] == pytest.approx([4.5, 14.5])
    assert "mean of 10 rounds" in chart.note


def test_each_run_keeps_its_place_and_its_colour() -> None:
    later = [{"iteration": 5, "reward": 2.0, "kl": 1.0}]
    runs = [Rounds("a", [[{"reward": 1.0}]], {}, {}), Rounds("b", [later], {}, {})]
    reward, kl = make_charts(runs)
    assert reward.x.tolist() == [0, 5]
    assert [(line.label, line.run) for line in reward.lines] == [("a", 0), ("b", 1)]
    assert np.isnan(reward.lines[1].y[0])
    assert [(line.label, line.run) for line in kl.lines] == [("b", 1)]


def test_a_share_moved_if_it_did_by_more_than_chance() -> None:
    """Pooled share 0.5 of 100 and 100: standard error sqrt(0.25 * 0.02) = 0.0707, four of them 0.283."""
    assert is_shift(0.35, 0.65, 100, 100)
    assert not is_shift(0.365, 0.635, 100, 100)
    assert not is_shift(0.0, 0.05, 1e6, 1e6)
    assert not is_shift(0.0, 1.0, 0, 10)


def test_the_drift_that_is_told_is_the_largest() -> None:
    before, after = Counts({"C": 70, "N": 30}, 100, "atoms"), Counts({"C": 20, "N": 30, "O": 50}, 100, "atoms")
    assert largest_shift(before, after, 100, 100) == ("C", 0.7, 0.2) or largest_shift(before, after, 100, 100) == (
        "O",
        0.0,
        0.5,
    )
    assert largest_shift(before, before, 100, 100) is None
    assert largest_shift(before, after, 2, 2) is None  # two molecules, however many atoms they have
    assert largest_shift(before, Counts({}, 0, "atoms"), 100, 100) is None


def test_warnings_are_in_plain_words() -> None:
    ends = {"before": {**BEFORE, "lost": 50}, "after": {**AFTER, "reward_mean": 0.461, "validity": 0.3}}
    found = warnings([{"iteration": 3, "reward": 1.0, "reward_std": 0.0}] * 2, ends, {}, LABELS)
    assert found == [
        "The reward did not rise by more than chance: +0.001 ± 0.005.",
        "50 of 100 samples before training could not be scored; the means leave them out.",
        "Fewer samples are valid: 93% before, 30% after.",
        "Iteration 3 and 1 more: all rewards are 1: there is nothing to learn from.",
    ]
    assert warnings([], SUMMARY, {}, LABELS) == []


def test_distributions_are_in_rows_that_fit() -> None:
    sizes = tabulate("sizes", [Counts({str(n): 1 for n in range(1, 101)}, 100, "molecules")], [100])
    assert len(sizes.rows) <= MAX_ROWS
    assert [row.name for row in sizes.rows][:2] == ["1 to 8", "9 to 16"]
    assert sum(row.shares[0] or 0 for row in sizes.rows) == pytest.approx(1.0)
    names = tabulate("scaffolds", [Counts({f"s{n}": 100 - n for n in range(50)}, 3775, "molecules")], [25])
    assert [row.name for row in names.rows][::MAX_ROWS] == ["s0", "36 others"]
    assert sum(row.shares[0] or 0 for row in names.rows) == pytest.approx(1.0)
    assert list(names.rows[0].errors) == pytest.approx([share_error(100 / 3775, 25)])
    assert names.longest == pytest.approx(100 / 3775)
    rewards = count_rewards([[0.0, 1.0], [0.05]])
    assert [list(one.counts.values()) for one in rewards] == [[1, *[0] * 8, 1], [1, *[0] * 9]]
    assert count_rewards([[], []]) == []
    assert count_rewards([[2.0, 2.0]])[0].total == 2


def test_points_keep_their_places() -> None:
    points = np.array([[-1.0, 0.5, 1.0], [2.0, 0.0, 0.25]], np.float32)
    found = np.frombuffer(base64.b64decode(encode_points(points)), "<i2").reshape(-1, 3) / POINT_SCALE
    assert found == pytest.approx(points.clip(-1, 1), abs=1 / POINT_SCALE)


def test_pictures_are_exact_where_they_are_small() -> None:
    plain = Image.new("RGB", (40, 30), "#3366cc")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 400, 3), np.uint8))
    assert Image.open(io.BytesIO(encode_image(plain))).tobytes() == plain.tobytes()
    found = Image.open(io.BytesIO(encode_image(noise)))
    assert (found.format, found.size) == ("JPEG", (171, 256))
    assert Image.open(io.BytesIO(encode_drawing(noise))).format == "PNG"


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_of_known_colours_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_have_the_contrast_of_wcag_aa(scheme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (ASSETS / "report.css").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))
    grounds = [colours["page"], colours["card"]]
    text, drawn = ("ink", "faint", "link"), ("edge", *(f"series-{number}" for number in range(8)))
    assert min(contrast(colours[name], ground) for name in text for ground in grounds) >= 4.5
    assert min(contrast(colours[name], ground) for name in drawn for ground in grounds) >= 3.0
    assert contrast(colours["ink"], colours["alert"]) >= 4.5
    assert contrast(colours["alert-edge"], colours["page"]) >= 3.0


def test_the_command_makes_a_report_anew(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", rounds(3), SUMMARY)
    (folder / "report.html").write_text("old")
    done = molrl("report", str(folder))
    assert (done.code, done.out) == (0, f"report: {folder / 'report.html'}\n")
    assert "0.460 → 0.580" in (folder / "report.html").read_text()


def test_the_command_compares_runs(tmp_path: Path) -> None:
    words = {"before": ["ape"], "after": ["bear"]}
    runs = [
        a_run(tmp_path / "same" / "one", rounds(3), SUMMARY, words, seed=0, rate=1),
        a_run(tmp_path / "other, too" / "one", rounds(4), None, words, seed=1, rate=2, run="x"),
    ]
    out = tmp_path / "both.html"
    assert molrl("report", *map(str, runs), f"out={out}").code == 0
    page = Page(out.read_text("utf-8"))
    assert "2 runs compared" in page.text
    assert "seed 0 1 rate 1 2" in page.text
    assert "clip" not in page.text.partition("Curves")[0]
    assert "same/one 0.460 ± 0.003 0.580 ± 0.004 +0.120" in page.text
    assert [line["label"] for line in page.data["charts"][0]["lines"]] == ["same/one", "other, too/one"]
    assert page.data["gallery"]["sets"] == ["after same/one", "after other, too/one"]
    assert "./same/one/config.yaml" in page.values("href")


def after_of(reward: float) -> dict[str, Any]:
    return {**SUMMARY, "after": {**AFTER, "reward_mean": reward}}


def test_the_command_finds_the_runs_of_a_sweep_and_groups_its_seeds(tmp_path: Path) -> None:
    """Changes 0.04 and 0.08: mean 0.06, standard error 0.04 / sqrt(2) / sqrt(2) = 0.02; of one seed, its own."""
    words = {"before": ["ape"], "after": ["bear"]}
    for number, (algo, seed, reward) in enumerate([("ddpo", 0, 0.5), ("ddpo", 1, 0.54), ("nft", 0, 0.6)]):
        rows = [{**row, "reward": row["reward"] + 0.1 * seed} for row in rounds(3 + seed)]
        chosen = {"task": "qed", "algo": algo}
        a_run(tmp_path / str(number), rows, after_of(reward), words, seed=seed, run=str(number), chosen=chosen)
    done = molrl("report", str(tmp_path))
    assert (done.code, done.out) == (0, f"report: {tmp_path / 'report.html'}\n")
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "ddpo, seeds 0, 1 0.460 ± 0.000 0.520 ± 0.020 +0.060 ± 0.020" in page.text
    assert "nft, seed 0 0.460 ± 0.003 0.600 ± 0.004 +0.140 ± 0.005" in page.text
    assert "0 0.460 ± 0.003 0.500 ± 0.004 +0.040 ± 0.005" in page.text
    line, other = page.data["charts"][0]["lines"]
    assert [line["label"], other["label"]] == ["ddpo", "nft"]
    assert line["y"][:4] == pytest.approx([0.45, 0.46, 0.47, None])
    assert [high - y for high, y in zip(line["high"][:3], line["y"], strict=False)] == pytest.approx([0.05] * 3)
    assert page.data["gallery"]["sets"] == ["after ddpo", "after nft"]
    assert [item["title"] for item in page.data["gallery"]["items"]] == ["bear"] * 3


def test_the_seeds_of_one_setting_are_shown_as_one_run(tmp_path: Path) -> None:
    words = {"before": ["ape"], "after": ["bear"]}
    for seed in (0, 1, 2):
        a_run(tmp_path / str(seed), rounds(3), after_of(0.5 + 0.03 * seed), words, seed=seed)
    assert molrl("report", str(tmp_path)).code == 0
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "qed · rgdm: 3 seeds" in page.text
    assert "Reward 0.460 ± 0.000 0.530 ± 0.017 +0.070 ± 0.017" in page.text
    assert page.data["gallery"]["sets"] == ["before", "after"]


def test_the_same_seed_twice_is_no_group(tmp_path: Path) -> None:
    for name in "ab":
        a_run(tmp_path / name, rounds(3), SUMMARY, seed=7)
    assert molrl("report", str(tmp_path)).code == 0
    assert "2 runs compared" in Page((tmp_path / "report.html").read_text("utf-8")).text


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([{"chosen.algo": "ddpo", "a": "1"}, {"chosen.algo": "nft", "b": "2"}], ["ddpo", "nft"]),
        ([{"kl": "1"}, {"kl": "2"}], ["kl=1", "kl=2"]),
        ([{"chosen.algo": "x", "kl": "1"}, {"chosen.algo": "x", "kl": "2"}], ["kl=1", "kl=2"]),
        ([{"a": "1", "b": "1", "c": "1", "d": "1"}, {"a": "2", "b": "2", "c": "2", "d": "2"}], ["0", "1"]),
    ],
)
def test_groups_are_named_by_what_tells_them_apart(settings: list[dict[str, str]], names: list[str]) -> None:
    assert name_groups(settings, ["0", "1"]) == names


def test_the_error_of_a_share_is_binomial_and_never_zero() -> None:
    assert share_error(0.5, 400) == pytest.approx(0.025, rel=2e-3)
    assert share_error(1.0, 100) == pytest.approx(math.sqrt(0.5 * 100.5 / 101**3))
    assert share_error(1.0, 0) is None
    valid = Term("", "", ("n", "validity"), 50)
    assert estimate({"n": 80, "validity": 0.5, "x": 0.5}, "x", valid).error == pytest.approx(share_error(0.5, 40))
    assert estimate({"n": 800, "validity": 0.5, "x": 0.5}, "x", valid).error == pytest.approx(share_error(0.5, 50))
    assert estimate({"n": 80, "x": 0.5}, "x", valid).error is None
    assert estimate({"n": 80, "x": 0.5}, "x", Term("x")).error is None


def test_the_spread_of_seeds_is_the_error_of_their_mean() -> None:
    found = over_seeds([Estimate(1.0, 9.0), Estimate(3.0, 9.0), Estimate(None)])
    assert (found.value, found.error) == pytest.approx((2.0, 1.0))
    assert over_seeds([Estimate(1.0, 9.0)]) == (1.0, 9.0)
    assert over_seeds([]) == (None, None)
    assert difference(Estimate(1.0, 3.0), Estimate(2.0, 4.0)) == (1.0, 5.0)
    assert difference(Estimate(1.0), Estimate(2.0, 4.0)) == (1.0, None)


@pytest.mark.parametrize("name", domains.names())
def test_every_metric_has_a_plain_name(name: str) -> None:
    """A metric without a term is shown by its key, with spaces for underscores."""
    terms = {**TRAINING, **getattr(domains.domain(name), "glossary", {})}
    assert all(term.label and not term.meaning.endswith(".") for term in terms.values())
    assert find_term("clip_fraction_3", terms).label == "clipped ratios, part 3 of the chain"
    assert find_term("x_1", {"x_1": Term("one"), "x_*": Term("any *")}).label == "one"
    assert find_term("an_unknown_one", terms).label == "an unknown one"


def test_wrong_folders_and_files_are_one_clear_error(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", rounds(3), SUMMARY)
    (tmp_path / "taken.html").write_text("mine")
    (tmp_path / "empty").mkdir()
    assert "no run is there" in complaint(["report", str(tmp_path / "empty")], 2)
    (tmp_path / "empty" / "link").symlink_to(run)
    assert "no run is there" in complaint(["report", str(tmp_path / "empty")], 2)
    assert "named twice" in complaint(["report", str(run), f"{run}/."], 2)
    assert "runs: missing" in complaint(["report"], 2)
    assert "exists" in complaint(["report", str(run), f"out={tmp_path / 'taken.html'}"], 2)
    assert "is a folder" in complaint(["report", str(run), f"out={tmp_path}", "overwrite=true"], 2)
    assert (tmp_path / "taken.html").read_text() == "mine"
    (run / "report.html").symlink_to(tmp_path / "taken.html")
    assert "a link" in complaint(["report", str(run)], 2)
    assert (tmp_path / "taken.html").read_text() == "mine"
    (run / "config.yaml").unlink()
    (run / "config.yaml").symlink_to(tmp_path / "taken.html")
    assert "a link" in complaint(["report", str(run)], 2)


def test_the_first_three_labelled_metrics_have_a_curve_in_the_figure() -> None:
    rows: list[dict[str, float | None]] = [
        {"iteration": 0, "reward": 1.0, **dict.fromkeys("abde", 0.5), "c": None},
        {"iteration": 1, "kl": 0.1},
    ]
    curves = collect_curves(rows, {"c": "third", "e": "1-NNA", "a": "valid", "f": "far", "b": "bytes", "d": "deep"})
    assert [(line.metric, line.title) for line in curves[1:]] == [
        *(("kl", "KL to the start, nats"), ("e", "1-NNA"), ("a", "Valid"), ("b", "Bytes"))
    ]


def test_images_are_in_the_figure_pixel_for_pixel(tmp_path: Path) -> None:
    colours = {"before": (0x33, 0x66, 0xCC), "after": (0xCC, 0x66, 0x33)}
    images = {name: Image.new("RGB", (300, 200), colour) for name, colour in colours.items()}
    write_figure(a_run(tmp_path, rounds(3), SUMMARY), SUMMARY, images)
    pixels = np.asarray(Image.open(tmp_path / "report.png").convert("RGB"))
    for colour in colours.values():
        assert (pixels == colour).all(-1).sum() == 300 * 200


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
