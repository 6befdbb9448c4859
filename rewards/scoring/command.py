"""Score a file of samples: one row for each record, with values or reasons; after a kill it continues from there."""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from molrl.config import ConfigError, check_arguments
from molrl.data.files import EXAMPLE, locate
from molrl.domains import domain, domain_of_file, reward_kinds
from molrl.machine.workers.local import Workers
from molrl.machine.workers.protocol import Lost, WorkerPool
from molrl.outputs import make_folder
from molrl.progress import stage
from molrl.rewards.scores import Scored, Scorer, Scores, Values, scores
from molrl.rewards.scoring.checked_part import CheckedPart
from molrl.rewards.scoring.journal import Journal, description, output_lock
from molrl.rewards.scoring.record import (
    Record,
    RecordRequest,
    RecordResult,
    Source,
    is_good,
    mark_lost,
    part_columns,
    part_limits,
    part_values,
)
from molrl.rewards.scoring.summary import Summary, Tallies
from molrl.rewards.scoring.table import Output, Row, Table, join_reasons, output
from molrl.rewards.workers.pooled import Pooled, make_pool
from molrl.version import __version__

BATCH_SIZE = 256  # samples at a time for rewards that want batches
NOTE_INTERVAL = 2.0  # seconds between records of the progress in the journal


class FileReward(Protocol):
    """A reward whose values `score_one(sample) -> Scored` or `score(samples) -> Scores`, if it has one, explains.

    One that has `parts`, names of numbers, and `explain(sample) -> dict` with those gets a column for each. Its
    `limits`, a number and a sentence by part, say which values need caution. It states what it scores as `kind`, see
    `reward_kinds`.
    """

    def __call__(self, samples: Sequence[Any], /) -> Values:
        """Return one number for each sample; NaN where a sample could not be scored."""
        ...


class Scorers(NamedTuple):
    """The scorers of a file, by where they run.

    Attributes:
        pool: the workers, with the rewards that score one sample at a time.
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
    source: Source,
    *,
    overwrite: bool = False,
) -> Summary:
    """Write one row for each record of a file, in order: record, line, name, label, values, reason.

    The label is what the source says of a sample, such as its SMILES or its class. Cells of bad samples and of those
    that could not be scored are empty; the reason says why. Rewards in `Pooled` are computed by one set of worker
    processes, which also read the samples: a record that hangs or crashes is named as such and costs no other. Rows go
    to `out` + ".part" as they come; `out` appears when all are there. Called again after a kill, it goes on behind the
    last row up to which all checksums hold; called again after the end, it does nothing.

    Args:
        path: the file, or where the source allows it a folder.
        rewards: by the name of their column.
        out: .csv, .parquet or what else the source allows, .csv also with .gz.
        source: reads the records of the domain that the rewards score.
        overwrite: start again, whatever there is.

    Raises:
        ConfigError: `out` is of another input, of other settings, in use or of an unknown format.
        ValueError: the file is missing, empty, binary or of a format that the source does not read, or there is no
            reward.
    """
    if not rewards:
        raise ValueError("rewards: got none, need at least one")
    out = Path(out)
    columns = tuple(
        column for name, reward in rewards.items() for column in (name, *part_columns(name, scorer(reward)))
    )
    form = output(out, columns, source.column, source.tables)
    scorers = build_workers(rewards, columns, source, texts=form.table.needs_text)
    entries = source.records(path)
    if out.exists() and os.path.samefile(out, locate(path)):
        raise ConfigError(f"out={out} is the file to be scored; name another file")
    described = description({name: scorer(reward) for name, reward in rewards.items()})
    settings = dict(source.settings())
    versions = {"molrl": __version__, **settings.pop("version", {})}
    subject = {"input": source.identity(path), "rewards": described, **settings, "version": versions}
    make_folder(out.parent, "out")
    with output_lock(out), closing(scorers.pool):
        journal = Journal(out, subject)
        if (end := journal.begin(overwrite=overwrite)) is not None:
            return Summary.from_dict({**end, "source": str(path)})
        tallies = Tallies({name: part_limits(name, scorer(reward)) for name, reward in rewards.items()})
        with CheckedPart(journal.part, journal.sums) as part:
            take_up(part, form.table, tallies)
            rows = table_rows(scorers, islice(entries, tallies.records, None), form.table, tallies.records)
            with stage("records scored", done=tallies.records) as advance:
                append(part, rows, form.table, tallies, journal, advance)
        return finished(journal, form, tallies.summary(str(path)))


def take_up(part: CheckedPart, table: Table, tallies: Tallies) -> None:
    """Count the intact rows of the part, and cut off everything behind them."""
    end = 0
    if part.keep_intact():
        part.part.seek(0)
        for row, end in table.decode(part.part):  # noqa: B007
            tallies.add(row)
    part.cut(end, tallies.records + 1 if end else 0)
    if not end:
        part.append(table.header)


def append(
    part: CheckedPart,
    rows: Iterable[Row],
    table: Table,
    tallies: Tallies,
    journal: Journal,
    advance: Callable[[int], object],
) -> None:
    """Write rows one by one, and record the progress."""
    last_note = time.monotonic()
    for row in rows:
        part.append(table.encode(row))
        tallies.add(row)
        advance(1)
        if time.monotonic() > last_note + NOTE_INTERVAL:
            last_note = time.monotonic()
            journal.note(tallies.records)
    part.sync()


def finished(journal: Journal, form: Output, summary: Summary) -> Summary:
    """Make the output from the part, and return the summary."""
    journal.ready.unlink(missing_ok=True)
    if form.last_step is not None:
        form.last_step(form.table, journal.part, journal.ready)
    journal.finish(summary.records, summary.as_dict())
    return summary


def scorer(reward: object) -> Any:
    """Return the scorer of a pool, or the reward itself if it is in none."""
    return reward.scorer if isinstance(reward, Pooled) else reward


def source_of(rewards: Mapping[str, FileReward], file: str, own: Mapping[str, Any]) -> Source:
    """Return what reads the samples that the rewards score: the source of their domain, or of the file's.

    Args:
        rewards: by the name of their column.
        file: tells the domain where no reward states what it scores.
        own: settings of the domain.

    Raises:
        ConfigError: the rewards do not all score the same, or the settings are not those of the domain.
        ValueError: no domain reads such a file.
    """
    kinds = {name: reward_kinds(scorer(reward)) for name, reward in rewards.items()}
    stated = frozenset[str]().union(*kinds.values())
    if len(stated) > 1:
        kinds_text = ", ".join(
            f"{name} scores {' and '.join(sorted(kind)) or 'anything'}" for name, kind in kinds.items()
        )
        raise ConfigError(f"reward: {kinds_text}; ask for one kind at a time")
    about = domain(next(iter(stated))) if stated else domain_of_file(file)
    check_arguments(about.source, own, "", partial=False)
    source: Source = about.source(**own)
    return source


def build_workers(
    rewards: Mapping[str, FileReward], columns: tuple[str, ...], source: Source, *, texts: bool
) -> Scorers:
    """Make one pool of workers for all rewards that score single samples, with the most generous of their limits."""
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
    """Yield the rows of records, whose numbers continue those of the `done` first ones."""
    pairs = results(scorers, entries)
    while batch := list(islice(pairs, BATCH_SIZE if scorers.others else 1)):
        batch_results = [result for _, result in batch]
        ask_others(scorers.others, batch_results)
        for (record, _), result in zip(batch, batch_results, strict=True):
            done += 1
            values = {name: scored.value for name, scored in result.scored.items() if is_good(scored)}
            values.update(result.parts)
            cells = {column: table.cell(values[column]) if column in values else "" for column in scorers.columns}
            reasons = {name: scored.reason for name, scored in result.scored.items() if name not in values}
            reason = join_reasons(reasons, tuple(result.scored))
            yield Row(done, record.line, result.name, result.label, cells, reason, result.text)


def results(scorers: Scorers, entries: Iterable[Record]) -> Iterator[tuple[Record, RecordResult]]:
    """Yield every record with its result from the workers."""
    pending = deque[Record]()

    def requests() -> Iterator[RecordRequest]:
        for record in entries:
            pending.append(record)
            yield RecordRequest(record, scorers.names)

    for answer in scorers.pool.stream(requests()):
        record = pending.popleft()
        yield record, reopened(scorers, record, answer) if isinstance(answer, Lost) else answer


def reopened(scorers: Scorers, record: Record, loss: Lost) -> RecordResult:
    """Return the result of a record that was lost, by reading it without any reward and then with each alone."""
    bare: RecordResult | Lost
    (bare,) = scorers.pool.stream([RecordRequest(record, ())], chunk=1)
    if isinstance(bare, Lost):
        lost = Scored(math.nan, f"{bare.reason}{', ' if ':' in bare.reason else ': '}while reading it")
        return RecordResult(record.name, "", dict.fromkeys((*scorers.names, *scorers.others), lost), {})
    answers = [loss]
    if len(scorers.names) > 1:
        answers = list(scorers.pool.stream([RecordRequest(record, (name,)) for name in scorers.names], chunk=1))
    scored, parts = dict(bare.scored), dict(bare.parts)
    for name, answer in zip(scorers.names, answers, strict=True):
        scored[name] = Scored(math.nan, answer.reason) if isinstance(answer, Lost) else answer.scored[name]
        parts |= {} if isinstance(answer, Lost) else answer.parts
    return bare._replace(scored=scored, parts=parts)


def ask_others(others: Mapping[str, FileReward], batch: list[RecordResult]) -> None:
    """Add the scores of rewards that want a batch of samples to the results of a batch."""
    rows = [row for row, result in enumerate(batch) if result.sample is not None]
    samples = [batch[row].sample for row in rows]
    for name, reward in others.items() if samples else ():
        for row, sample, scored in zip(rows, samples, explain(reward, samples).scored, strict=True):
            result = batch[row]
            parts = part_values({name: reward}, sample, {name: scored})
            batch[row] = result._replace(
                scored={**result.scored, name: mark_lost(scored)}, parts={**result.parts, **parts}
            )


def explain(reward: FileReward, samples: Sequence[Any]) -> Scores:
    """Return values with reasons, from the reward's own `score` where it has one."""
    score = getattr(reward, "score", None)
    if score is not None:
        scored = score(samples)
        if isinstance(scored, Scores):
            return scored
    values = reward(samples)
    shape = getattr(values, "shape", None)
    if shape is None or tuple(shape) != (len(samples),):
        given = type(values).__name__ if shape is None else f"values of shape {tuple(shape)}"
        name = getattr(reward, "__name__", type(reward).__name__)
        raise ValueError(f"{name}: got {given}, need a tensor of shape ({len(samples)},), one number for each sample")
    return scores(Scored(value, "" if math.isfinite(value) else "not scored") for value in values.tolist())


def score_command(
    *,
    file: str,
    reward: FileReward | Mapping[str, FileReward],
    out: str | None,
    overwrite: bool,
    allow_failures: bool,
    **own: Any,
) -> int:
    """Write the table of `molrl score`, print the summary and return the exit code.

    Args:
        file: of samples.
        reward: one, or several by the names of their columns.
        out: None takes the file's name with those of the rewards and .csv.
        overwrite: start again, whatever there is.
        allow_failures: some records that could not be read or scored are no reason for another exit code than 0.
        own: settings of the domain: how its files are read.
    """
    rewards = reward if isinstance(reward, Mapping) else {type(scorer(reward)).__name__.lower(): reward}
    table = out or f"{named(file)}.{'_'.join(rewards)}.csv"
    source = source_of(rewards, file, own)
    summary = score_file(file, rewards, table, source, overwrite=overwrite)
    state = "complete already; overwrite=true starts again" if summary.existed else "table"
    print(f"{summary}\n{state}: {table}")
    return summary.exit_code(allow_failures=allow_failures)


def named(file: str) -> Path:
    """Return the path that the name of a table begins with.

    It is that of the file or folder, resolved if it has no name to put before a suffix, such as ".". For an example of
    the package it is the name alone, so that the table is written into the current folder.
    """
    file = file.removeprefix(EXAMPLE)
    return Path(file) if Path(file).name else Path(file).resolve()
