"""The protocol of a comparison (`compare.py`): how each algorithm divides the reward queries into rounds.

That depends on the model. Rounds of small molecules are cheap, and 96 of them have a gradient. Drug-size ones cost some
twenty times as much, and the gradient of fewer than 128 is mostly noise. What follows from the number of rounds is here
as well: minibatches that divide a round, and the step of a tilt, so that all rounds tilt by as much.
"""

from collections.abc import Mapping, Sequence

from molrl.composition import Composition, compose

MAX_QUERIES = 2304

FORWARD = ("iterations=24", "rollouts=96", "algo.noisings=12", "minibatch=576")
FITTED = ("iterations=6", "rollouts=384")
OF_STEPS = {
    "ddpo": ("iterations=12", "rollouts=192"),
    "ddpo_sf": ("iterations=18", "rollouts=128"),
    "dpok": ("iterations=12", "rollouts=192"),
    "grpo": ("iterations=12", "rollouts=192"),
    "dpo": ("iterations=12", "rollouts=192"),
    "rgdm": ("iterations=12", "rollouts=21", "minibatch=63"),  # nine queries for a rollout and its candidates
}
RUNS: Mapping[str, Sequence[str]] = {
    **OF_STEPS,
    **dict.fromkeys(("nft", "awm", "epg", "pepg", "ram"), FORWARD),
    "tilt": (*FORWARD, "algo.tilt_step=0.1667"),  # the same tilt in all as with the default's 16 rounds
    **dict.fromkeys(("rwr", "rwr_sparse", "sft_kl_d", "sft_kl_o"), FITTED),
}

SECOND_ORDER = ("policy.order=2", "precision=auto")  # conf/tuned/molecules/drugs.yaml has both, for nft and awm
DRUG_FORWARD = (
    *(*SECOND_ORDER, "iterations=18", "rollouts=128", "algo.noisings=8"),
    *("epochs=1", "minibatch=512", "optimizer.lr=1e-4"),  # of the same file, here for the whole family
)
DRUG_RUNS: Mapping[str, Sequence[str]] = {
    **OF_STEPS,
    **dict.fromkeys(("nft", "awm", "epg", "pepg", "ram"), DRUG_FORWARD),
    "tilt": (*DRUG_FORWARD, "algo.tilt_step=0.2222"),
    **dict.fromkeys(("rwr", "rwr_sparse", "sft_kl_d", "sft_kl_o"), (*FITTED, *SECOND_ORDER)),
}
RUNS_OF_MODEL = {"drugs": DRUG_RUNS}  # of others: RUNS

KNOWN_OF_MODEL = {"qm9_half": "qm9_heavy"}  # a model of half of what is known, and one of all of it


def shipped_model(settings: Sequence[str]) -> str:
    """Return the name of the shipped policy that settings choose, or that a chosen run began from."""
    command = Composition("train", ["task=qed", *settings])
    return command.ancestor(command.choices["policy"]).rpartition("/")[2]


def runs_of(settings: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return the settings of each algorithm for the policy that settings choose."""
    return RUNS_OF_MODEL.get(shipped_model(settings), RUNS)


def run_settings(name: str, settings: Sequence[str], factor: float = 1.0) -> list[str]:
    """Return the settings of an algorithm's run with a multiple of its learning rate."""
    chosen = [*runs_of(settings)[name], *settings]
    if factor == 1.0:
        return chosen
    rate = compose("train", ["task=qed", f"algo={name}", *chosen])["optimizer"]["lr"]
    return [*chosen, f"optimizer.lr={factor * rate:g}"]
