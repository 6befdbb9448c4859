"""Networks of several passes: what the second pass reads, what training shows them, and weights of one pass."""

import torch
from test_denoisers import FEATURES, case_of, pair_network, recycled_pair_network
from torch import Tensor

from molrl.gaussian import Context, MaskedPoints
from molrl.models.precondition import Preconditioned
from molrl.models.recycling import HalfRecycled, recycling_loss
from molrl.schedule import LogLinear, alpha, sigma

SCHEDULE, STD = LogLinear(noise_min=0.02, noise_max=20.0), [1.5, 1.5, 1.5, 0.3]
MASK = torch.ones(5, 4, dtype=torch.bool)


class Right(torch.nn.Module):
    """A raw network of two passes that knows the clean sample, and notes what it is shown."""

    passes = 2

    def __init__(self, x0: Tensor) -> None:
        super().__init__()
        self.x0, self.seen = x0, list[Tensor | None]()

    def forward(self, x: Tensor, log_noise: Tensor, context: Context, estimate: Tensor | None = None) -> Tensor:
        self.seen.append(estimate)
        s, d = log_noise.exp().view(-1, 1, 1), torch.tensor(STD, dtype=x.dtype)
        norm = (s.square() + d.square()).sqrt()
        y = x * norm
        return (self.x0[: len(x)] * norm - d.square() / norm * y) / (s * d)  # F with D = x0


def states() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x0, noise = (torch.randn(5, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    x0[:] = x0[:1]  # the same sample in every row
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    log_snr = SCHEDULE.log_snr(t).view(-1, 1, 1)
    return x0, noise, t, alpha(log_snr) * x0 + sigma(log_snr) * noise


def test_the_second_pass_reads_the_clean_estimate_at_unit_scale() -> None:
    x0, _, t, x = states()
    network = Right(x0)
    Preconditioned(network, SCHEDULE, STD).double()(x, t, {"mask": MASK})
    first, second = network.seen
    assert first is None
    assert second is not None
    torch.testing.assert_close(second, x0 / torch.tensor(STD, dtype=torch.float64))


def test_a_network_of_one_pass_is_called_once() -> None:
    x0, _, t, x = states()
    network = Right(x0)
    network.passes = 1
    Preconditioned(network, SCHEDULE, STD).double()(x, t, {"mask": MASK})
    assert network.seen == [None]


def test_half_of_a_batch_is_trained_on_its_own_estimate() -> None:
    """The last three of five rows see an estimate, and a single row does; zeros stand for none."""
    x0, noise, t, x = states()
    network = Right(x0)
    model = Preconditioned(network, SCHEDULE, STD).double()
    loss = recycling_loss(model, MaskedPoints(), x0, t, noise, {"mask": MASK})
    shown = [None if seen is None else seen.flatten(1).any(1).tolist() for seen in network.seen]
    assert shown == [None, [False, False, True, True, True]]
    assert loss.shape == (5,)
    network.seen.clear()
    HalfRecycled(model).raw(x[:1], t[:1], {"mask": MASK[:1]})
    assert network.seen[1] is not None
    assert network.seen[1].any()


def test_gradients_of_the_first_pass_come_from_the_rows_without_an_estimate() -> None:
    """The first pass of a recycled row is made without gradient, as its own output is not what is learned from."""
    case = case_of(recycled_pair_network, torch.float64)
    model = case.denoiser
    assert isinstance(model, Preconditioned)
    out = HalfRecycled(model).raw(case.x, case.t, case.context)
    alone = model.raw(case.x, case.t, case.context)
    half = len(case.x) // 2
    torch.testing.assert_close(out[:half], alone[:half])
    estimate = model.clean_estimate(case.x, case.t, alone)
    torch.testing.assert_close(out[half:], model.raw(case.x, case.t, case.context, estimate)[half:])
    assert (out[half:] - alone[half:]).abs().max() > 1e-3
    weights = list(model.parameters())
    with_graph = torch.autograd.grad(out[half:].sum(), weights, allow_unused=True)
    fixed = model.raw(case.x, case.t, case.context, estimate.detach())[half:]
    without = torch.autograd.grad(fixed.sum(), weights, allow_unused=True)
    for one, other in zip(with_graph, without, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other)


def test_predictions_have_the_gradient_of_all_passes() -> None:
    """Fine-tuning differentiates the whole prediction: a finite difference over one weight agrees."""
    case = case_of(recycled_pair_network, torch.float64)
    model = case.denoiser
    weight = model.get_parameter("network.atom_embedding.weight")
    (gradient,) = torch.autograd.grad(model(case.x, case.t, case.context).square().sum(), [weight])
    step = 1e-6
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            weight[2, 3] += sign * step
            values.append(model(case.x, case.t, case.context).square().sum().item())
            weight[2, 3] -= sign * step
    torch.testing.assert_close(gradient[2, 3].item(), (values[0] - values[1]) / (2 * step), rtol=1e-5, atol=0)


def test_weights_of_one_pass_start_a_network_of_two_without_effect() -> None:
    torch.manual_seed(0)
    one, two = pair_network(), recycled_pair_network()
    missing, unexpected = two.load_state_dict(one.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("network.estimate_") for name in missing)
    case = case_of(pair_network, torch.float32)
    with torch.no_grad():
        assert torch.equal(one(case.x, case.t, case.context), two(case.x, case.t, case.context))
    assert two.get_parameter("network.estimate_atoms.weight").shape[1] == FEATURES
