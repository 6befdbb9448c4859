"""The catalogue tells the truth of each thing that can be chosen, and `molrl list` shows it in 80 columns."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from command import complaint, molrl

from molrl import catalogue as listed
from molrl import plugins
from molrl.catalogue import GROUPS, NO_PAPER, catalogue, citations, comment, first_sentence
from molrl.completion import candidates
from molrl.composition import choices

ROOT = Path(__file__).parents[1]
CITED = ("rewards", "algorithms", "diversity", "guidance")  # each has a paper, or says that it has none
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
ENTRIES = [entry for kind in GROUPS for entry in catalogue(kind)]
MAX_SENTENCE = 220  # characters: three lines beside a name in 80 columns

# Scores one sample by every reward of ours in a process that has no extra, and prints how it went.
WITHOUT_EXTRAS = """
import json, sys
sys.modules.update(dict.fromkeys({packages}))
import numpy as np
from molrl.building import build
from molrl.catalogue import catalogue
from molrl.composition import Composition
from molrl.data.images.image import CaptionedImage
from molrl.data.molecules.molecule import Molecule
from molrl.data.shapes.cloud import PointCloud
from molrl.task import open_reward

corners = np.array([[0, 0, 0], [1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]], dtype=np.float32)
noise = np.random.default_rng(0)
samples = dict(
    molecules=Molecule(np.array([6, 1, 1, 1, 1]), 0.63 * corners),
    shapes=PointCloud(noise.normal(size=(256, 3)).astype(np.float32), "chair"),
    images=CaptionedImage(noise.integers(0, 255, (32, 32, 3), dtype=np.uint8), "a red circle"),
)
found = {{}}
for entry in catalogue("rewards"):
    try:
        settings = Composition("score", ["reward=" + entry.name, "file=none"]).config["reward"]
        reward = build({{**settings, **({{"workers": 0}} if "workers" in settings else {{}})}}, "reward")
        with open_reward(reward):
            reward([samples[entry.domain]])
        found[entry.name] = ""
    except Exception as error:
        found[entry.name] = str(error)
print(json.dumps(found))
"""
PACKAGES = (
    *("ase", "e3nn", "torch_geometric", "dockstring", "meeko", "vina", "fcd", "diffusers", "peft", "transformers"),
    *("pyarrow", "posebusters", "ray", "manifold3d", "mujoco", "scipy", "trimesh", "tblite"),
)


@pytest.mark.parametrize("kind", GROUPS)
def test_every_choice_is_listed_and_nothing_else(kind: str) -> None:
    assert [entry.name for entry in sorted(catalogue(kind), key=lambda entry: entry.name)] == choices(GROUPS[kind])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_every_entry_says_what_it_is_and_whose_idea_it_was(entry: listed.Entry) -> None:
    assert 10 < len(entry.about) <= MAX_SENTENCE
    assert entry.is_ours
    assert entry.extra is None or entry.extra in EXTRAS
    assert entry.kind not in CITED or bool(entry.papers) != says_no_paper(entry)


def says_no_paper(entry: listed.Entry) -> bool:
    return f"({NO_PAPER})" in comment(Path(entry.source).read_text("utf-8"))


def test_the_domain_is_that_of_the_folder() -> None:
    domains = {entry.name: entry.domain for entry in catalogue("rewards") + catalogue("algorithms")}
    assert (domains["qed"], domains["shape_target"], domains["clip_score"]) == ("molecules", "shapes", "images")
    assert domains["rgdm"] is None


@pytest.mark.slow
def test_a_reward_needs_the_extra_that_it_names_and_no_other() -> None:
    """Each reward that can score without further settings is tried in a process that has none of the extras."""
    script = WITHOUT_EXTRAS.format(packages=PACKAGES)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    tried = {entry: found[entry.name] for entry in catalogue("rewards") if "missing" not in found[entry.name]}
    for entry, problem in tried.items():
        assert (problem == "") == (entry.extra is None), (entry.name, problem)
        assert f"pip install 'molrl[{entry.extra}]'" in problem or entry.extra is None
    assert len(tried) > len(found) / 2
    assert {entry.extra for entry in tried} == {None, "shapes", "xtb"}


@pytest.mark.parametrize(
    ("text", "about", "papers"),
    [
        ("A score in [0, 1] (Black et al. 2023, arXiv:2305.13301); 0 else.", "A score in [0, 1]", "Black|13301"),
        ("X (A 2001, doi:10.1/b.c, Sec. 2; B and C 1999). More.", "X", "A 2001, doi:10.1/b.c|B and C 1999"),
        ("(10 - SA) / 9, larger is easier (no paper). Needs the extra xtb.", "(10 - SA) / 9, larger is easier", ""),
        ("After Li et al. of 2.5 kinds (needs the extra e3nn)", "After Li et al. of 2.5 kinds", ""),
        ("", "", ""),
    ],
)
def test_a_comment_is_a_sentence_and_its_papers(text: str, about: str, papers: str) -> None:
    assert first_sentence(text) == about
    got = "|".join(citations(text))
    assert got == papers if papers != "Black|13301" else got == "Black et al. 2023, arXiv:2305.13301"


def test_a_comment_ends_where_the_settings_begin() -> None:
    assert comment("# @package _global_\n# One,\n# two.\na: 1 # three\n# four\n") == "One, two."
    assert comment("a: 1\n") == ""


@pytest.mark.parametrize("kind", GROUPS)
def test_a_table_fits_eighty_columns_and_names_everything(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = molrl("list", kind)
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    names = {line.split()[0] for line in done.out.splitlines() if line.startswith("  ") and line[2] != " "}
    assert names == set(choices(GROUPS[kind]))


def test_columns_are_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [line for line in molrl("list", "policies").out.splitlines() if line.startswith("  ")]
    starts = {
        len(line) - len(line[2:].lstrip(" ")) if line[2] == " " else line.index(line.split()[1], 4) for line in rows
    }
    assert starts == {2 + len("stable_diffusion_1_4") + 2}


@pytest.mark.parametrize("domain", ["molecules", "shapes", "images"])
def test_a_domain_has_its_own_and_what_is_for_any(domain: str) -> None:
    for kind in GROUPS:
        fitting = [entry for entry in catalogue(kind) if entry.domain in (domain, None)]
        assert catalogue(kind, domain=domain) == fitting
    assert {entry.domain for entry in catalogue("rewards", domain=domain)} <= {domain, None}
    shown = molrl("list", "rewards", f"domain={domain}").out
    assert ("\n  qed " in shown) == (domain == "molecules")
    row = next(line for line in molrl("list", f"domain={domain}").out.splitlines() if " rewards " in line)
    assert int(row.split()[3]) == len(catalogue("rewards", domain=domain))


def test_every_policy_of_a_pipeline_needs_the_library_of_pipelines() -> None:
    assert {entry.extra for entry in catalogue("policies") if entry.domain == "images"} == {"image"}


def test_one_entry_is_shown_with_its_settings() -> None:
    shown = molrl("list", "algorithms", "ddpo").out
    assert "Black et al. 2023, arXiv:2305.13301" in shown
    assert "    clip: " in shown
    assert "ddpo.yaml" in shown


def test_without_a_kind_all_kinds_are_counted() -> None:
    rows = [line.split() for line in molrl("list").out.splitlines()]
    assert {row[2]: int(row[3]) for row in rows} == {kind: len(choices(group)) for kind, group in GROUPS.items()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reward"], "reward: no such list; did you mean rewards?"),
        (["algorithm"], "did you mean algorithms?"),
        (["rewards", "qde"], "qde: not among the rewards; did you mean qed?"),
        (["rewards", "qed", "sa"], "got rewards qed sa"),
        (
            ["rewards", "domain=shape"],
            "domain=shape: no such domain; known are images, molecules, shapes; did you mean",
        ),
        (["rewards", "domian=shapes"], "did you mean domain?"),
        (["rewards", "--config-dir", "/nowhere"], "no such folder"),
        (["rewards", "--columns"], "no such option"),
    ],
)
def test_a_wrong_word_is_one_line_with_what_was_meant(arguments: list[str], words: str) -> None:
    said = complaint(["list", *arguments], 2)
    assert all(part in said for part in words.split("; "))


def test_the_users_own_folder_is_listed_too(tmp_path: Path) -> None:
    (tmp_path / "reward/molecules").mkdir(parents=True)
    mine = tmp_path / "reward/molecules/carbons.yaml"
    mine.write_text(
        "# Number of carbon atoms (Mine 2030). Not more.\n_target_: molrl.plugins.user_reward\nsource: a:b\n"
    )
    (tmp_path / "reward/bare.yaml").write_text("_target_: molrl.plugins.user_reward\nsource: a:b\n")
    (found,) = [entry for entry in catalogue("rewards", [tmp_path]) if entry.name == "carbons"]
    assert (found.domain, found.about, found.papers) == ("molecules", "Number of carbon atoms", ("Mine 2030",))
    assert not found.is_ours
    shown = molrl("list", "rewards", "--config-dir", str(tmp_path)).out
    assert "carbons.yaml" in shown.replace("\n" + shown.split("carbons", 1)[0].rpartition("\n")[2], "")
    assert "(the file has no comment at its top)" in shown
    assert "source: a:b" in molrl("list", "rewards", "carbons", "--config-dir", str(tmp_path)).out


def test_what_a_package_registered_is_listed_and_a_broken_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "rotors": EntryPoint("rotors", "molrl.rewards.molecules.rings:AllowedRings", plugins.REWARDS),
        "gone": EntryPoint("gone", "no_such_package:Reward", plugins.REWARDS),
    }
    monkeypatch.setattr(listed, "registered", lambda group: points if group == plugins.REWARDS else {})
    monkeypatch.setattr(plugins, "registered", lambda _: points)
    found = {entry.name: entry for entry in catalogue("rewards")}
    assert found["rotors"].source == "molrl.rewards.molecules.rings:AllowedRings"
    assert found["rotors"].domain == "molecules"
    assert found["rotors"].about
    assert "No module named 'no_such_package'" in found["gone"].about


def test_lists_are_completed() -> None:
    assert candidates("al", ["list"]) == ["algorithms"]
    assert "qed" in candidates("q", ["list", "rewards"])
    assert candidates("domain=s", ["list", "rewards"]) == ["domain=shapes"]
    assert candidates("", ["list", "rewards", "qed"]) == []
    assert candidates("", ["list", "nothing"]) == []
    assert "list" in candidates("l", [])
