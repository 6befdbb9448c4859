"""The documents of the project as tests read them: their blocks of code, commands and files."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from molrl.arguments import composed
from molrl.cli import as_yaml
from molrl.models.shipped import SHIPPED

ROOT = Path(__file__).parents[1]
NOT_OURS = {"molrl", "runs", "build", "dist", "shared"}  # links to the folders beside them, and what runs leave behind


def is_ours(path: Path) -> bool:
    """Return whether a document belongs to the project."""
    parts = path.relative_to(ROOT).parts
    return NOT_OURS.isdisjoint(parts) and not any(part.startswith(".") for part in parts)


def name_of(path: Path) -> str:
    """Return the name of a document in reports."""
    return str(path.relative_to(ROOT))


DOCUMENTS = sorted(path for path in ROOT.glob("**/*.md") if is_ours(path))
WITH_COMMANDS = [path for path in DOCUMENTS if path.name == "README.md" or "docs" in path.relative_to(ROOT).parts]
BLOCK = re.compile(
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
WITH_SETTINGS = re.compile(
    r"(?:.* -m )?(molrl (?:train|pretrain|sample|score|evaluate|oracle|report|export|migrate)\b.*)"
)
TOOL = re.compile(r"molrl (?:list|card|push|doctor)\b.*")
EARLIER = re.compile(
    r"(?:(?P<setting>policy|policy\.weights|resume|reference|known)=|export )"
    r"(?P<place>runs/[\w/]+|FOLDER|FILE\.safetensors)"
)
RESUMED = {"train": ["task=qed"], "pretrain": ["model=drugs", "data.path=mine.smi"]}
STAND_INS = {  # a word of a command -> the shipped model in the place of that of an earlier run; else molecules
    "myshapes": "shapes/shapes",
    "export": "images/images",
    "image_class": "images/images",
    "aesthetic": "images/images",
}


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of a language that are no files."""
    return [block["text"] for block in BLOCK.finditer(text) if block["language"] == language and not block["title"]]


def write_files(text: str, folder: Path) -> list[str]:
    """Write the blocks of a document that have a title into files of that name, and return the names."""
    files = {block["title"]: block["text"] for block in BLOCK.finditer(text) if block["title"]}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, "utf-8")
    return list(files)


def commands(text: str) -> list[str]:
    """Return the name after `molrl` in each line of the console blocks."""
    lines = "\n".join(blocks(text, "console")).splitlines()
    return [match[1] for line in lines if (match := re.match(r"(?:.* -m )?molrl ([\w-]+)", line.partition("#")[0]))]


def console_lines(text: str) -> list[str]:
    """Return the lines of the console blocks, continued ones as one, without comments."""
    lines = "\n".join(blocks(text, "console")).replace("\\\n", " ").splitlines()
    return [plain for line in lines if (plain := " ".join(re.sub(r"(^| )#.*", "", line).split()))]


def command_lines(text: str) -> list[str]:
    """Return the commands that have settings, without a launcher before them; ` ... ` stands for others."""
    found = (match[1] for line in console_lines(text) if (match := WITH_SETTINGS.match(line)))
    return [line for line in found if " ... " not in line]


def tool_lines(text: str) -> list[str]:
    """Return the commands that no YAML describes."""
    return [line for line in console_lines(text) if TOOL.fullmatch(line)]


def write_earlier(line: str, folder: Path) -> None:
    """Make what a command takes from an earlier one: the settings of a run that goes on, or else a model that ships.

    A file of weights is empty.
    """
    command = line.split()[1]
    for match in EARLIER.finditer(line):
        place = folder / match["place"]
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix:
            place.touch()
        elif match["setting"] == "resume":
            place.mkdir()
            (place / "config.yaml").write_text(as_yaml(composed(command, RESUMED[command], [])), "utf-8")
        else:
            model = next((model for word, model in STAND_INS.items() if word in line), "molecules/qm9_heavy")
            place.symlink_to(SHIPPED / model)


def aesthetic_head(folder: Path) -> None:
    """Write a stand-in for LAION's head, with its layers at a hundredth of their widths."""
    widths = (8, 4, 3, 2, 2, 1)
    layers = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))
    torch.save(layers.state_dict(), folder / "sac+logos+ava1-l14-linearMSE.pth")


def two_rounds(folder: Path) -> None:
    """Write the metrics of a run of two rounds."""
    (folder / "runs/mine").mkdir(parents=True)
    rows = [{"iteration": number, "reward": 0.4 + 0.1 * number, "kl": number} for number in range(2)]
    (folder / "runs/mine/metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


INPUTS: Mapping[str, Callable[[Path], None]] = {  # what the code of a page reads
    "docs/howto/stable_diffusion.md": aesthetic_head,
    "docs/troubleshooting.md": two_rounds,
}
SHORT: Mapping[str, Mapping[str, object]] = {  # of commands that train
    "train": {"iterations": 1, "rollouts": 8, "minibatch": 16, "evaluate": 8, "policy.num_steps": 4, "threads": 1},
    "pretrain": {"data.n": 200, "evaluate": 4, "num_steps": 3, "threads": 1, "training.steps": 2, "training.batch": 8},
}
WALKS = [
    "docs/start.md",
    "docs/howto/grow.md",
    "docs/howto/own_pocket.md",
    "docs/howto/own_reward.md",
    "docs/howto/slow_rewards.md",
]
ELSEWHERE = re.compile(r"workers=ray|3abc\.pdb|frag\.sdf|mine\.smi|new\.smi")  # a cluster, and files that a reader has


def shortened(line: str) -> list[str]:
    """Return the arguments of a command, with a short run where it trains."""
    arguments = shlex.split(line)[1:]
    short = SHORT.get(arguments[0], {})
    kept = [item for item in arguments if item.partition("=")[0] not in short]
    return [*kept, *(f"{name}={value}" for name, value in short.items())]


def walk(text: str) -> list[list[str]]:
    """Return the arguments of the commands of a page, in order, without those that need something from elsewhere."""
    return [shortened(line) for line in command_lines(text) if not ELSEWHERE.search(line)]
