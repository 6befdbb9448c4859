"""The table of faults: each injected fault, its required outcome, and whether the outcome is met.

    python benchmarks/faults.py                  all twenty, in some minutes
    python benchmarks/faults.py 1 2 3            these
    python benchmarks/faults.py --soak           also the 200 kills

Every case is a list of tests, which are run and summarised.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
SOAK = "test_soak::test_two_hundred_kills_lose_nothing"


@dataclass(frozen=True)
class Case:
    """A fault, its required outcome, and the tests (file::function) of it."""

    number: int
    fault: str
    outcome: str
    tests: tuple[str, ...]


CASES = [
    Case(
        1,
        "SIGKILL at every file boundary of a save",
        "the old or the new state, never a mix; leftovers are removed",
        (
            "test_checkpoints::test_killed_at_every_boundary_of_a_save_the_old_or_the_new_state_is_there",
            "test_checkpoints::test_everything_is_on_the_disk_before_its_name_and_the_name_before_the_marker",
            "test_resume_command::test_killed_without_warning_and_resumed_it_is_the_uninterrupted_run",
        ),
    ),
    Case(
        2,
        "full disk, quota, read-only folder",
        "path and free space named; old state whole; three tries, then exit 6",
        (
            "test_checkpoints::test_a_disk_that_fills_up_while_writing_leaves_the_old_state",
            "test_checkpoints::test_a_disk_that_cannot_be_written_is_tried_a_few_times_and_named",
            "test_checkpoints::test_room_is_asked_for_before_anything_is_written",
            "test_checkpoints::test_a_disk_that_is_full_for_a_moment_costs_nothing",
            "test_faults::test_a_run_folder_that_cannot_be_written_is_named",
        ),
    ),
    Case(
        3,
        "flipped bit, cut, empty, missing, foreign format",
        "named; the checkpoint before it is taken; none whole: exit 5, no fresh start",
        (
            "test_checkpoints::test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken",
            "test_checkpoints::test_with_no_whole_checkpoint_nothing_starts_afresh_and_nothing_is_touched",
            "test_checkpoints::test_a_checkpoint_of_an_earlier_version_is_no_fresh_start",
            "test_checkpoint::test_another_format_is_named",
            "test_run::test_a_damaged_checkpoint_is_named_and_nothing_starts_afresh",
        ),
    ),
    Case(
        4,
        "stop after k rounds, resume to N",
        "weights, moments, critic, generators, metrics equal, bit for bit",
        (
            "test_resume::test_stopped_after_any_round_it_comes_to_the_same_last_checkpoint",
            "test_resume::test_a_reward_that_draws_from_the_global_generators_draws_on",
            "test_resume::test_flags_of_modules_and_parameters_come_back",
            "test_pretrain::test_a_resumed_run_is_the_uninterrupted_one",
            "test_pretrain::test_asked_to_stop_at_any_step_it_goes_on_to_the_same_end",
            "test_run::test_an_interrupted_run_goes_on_to_what_it_would_have_been",
        ),
    ),
    Case(
        5,
        "reward gives NaN, inf, None, wrong length or shape, integers, text",
        "masked and counted, policy finite; wrong shape stops; integers cast; too many lost: stop",
        (
            "test_faults::test_a_reward_that_is_no_number_costs_its_sample_and_never_the_policy",
            "test_faults::test_a_reward_that_is_no_tensor_stops_at_once",
            "test_finetune::test_rewards_of_another_shape_stop_the_run",
            "test_finetune::test_too_many_missing_rewards_stop_the_run",
            "test_molecule_rewards::test_a_fault_costs_its_own_value_and_has_a_reason",
            "test_molecule_rewards::test_integers_become_float32",
        ),
    ),
    Case(
        6,
        "reward hangs, in Python or C++",
        "its sample is a timeout after its limit; the others keep their values",
        (
            "test_workers::test_every_fault_costs_one_value_and_the_others_are_right",
            "test_workers::test_a_hang_costs_its_own_time_limit_and_not_that_of_its_chunk",
            "test_bonds::test_perception_of_an_input_that_runs_for_ever_without_a_limit_is_bounded",
        ),
    ),
    Case(
        7,
        "reward worker exits, crashes, eats memory",
        "its sample is a crash; the pool goes on; no process stays",
        (
            "test_workers::test_several_faults_in_one_chunk_cost_only_their_values",
            "test_workers::test_a_pool_goes_on_after_its_workers_died",
            "test_workers::test_memory_beyond_the_limit_is_an_error_of_its_sample",
            "test_workers::test_a_closed_pool_leaves_no_process_and_starts_again",
            "test_workers::test_workers_end_with_their_parent",
        ),
    ),
    Case(
        8,
        "reward needs an extra that is missing",
        "one line with the command to install it, before weights are loaded, exit 2",
        (
            "test_faults::test_a_missing_package_is_one_line_before_any_weights_are_loaded",
            "test_workers::test_a_scorer_that_cannot_be_imported_is_an_error_at_the_start",
        ),
    ),
    Case(
        9,
        "unknown key, wrong type or range, _target_: os.system",
        "refused before any model is built; key and allowed values named; nothing run",
        (
            "test_cli::test_wrong_use_is_explained_and_leaves_nothing_behind",
            "test_cli::test_a_refusal_takes_no_import_of_the_model_and_no_traceback_in_a_process_of_its_own",
            "test_config::test_nothing_foreign_is_built",
            "test_config::test_a_foreign_target_deep_inside_is_refused_before_anything_around_it_is_built",
            "test_resume_command::test_what_a_folder_says_is_compared_and_never_built",
        ),
    ),
    Case(
        10,
        "malicious pickle as model, checkpoint, data, run folder",
        "refused; the file its payload would make is not there",
        (
            "test_faults::test_a_pickle_is_never_opened_whatever_it_is_offered_as",
            "test_faults::test_a_pickle_in_the_place_of_weights_is_never_opened",
            "test_faults::test_pyg_s_own_files_are_read_without_running_what_is_in_them",
            "test_architecture::test_nothing_that_is_read_from_a_file_is_run",
        ),
    ),
    Case(
        11,
        "files: empty, garbage, lying counts, cut, bombs, bad record in the middle",
        "the record named and skipped, the next read; memory bounded",
        (
            "test_fuzz::test_whatever_a_file_holds_a_reader_reads_it_or_says_why_not",
            "test_readers::test_every_broken_record_is_named_and_the_next_one_is_read",
            "test_readers::test_a_record_without_end_is_not_kept_in_memory",
            "test_readers::test_a_file_without_end_is_read_to_the_cap",
            "test_meshes::test_archives_that_unpack_to_too_much_are_not_unpacked",
            "test_meshes::test_bad_content_is_one_clear_reason",
        ),
    ),
    Case(
        12,
        "empty, disconnected, radical molecules; empty, flat, NaN clouds",
        "a floor with a reason, never a plausible score",
        (
            "test_golden_values::test_a_bad_sample_has_the_floor_and_the_same_reason_everywhere",
            "test_bonds::test_what_is_no_molecule_is_refused_with_a_reason",
            "test_shape_rewards::test_a_bad_cloud_gets_the_floor_and_a_reason",
        ),
    ),
    Case(
        13,
        "device=cuda without a GPU; device=auto",
        "exit 2 and a clear word; auto runs on the CPU and says so",
        (
            "test_cli::test_a_gpu_that_is_not_there_is_refused_before_anything_starts",
            "test_faults::test_the_device_that_was_chosen_is_said",
        ),
    ),
    Case(
        14,
        "out of memory while sampling and while learning",
        "a clean end that says what to lower; the checkpoint is whole",
        (
            "test_faults::test_out_of_memory_while_sampling_is_a_clean_end_with_the_checkpoint_whole",
            "test_faults::test_out_of_memory_while_learning_is_told_from_other_errors",
        ),
    ),
    Case(
        15,
        "two processes on one run folder",
        "the second is refused at once and told who holds it",
        (
            "test_run::test_a_folder_in_use_is_refused_with_who_uses_it",
            "test_folder::test_a_folder_is_not_claimed_twice_at_a_time_and_keeps_its_settings",
        ),
    ),
    Case(
        16,
        "Ctrl-C, SIGTERM, twice",
        "the round is finished and saved, 130 / 143; the second ends at once",
        (
            "test_run::test_ctrl_c_and_sigterm_end_a_run_with_a_checkpoint_and_no_workers",
            "test_interruption::test_pretraining_ends_with_a_checkpoint_and_one_line",
            "test_faults::test_a_second_signal_ends_at_once_and_the_old_state_is_whole",
        ),
    ),
    Case(
        17,
        "other numbers of workers, other batches, the same seed twice",
        "the same scores, the same samples, the same run",
        (
            "test_workers::test_scores_do_not_depend_on_workers_or_chunks",
            "test_policy::test_a_sample_does_not_depend_on_its_batch",
            "test_finetune::test_the_same_seed_gives_the_same_run",
            "test_cli::test_samples_are_written_and_depend_on_the_seed_alone",
        ),
    ),
    Case(
        18,
        "no network",
        "all tests pass; every connection to another machine is refused",
        (
            "test_isolation::test_connecting_to_another_machine_is_refused",
            "test_isolation::test_looking_up_another_machine_is_refused",
        ),
    ),
    Case(
        19,
        "other versions of the toolkits below",
        "published values of known samples within their tolerance",
        (
            "test_golden_values::test_values_are_those_that_were_published",
            "test_golden_values::test_every_reward_has_published_values",
        ),
    ),
    Case(
        20,
        "one process of several dies, fails or does not answer",
        "the others leave in time and name it; the old state is whole",
        (
            "test_processes::test_when_a_process_dies_the_others_leave_with_its_number_and_the_checkpoint_is_whole",
            "test_processes::test_when_a_process_fails_it_tells_the_others_why",
            "test_processes::test_a_process_that_does_not_answer_is_waited_for_no_longer_than_asked",
            "test_processes::test_a_signal_to_one_process_ends_all_after_the_round_and_a_checkpoint",
        ),
    ),
]


def outcomes(names: list[str], folder: Path) -> dict[str, Counter[str]]:
    """Run tests, each once, and count the cases of each that passed, failed and were skipped."""
    report = folder / "report.xml"
    files = {path.stem: path for path in (ROOT / "tests").rglob("test_*.py")}
    ids = [f"{files[file]}::{function}" for file, _, function in (name.partition("::") for name in names)]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not gpu", "--timeout=3600", f"--junitxml={report}", *ids]
    subprocess.run(command, cwd=ROOT, check=False)
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '').partition('[')[0]}"
        states = {child.tag for child in case}
        failed = bool(states & {"failure", "error"})
        counts[name]["failed" if failed else "skipped" if "skipped" in states else "passed"] += 1
    return counts


def main() -> int:
    """Run the tests and print the table; return 1 if a case failed."""
    parser = argparse.ArgumentParser(description="The table of faults.")
    parser.add_argument("cases", nargs="*", type=int, help="numbers; all by default")
    parser.add_argument("--soak", action="store_true", help="also kill a run two hundred times")
    parser.add_argument("--out", type=Path, help="write the table as JSON")
    options = parser.parse_args()
    cases = [case for case in CASES if case.number in (options.cases or range(1, 21))]
    names = list(dict.fromkeys(name for case in cases for name in case.tests)) + [SOAK] * options.soak
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = outcomes(names, Path(folder))
    table = Table("", "fault", "required outcome", "tests", "result")
    rows, failed = [], False
    for case in cases:
        total = sum((counts[name] for name in (*case.tests, *[SOAK] * (options.soak and case.number == 1))), Counter())
        missing = [name for name in case.tests if not counts[name]]
        result = "FAILED" if total["failed"] or missing else "as promised" if total["passed"] else "skipped"
        failed = failed or result == "FAILED"
        result += f", {total['skipped']} skipped" if total["skipped"] else ""
        rows.append({"case": case.number, "fault": case.fault, "outcome": case.outcome, "result": result, **total})
        table.add_row(str(case.number), case.fault, case.outcome, str(total["passed"] + total["failed"]), result)
    Console(width=150).print(table)
    print(f"{time.perf_counter() - began:.0f} s")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
