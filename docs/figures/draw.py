"""Draw the figures of the concepts: `python docs/figures/draw.py` writes them beside this file."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt

from molrl.api import sampling_of
from molrl.noise import Key, Stream
from molrl.oracle.linear_gaussian import BASE_MEAN, BASE_VARIANCE
from molrl.task import sample_chains

mpl.use("Agg")
FOLDER = Path(__file__).parent
TARGET = 2.0  # the reward is -(x - TARGET)^2 / 2
STATES = (0, 15, 25, 35, 42, 50)


def draw_chain() -> None:
    """Draw the states of one chain of the shipped model of shapes, each at its own scale."""
    sampling = sampling_of("shapes", {"class": "chair"}, "cpu", {})
    chain = sample_chains(sampling.policy, sampling.decoder, range(1), Key(4, Stream.SAMPLING), torch.device("cpu"))
    figure, axes = plt.subplots(1, len(STATES), figsize=(11, 2.3))
    for axis, k in zip(axes, STATES, strict=True):
        points = chain.states[k][0].numpy()
        points = points / np.abs(points).max()
        depth = points[:, 2] + 0.5 * points[:, 0]
        axis.scatter(
            points[:, 0] - 0.35 * points[:, 2], points[:, 1] - 0.2 * points[:, 2], c=depth, s=7, cmap="viridis"
        )
        axis.set(xlim=(-1.5, 1.5), ylim=(-1.35, 1.35), aspect="equal")
        axis.set_title(
            "noise, $x_T$" if k == 0 else "sample, $x_0$" if k == STATES[-1] else f"after {k} steps", fontsize=10
        )
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(FOLDER / "chain.png", dpi=130)
    plt.close(figure)


def tilt(beta: float) -> tuple[float, float]:
    """Return mean and variance of N(BASE_MEAN, BASE_VARIANCE) times exp(reward / beta)."""
    precision = 1 / BASE_VARIANCE + 1 / beta
    return (BASE_MEAN / BASE_VARIANCE + TARGET / beta) / precision, 1 / precision


def reward_and_kl(mean: float, variance: float) -> tuple[float, float]:
    """Return the expected reward of N(mean, variance), and its KL to the base in nats."""
    kl = (variance / BASE_VARIANCE - 1 - np.log(variance / BASE_VARIANCE) + (mean - BASE_MEAN) ** 2 / BASE_VARIANCE) / 2
    return -((mean - TARGET) ** 2 + variance) / 2, float(kl)


def draw_kl() -> None:
    """Draw the best reward for each KL, and some of the distributions that have it."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
    curve = np.array([reward_and_kl(*tilt(beta)) for beta in np.geomspace(0.02, 100, 200)])
    left.plot(curve[:, 1], curve[:, 0], color="0.4")
    x = np.linspace(-2, 4, 400)
    right.plot(x, np.exp(-((x - BASE_MEAN) ** 2) / 2 / BASE_VARIANCE) / np.sqrt(2 * np.pi * BASE_VARIANCE), "k--")
    for beta, colour in ((2.0, "tab:blue"), (0.5, "tab:green"), (0.1, "tab:orange")):
        mean, variance = tilt(beta)
        reward, kl = reward_and_kl(mean, variance)
        left.plot(kl, reward, "o", color=colour, label=rf"$\beta$ = {beta}")
        right.plot(x, np.exp(-((x - mean) ** 2) / 2 / variance) / np.sqrt(2 * np.pi * variance), color=colour)
    left.set(xlabel="KL to the pretrained model (nats)", ylabel="best expected reward")
    left.legend(frameon=False)
    right.set(xlabel="x", yticks=[], title="pretrained (dashed) and best for each $\\beta$")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(FOLDER / "kl.png", dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    draw_chain()
    draw_kl()
