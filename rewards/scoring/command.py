"""Score a file of molecules or shapes: a row per record, whatever became of it; killed, it goes on from there."""

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from molrl import __version__
from molrl.config import ConfigError
from molrl.data.molecules.bonds import BondReader
from molrl.data.shapes.records import DEFAULT_READER, ShapeReader
from molrl.rewards.molecules.files import MoleculeFiles
from molrl.rewards.scores import Scored, Scorer, Scores, Values, domains, scores
from molrl.rewards.scoring.journal import Journal, description, exclusive
from molrl.rewards.scoring.record import (
    Record,
    RecordRequest,
    RecordResult,
    Source,
    explained,
    good,
    part_columns,
    settled,
)
from molrl.rewards.scoring.summary import Summary, Tallies
from molrl.rewards.scoring.table import Output, Row, SDFTable, Table, joint_reason, output
from molrl.rewards.shapes.files import ShapeFiles
from molrl.rewards.workers.local import Pooled, Workers, make_pool
from molrl.rewards.workers.protocol import Lost, WorkerPool

BATCH = 256  # samples at a time for rewards that want batches
NOTED = 2.0  # seconds between notes of the progress
SHOWN = 30.0  # seconds between lines about it


class FileReward(Protocol):
    """A reward of molecules or shapes; one with `score_one(sample) -> Scored` or `score(samples) -> Scores` explains
    its values.

    One that has `parts`, names of numbers, and `explain(sample) -> dict` with those gets a column for each. One of
    shapes says so with `domain = "shapes"`.
    """

    def __call__(self, samples: Sequence[Any], /) -> Values:
        """One number for each sample; NaN where a sample could not be scored."""
        ...


class Scorers(NamedTuple):
    """Who scores.

    Attributes:
        pool: the workers, with the rewards that judge one sample at a time.
        names: of those rewards.
        others: rewards that want a batch, in this process.
        columns: of the table.
    """

    pool: WorkerPool
    names: tuple[str, ...]
    others: Mapping[str, FileReward]
    columns: tuple[str, ...]


def score_file(
    path: str | Path,
    rewards: Mapping[str, FileReward],
    out: str | Path,
    *,
    reader: BondReader,
    embed: bool = False,
    smiles_column: str | None = None,
    shapes: ShapeReader = DEFAULT_READER,
    overwrite: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> Summary:
    """Write one row for each record of a file, in order: record, line, name, SMILES or class, values, reason.

    Whether it is read as molecules or as shapes is said by the rewards. Cells of bad samples and of those that could
    not be scored are empty; the reason says why. Rewards in `Pooled` are computed by one set of worker processes, which
    also read the samples: a record that hangs or crashes is named as such and costs no other. Rows go to `out` +
    ".part" as they come; `out` appears when all are there. Called again after a kill, it goes on behind the last whole
    row; called again after the end, it does nothing.

    Args:
        path: of shapes also a folder, with a folder for each class or without.
        rewards: by the name of their column.
        out: .csv, .sdf (the molecules with the values as properties) or .parquet; the first two also with .gz.
        reader: gives the SMILES of molecules that come without bonds.
        embed: make geometries for SMILES and 2D drawings. Rewards of the graph alone need none; without it all their
            atoms are at the origin, which a reward of the geometry must not be given.
        smiles_column: of a .csv file; None takes smiles or canonical_smiles.
        shapes: how shapes are read.
        overwrite: start again, whatever there is.
        progress: called with the number of rows from time to time.

    Raises:
        ConfigError: `out` is of another input, of other settings, in use or of an unknown format, or the rewards are
            not all of one kind.
        ValueError: the file is missing, empty, binary or of a format that the rewards do not score, or there is no
            reward.
    """
    if not rewards:
        raise ValueError("rewards: got none, need at least one")
    out = Path(out)
    columns = tuple(
        column for name, reward in rewards.items() for column in (name, *part_columns(name, scorer(reward)))
    )
    source = source_for(rewards, reader=reader, embed=embed, smiles_column=smiles_column, shapes=shapes)
    form = output(out, columns, source.column, source.suffixes)
    scorers = build_workers(rewards, columns, source, texts=isinstance(form.table, SDFTable))
    entries = source.records(path)
    if out.exists() and os.path.samefile(out, path):
        raise ConfigError(f"out={out} is the file to be scored; name another file")
    chosen = {"rewards": description({name: scorer(reward) for name, reward in rewards.items()})}
    own = dict(source.settings())
    versions = {"molrl": __version__, **own.pop("version", {})}
    subject = {"input": source.identity(path), **chosen, **own, "version": versions}
    out.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(out), closing(scorers.pool):
        journal = Journal(out, subject)
        if (end := journal.begin(overwrite=overwrite)) is not None:
            return Summary.from_dict({**end, "source": str(path)})
        tallies = Tallies(tuple(rewards))
        with open_part(journal.part) as file:
            taken_up(file, form.table, tallies)
            rows = table_rows(scorers, islice(entries, tallies.records, None), form.table, tallies.records)
            append(file, rows, form.table, tallies, journal, progress)
        return finished(journal, form, tallies.summary(str(path)))


def open_part(path: Path) -> IO[bytes]:
    """The part of the output, new or old, for reading and appending."""
    path.touch()
    return path.open("r+b")


def taken_up(file: IO[bytes], table: Table, tallies: Tallies) -> None:
    """Count the whole rows that are there, and cut off what is torn behind them."""
    end = 0
    for row, end in table.decode(file):  # noqa: B007
        tallies.add(row)
    end = end or len(table.header)
    file.seek(0)
    fresh = file.read(len(table.header)) != table.header
    file.seek(0 if fresh else end)
    file.truncate()
    if fresh:
        file.write(table.header)


def append(
    file: IO[bytes],
    rows: Iterable[Row],
    table: Table,
    tallies: Tallies,
    journal: Journal,
    progress: Callable[[int], object],
) -> None:
    """Write rows, each of them at once."""
    noted = time.monotonic()
    for row in rows:
        file.write(table.encode(row))
        file.flush()
        tallies.add(row)
        if time.monotonic() > noted + NOTED:
            noted = time.monotonic()
            journal.note(tallies.records)
            progress(tallies.records)
    os.fsync(file.fileno())


def finished(journal: Journal, form: Output, summary: Summary) -> Summary:
    """Make the part the output."""
    journal.ready.unlink(missing_ok=True)
    if form.last_step is not None:
        form.last_step(form.table, journal.part, journal.ready)
    journal.finish(summary.records, summary.as_dict())
    return summary


def scorer(reward: object) -> Any:
    """The object that scores one sample, out of its pool, or the reward itself."""
    return reward.scorer if isinstance(reward, Pooled) else reward


def source_for(
    rewards: Mapping[str, FileReward],
    *,
    reader: BondReader,
    embed: bool,
    smiles_column: str | None,
    shapes: ShapeReader,
) -> Source:
    """What reads the files of samples that these rewards are about.

    Raises:
        ConfigError: they are not all about the same, or settings are for what they are not about.
    """
    about = {name: domains(scorer(reward)) for name, reward in rewards.items()}
    if len(set().union(*about.values())) > 1:
        told = ", ".join(f"{name} scores {' and '.join(sorted(kinds))}" for name, kinds in about.items())
        raise ConfigError(f"reward: {told}; ask for one kind at a time")
    if set().union(*about.values()) != {ShapeFiles.domain}:
        return MoleculeFiles(reader=reader, embed=embed, smiles_column=smiles_column)
    if embed or smiles_column is not None:
        raise ConfigError(
            f"{'embed' if embed else 'smiles_column'}: is for molecules, {', '.join(rewards)} score shapes"
        )
    return ShapeFiles(shapes)


def build_workers(
    rewards: Mapping[str, FileReward], columns: tuple[str, ...], source: Source, *, texts: bool
) -> Scorers:
    """One set of workers for all rewards that judge single samples, as patient as the most patient of their pools."""
    scorers: dict[str, Scorer[Any]] = {
        name: scorer(reward) for name, reward in rewards.items() if hasattr(scorer(reward), "score_one")
    }
    others = {name: reward for name, reward in rewards.items() if name not in scorers}
    record_scorer = source.record_scorer(scorers, tuple(others), texts=texts)
    pools = [reward for reward in rewards.values() if isinstance(reward, Pooled)]
    if not pools:
        return Scorers(Workers(record_scorer, workers=0), tuple(scorers), others, columns)
    numbers = [pool.workers for pool in pools if pool.workers != "ray"]
    pool = make_pool(
        record_scorer,
        workers=max(numbers) if len(numbers) == len(pools) else "ray",
        timeout=max(pool.timeout for pool in pools),
        chunk=min(pool.chunk for pool in pools),
        memory=max(pool.memory for pool in pools),
        recycle=min(pool.recycle for pool in pools),
    )
    return Scorers(pool, tuple(scorers), others, columns)


def table_rows(scorers: Scorers, entries: Iterable[Record], table: Table, done: int) -> Iterator[Row]:
    """The rows of records, numbered from behind those that are done."""
    found = results(scorers, entries)
    while batch := list(islice(found, BATCH if scorers.others else 1)):
        judged = [result for _, result in batch]
        ask_others(scorers.others, judged)
        for (record, _), result in zip(batch, judged, strict=True):
            done += 1
            values = {name: scored.value for name, scored in result.scored.items() if good(scored)}
            values.update(result.parts)
            cells = {column: table.cell(values[column]) if column in values else "" for column in scorers.columns}
            reasons = {name: scored.reason for name, scored in result.scored.items() if name not in values}
            reason = joint_reason(reasons, tuple(result.scored))
            yield Row(done, record.line, result.name, result.label, cells, reason, result.text)


def results(scorers: Scorers, entries: Iterable[Record]) -> Iterator[tuple[Record, RecordResult]]:
    """Every record with what the workers found out about it."""
    sent = deque[Record]()

    def requests() -> Iterator[RecordRequest]:
        for record in entries:
            sent.append(record)
            yield RecordRequest(record, scorers.names)

    for found in scorers.pool.stream(requests()):
        record = sent.popleft()
        yield record, reopened(scorers, record, found) if isinstance(found, Lost) else found


def reopened(scorers: Scorers, record: Record, loss: Lost) -> RecordResult:
    """What can still be found out about a record that was lost: first without any reward, then with each of them."""
    bare: RecordResult | Lost
    (bare,) = scorers.pool.stream([RecordRequest(record, ())], chunk=1)
    if isinstance(bare, Lost):
        lost = Scored(math.nan, f"{bare.reason}{', ' if ':' in bare.reason else ': '}while reading it")
        return RecordResult(record.name, "", dict.fromkeys((*scorers.names, *scorers.others), lost), {})
    alone = [loss]
    if len(scorers.names) > 1:
        alone = list(scorers.pool.stream([RecordRequest(record, (name,)) for name in scorers.names], chunk=1))
    scored, parts = dict(bare.scored), dict(bare.parts)
    for name, found in zip(scorers.names, alone, strict=True):
        scored[name] = Scored(math.nan, found.reason) if isinstance(found, Lost) else found.scored[name]
        parts |= {} if isinstance(found, Lost) else found.parts
    return bare._replace(scored=scored, parts=parts)


def ask_others(others: Mapping[str, FileReward], batch: list[RecordResult]) -> None:
    """Add the scores of rewards that want a batch of samples."""
    places = [place for place, result in enumerate(batch) if result.sample is not None]
    samples = [batch[place].sample for place in places]
    for name, reward in others.items() if samples else ():
        for place, sample, scored in zip(places, samples, explain(reward, samples).scored, strict=True):
            result = batch[place]
            parts = explained({name: reward}, sample, {name: scored})
            both = {**result.scored, name: settled(scored)}, {**result.parts, **parts}
            batch[place] = result._replace(scored=both[0], parts=both[1])


def explain(reward: FileReward, samples: Sequence[Any]) -> Scores:
    """Values with reasons, from the reward's own `score` where it has one."""
    score = getattr(reward, "score", None)
    if score is not None:
        found = score(samples)
        if isinstance(found, Scores):
            return found
    values = reward(samples)
    if tuple(values.shape) != (len(samples),):
        raise ValueError(f"{type(reward).__name__}: got values of shape {tuple(values.shape)}, need ({len(samples)},)")
    return scores(Scored(value, "" if math.isfinite(value) else "not scored") for value in values.tolist())


def score_command(
    *,
    file: str,
    reward: FileReward | Mapping[str, FileReward],
    out: str | None,
    embed: bool,
    smiles_column: str | None,
    overwrite: bool,
    allow_failures: bool,
    reader: BondReader,
    shapes: ShapeReader,
) -> int:
    """`molrl score`: write the table, print the summary; returns the exit code.

    Args:
        reward: one, or several by the names of their columns.
        out: None takes the file's name with those of the rewards and .csv.
        allow_failures: some records that could not be read or scored are no reason for another exit code than 0.
    """
    rewards = reward if isinstance(reward, Mapping) else {type(scorer(reward)).__name__.lower(): reward}
    table = out or f"{named(file)}.{'_'.join(rewards)}.csv"
    summary = score_file(
        file,
        rewards,
        table,
        reader=reader,
        embed=embed,
        smiles_column=smiles_column,
        shapes=shapes,
        overwrite=overwrite,
        progress=Progress(),
    )
    state = "complete already; overwrite=true starts again" if summary.found else "table"
    print(f"{summary}\n{state}: {table}")
    return summary.exit_code(allow_failures=allow_failures)


def named(file: str) -> Path:
    """A file or folder with a name that can be put before a suffix."""
    return Path(file) if Path(file).name else Path(file).resolve()


class Progress:
    """Lines on stderr about a long run."""

    def __init__(self) -> None:
        self.began = self.shown = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        self.first = done if self.first is None else self.first
        if now > self.shown + SHOWN:
            self.shown = now
            rate = (done - self.first) / (now - self.began)
            print(f"{done} records, {rate:.0f} per second", file=sys.stderr)
