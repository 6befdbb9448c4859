"""`molrl push` and `molrl card`: a run's model with its card, as a repository of the Hugging Face Hub."""

from collections.abc import Sequence
from pathlib import Path

from molrl.arguments import Options
from molrl.config import ConfigError
from molrl.exit_codes import ExitCode
from molrl.machine.files import open_regular, refuse_special_files
from molrl.models.hub import HUB, client, parse
from molrl.models.shipped import locate
from molrl.progress import stage
from molrl.runs import checkpoint
from molrl.runs.card import write_cards
from molrl.runs.errors import CheckpointError
from molrl.runs.folder import CARD, SUMMARY
from molrl.runs.headers import read_header
from molrl.suggestions import did_you_mean

USAGE = """molrl push RUN|FOLDER hub:OWNER/NAME [private=false] [license=cc-by-4.0]
       molrl card RUN [license=cc-by-4.0]

  A run's model/ and best/ have their card from the end of the run on; molrl card writes it once more.
  push sends safetensors, JSON and the card, into a private repository unless private=false says otherwise.
  The library of the Hub has your token: hf auth login, or the variable HF_TOKEN."""
SUFFIXES = (".safetensors", ".json")
SETTINGS = {"push": ("private", "license"), "card": ("license",)}


def push(options: Options) -> int:
    """Send a model and its card to the Hub; return the exit code.

    Raises:
        ConfigError: wrong words, or the model has no card.
        CheckpointError: the model is damaged.
        RuntimeError: the Hub refused it or cannot be reached.
    """
    words, settings = split_words("push", options.settings)
    if len(words) != 2 or not words[1].startswith(HUB):
        raise ConfigError(f"push: got {' '.join(words) or 'nothing'}; usage: {USAGE.partition(chr(10))[0]}")
    private = {"true": True, "false": False}.get(settings.get("private", "true"))
    if private is None:
        raise ConfigError(f"private={settings['private']}: allowed are true, false")
    repository, folder = parse(words[1]), locate(words[0])
    if repository.revision is not None:
        raise ConfigError(f"{words[1]}: a push makes the next revision; name hub:{repository.id}")
    if (run := folder.parent / SUMMARY).is_file() and (not (folder / CARD).exists() or "license" in settings):
        write_cards(run.parent, settings.get("license"))
    sent, left_out = files_to_send(folder)
    if CARD not in sent:
        raise ConfigError(f"{folder}: has no {CARD}, which says what the model is and how it may be used; write one")
    check_files(folder, sent)
    for name in left_out:
        print(f"left out: {name}")
    with stage(f"sending {len(sent)} files to {words[1]}"):
        commit = send(folder, sent, repository.id, private=private)
    kind = "private" if private else "public"
    print(f"{words[1]}: {len(sent)} files, made {kind} if it is new; policy={HUB}{repository.id}@{commit}")
    return ExitCode.DONE


def card(options: Options) -> int:
    """Write the cards of a run's models and print where they are; return the exit code."""
    words, settings = split_words("card", options.settings)
    if len(words) != 1:
        raise ConfigError(f"card: got {' '.join(words) or 'nothing'}, expected one run: molrl card RUN")
    try:
        written = write_cards(Path(words[0]).expanduser(), settings.get("license"))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{words[0]}: not a finished run of molrl train ({error!s:.200})") from error
    print(*written, sep="\n")
    return ExitCode.DONE


def split_words(command: str, given: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the words of a command and its settings by name.

    Raises:
        ConfigError: there is no such setting.
    """
    settings = {name: value for name, equals, value in (item.partition("=") for item in given) if equals}
    for name in settings:
        if name not in SETTINGS[command]:
            hint = did_you_mean(name, SETTINGS[command])
            raise ConfigError(f"{name}=: molrl {command} has {', '.join(SETTINGS[command])}{hint}")
    return [item for item in given if "=" not in item], settings


def files_to_send(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of a folder's files that are sent, and of those that are left out: neither tensors nor JSON.

    Raises:
        ValueError: there is a link, a pipe or a device in it.
    """
    refuse_special_files(folder)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    sent = [name for name in found if name == CARD or name.endswith(SUFFIXES)]
    return sent, [name for name in found if name not in sent]


def check_files(folder: Path, sent: Sequence[str]) -> None:
    """Raise CheckpointError where a manifest or the header of a file of tensors does not fit what is there."""
    if checkpoint.MANIFEST in sent:
        checkpoint.load(folder)
    for name in sent:
        if name.endswith(".safetensors"):
            with open_regular(folder / name) as file:
                read_header(file, folder / name)


def send(folder: Path, sent: Sequence[str], repository: str, *, private: bool) -> str:
    """Make the repository where there is none, add one commit with these files, and return its SHA-1.

    Raises:
        RuntimeError: the Hub refused it or cannot be reached.
    """
    api = client()
    from huggingface_hub import CommitOperationAdd

    try:
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, str(folder / name)) for name in sent]
        return str(api.create_commit(repository, operations, commit_message="A model of molrl with its card").oid)
    except CheckpointError:
        raise
    except Exception as error:  # of the library and of the network, which have no common type
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise RuntimeError(f"{HUB}{repository}: not sent ({first:.200})") from error
