"""A compiled network is called with one shape, compiled once for each kind of call, and computes what it did before."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from command import molrl
from test_finetune import ALGORITHMS, finetuning
from torch import Tensor, nn
from torch.testing import assert_close
from toy import Clouds, always

from molrl.compilation import REPAID, ROWS, compile_blocks, compiler_problem, prepare_to_compile
from molrl.finetune import finetune, freeze_copy
from molrl.gaussian import Context, MaskedPoints
from molrl.models.molecules.egnn import EGNN
from molrl.models.precondition import Preconditioned
from molrl.policy import Policy
from molrl.samplers import DDIM
from molrl.schedule import LogLinear
from molrl.task import Metrics, Task

CPU = torch.device("cpu")
SCHEDULE = LogLinear(0.02, 15.0)


class Block(nn.Module):
    """A residual layer on points, which see the mean of their cloud; plain, for types are not checked while tracing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mean = (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        out: Tensor = x + self.layer(torch.cat([x, mean.expand_as(x)], -1)).tanh() * mask
        return out


class Network(nn.Module):
    """A denoiser of two equal blocks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([Block(), Block()])

    @property
    def repeated_blocks(self) -> list[nn.Module]:
        return list(self.blocks)

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        for block in self.blocks:
            x = block(x, context["mask"].unsqueeze(-1).to(x.dtype))
        return x * t.view(-1, 1, 1)


def small_policy() -> Policy:
    """Return a policy of clouds of points."""
    return Policy(Network(), DDIM(schedule=SCHEDULE, num_steps=5, space=MaskedPoints()))


def states(count: int, width: int = 4) -> tuple[Tensor, Tensor, Context]:
    """Return states with their times and context."""
    generator = torch.Generator().manual_seed(count)
    context = {"mask": torch.arange(width) < 2 + torch.arange(count)[:, None] % (width - 1)}
    x = MaskedPoints().project(torch.randn(count, width, 5, generator=generator), context)
    return x, torch.rand(count, generator=generator), context


def spread(samples: Any) -> Tensor:
    """Return a reward: the mean square of the points of each sample."""
    return torch.stack([sample.square().mean() for sample in samples])


def graphs() -> int:
    """Return the number of graphs that torch has compiled in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.fixture
def nothing_compiled() -> None:
    """Forget what was compiled before."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_a_network_with_fixed_rows_is_always_called_with_as_many(count: int) -> None:
    whole = small_policy()
    called: list[int] = []

    def watched(x: Tensor, t: Tensor, context: Context) -> Tensor:
        called.append(len(x))
        assert len(x) == len(t) == len(context["mask"])
        return whole.denoiser(x, t, context)

    fixed, batch = replace(whole, denoiser=watched, rows=8), states(count)
    found = fixed.predict_target(*batch)
    assert set(called) == {8}
    assert len(called) == -(-count // 8)
    assert_close(found, whole.predict_target(*batch), rtol=1e-5, atol=1e-6)


def test_the_rows_that_fill_a_call_up_have_no_gradient() -> None:
    whole, batch = small_policy(), states(11)

    def gradient(policy: Policy) -> list[Tensor]:
        network: Any = policy.denoiser
        loss = policy.predict_target(*batch).square().sum()
        return list(torch.autograd.grad(loss, list(network.parameters())))

    for one, other in zip(gradient(whole), gradient(replace(whole, rows=8)), strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_an_empty_batch_stays_empty() -> None:
    x, t, context = states(3)
    none = replace(small_policy(), rows=8).predict_target(x[:0], t[:0], {"mask": context["mask"][:0]})
    assert none.shape == x[:0].shape


@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.parametrize("name", ["DDPO", "RGDM", "RWR", "DPOK-full"])
def test_nothing_is_compiled_after_the_first_round(name: str) -> None:
    """The rows of a round's tables differ in number; both blocks, and all rounds, share what the first one compiled."""
    policy, seen = replace(small_policy(), rows=ROWS), list[tuple[int, Metrics]]()
    task = Task("points", policy, Clouds((2, 3, 4), 4, 5), spread)
    reference = freeze_copy(policy)
    compile_blocks(policy, reference, backend="eager")
    config = finetuning(iterations=3, rollouts=16, minibatch=23, optimizer=lambda p: torch.optim.SGD(p, lr=1e-6))
    finetune(config, task, ALGORITHMS[name], reference, None, lambda row: seen.append((graphs(), row)))
    counts = [count for count, _ in seen]
    assert counts == [counts[0]] * 3
    assert 0 < counts[0] <= 5  # with and without gradients, and the reference; each once
    assert all(row["max_abs_log_ratio_first"] <= 1e-3 for _, row in seen)


@pytest.mark.usefixtures("nothing_compiled")
def test_the_width_of_states_is_compiled_at_most_twice() -> None:
    policy = replace(small_policy(), rows=ROWS)
    compile_blocks(policy, backend="eager")
    counts = []
    for width in (4, 5, 6, 9, 7):
        with torch.no_grad():
            policy.predict_target(*states(3, width))
        counts.append(graphs())
    assert counts[1:] == [counts[1]] * 4


@pytest.mark.slow
@pytest.mark.skipif(bool(compiler_problem(CPU)), reason="needs a compiler")
@pytest.mark.usefixtures("nothing_compiled")
def test_a_compiled_network_computes_what_it_did_before() -> None:
    policy, batch = replace(small_policy(), rows=ROWS), states(70)
    with torch.no_grad():
        before = policy.predict_target(*batch)
        compile_blocks(policy)
        assert_close(policy.predict_target(*batch), before, rtol=1e-4, atol=1e-5)
    assert graphs() > 0


def test_auto_compiles_long_runs_alone() -> None:
    policy = small_policy()
    long = finetuning(iterations=REPAID // 80, rollouts=16)  # of five steps
    short = replace(long, iterations=long.iterations - 1)
    choose: Callable[..., Policy] = lambda choice, config: prepare_to_compile(policy, choice, CPU, config)  # noqa: E731
    expected = None if compiler_problem(CPU) else ROWS
    assert choose("auto", long).rows == expected
    assert choose("auto", short).rows is choose(False, long).rows is None
    if expected:
        assert choose(True, short).rows == expected


def test_without_a_compiler_auto_is_eager_and_true_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    long = finetuning(iterations=REPAID, rollouts=16)
    assert prepare_to_compile(small_policy(), "auto", CPU, long).rows is None
    with pytest.raises(ValueError, match=r"compile: got true, but no C\+\+ compiler: neither no-such-compiler nor"):
        prepare_to_compile(small_policy(), True, CPU, long)


def test_the_networks_of_molecules_name_their_blocks() -> None:
    network = EGNN(features=2, width=8, pair_width=8, blocks=3, radial=4)
    assert Preconditioned(network, SCHEDULE, [1.0] * 5).repeated_blocks == list(network.blocks)
    assert Preconditioned(Network(), SCHEDULE, [1.0] * 5).repeated_blocks == []


def test_a_network_without_blocks_is_eager_and_true_is_refused() -> None:
    policy, long = replace(small_policy(), denoiser=always(torch.zeros(1))), finetuning(iterations=REPAID, rollouts=16)
    assert prepare_to_compile(policy, "auto", CPU, long).rows is None
    with pytest.raises(ValueError, match="compile: got true, but function names no repeated blocks"):
        prepare_to_compile(policy, True, CPU, long)


def test_a_wrong_choice_is_refused() -> None:
    refused = molrl("train", "compile=maybe", "threads=1")
    assert refused.code == 2
    assert "compile='maybe': expected 'auto' or bool" in refused.err
