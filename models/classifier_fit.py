"""The training loop of the small classifiers that rewards are made of, whatever their samples are."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

LR, WEIGHT_DECAY, MAX_NORM = 2e-3, 0.01, 1.0
REPORT_EVERY = 100  # steps


def fit_classifier(network: nn.Module, draw: Callable[[], tuple[Tensor, Tensor]], steps: int) -> None:
    """Train a network in place by maximum likelihood, with a line on the screen every hundred steps.

    AdamW with the one-cycle schedule (Smith and Topin 2019, arXiv:1708.07120).

    Args:
        network: returns log-probabilities [b, k] of classes.
        draw: returns a batch and its classes [b].
    """
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps)
    start = time.monotonic()
    for step in range(1, steps + 1):
        x, targets = draw()
        loss = nn.functional.nll_loss(network(x), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM)
        optimizer.step()
        scheduler.step()
        if step % REPORT_EVERY == 0:
            print(f"step {step}/{steps} loss {loss.item():.3f} {time.monotonic() - start:.0f} s", flush=True)
