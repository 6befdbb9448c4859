"""Settings of `molrl train task=qed algo=X` that cannot work are refused before anything is sampled."""

from pathlib import Path

import pytest
from command import complaint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["algo=ddpo", "policy.eta=0"], "eta: got 0, a deterministic chain"),
        (["algo=dpok", "policy.eta=0.0"], "eta: got 0"),
        (["algo=ddpo", "algo.advantage.kind=group", "algo.advantage.size=1"], "a group of one has no other"),
        (["algo=ddpo", "algo.advantage.kind=group", "algo.advantage.size=5", "rollouts=12"], "rollouts: got 12"),
        (["algo=ddpo_sf", "algo.advantage.kind=median"], "expected 'global' or 'centred'"),
        (["algo=rwr", "algo.temperature=-1.0"], "temperature: got -1.0, need a number above 0"),
        (["algo=rwr_sparse", "algo.quantile=1.0"], "quantile: got 1.0, allowed 0 to below 1"),
        (["algo=dpok", "algo.clip=0.0"], "clip: got 0.0"),
        (["algo=grpo", "algo.group_size=1"], "group_size: got 1, need 2 or more"),
        (["algo=grpo", "algo.group_size=5", "rollouts=12"], "rollouts: got 12, need a multiple of the group size 5"),
        (["algo=grpo", "policy.eta=0"], "eta: got 0, a deterministic chain"),
        (["algo=sft_kl_d", "algo.gamma=-1.0"], "gamma: got -1.0, allowed 0 or more"),
        (["algo=nft", "algo.mixing=0.0"], "mixing: got 0.0, need a number above 0"),
        (["algo=awm", "algo.data_weight=0.1"], "data_weight: task 'qed' has no data set"),
        (["algo=tilt", "algo.decay=1.0"], "decay: got 1.0, allowed 0 to below 1"),
        (["algo=rgdm", "algo.guidance=gradient"], "has no gradient; use candidates"),
        (
            ["algo=draft"],
            "has no gradient, which this algorithm follows; those that have one: docking, docking_qed, selectivity, ",
        ),
        (["algo=refl", "algo.first=1.0"], "need 0 <= first < last <= 1"),
        (["algo=adjoint", "algo.split=0.0"], "need 0 <= first < last <= 1"),
        (["algo=adjoint", "algo.held_out.patience=0"], "patience: got 0, need a number above 0"),
        (["algo=draft", "algo.steps=0"], "steps: got 0, need a number above 0"),
        (["algo=rgdm", "algo.source=data"], "has no data set; use policy or replay"),
        (["algo=rgdm", "algo.temperature=-0.5"], "temperature: got -0.5"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(settings: list[str], message: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert message in complaint(["train", f"run={run}", *settings], code=2)
    assert not run.exists()
