"""Draw the figures of the concepts: `python docs/figures/draw.py` writes them beside this file."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

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
    finish(figure, "kl.png")


REWARDS = {  # of eight samples
    "a smooth reward": np.array([0.30, 0.36, 0.41, 0.45, 0.47, 0.52, 0.58, 0.66]),
    "two values": np.array([0, 0, 0, 1, 0, 0, 1, 0]),
    "one outlier": np.array([1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.3, 1000.0]),
    "all the same": np.full(8, 0.5),
}


def draw_advantages() -> None:
    """Draw the advantages of eight samples under four rewards."""
    figure, axes = plt.subplots(1, len(REWARDS), figsize=(10, 2.4), sharey=True)
    for axis, (title, rewards) in zip(axes, REWARDS.items(), strict=True):
        advantages = (rewards - rewards.mean()) / max(rewards.std(), 1e-8)
        colours = np.where(advantages > 0, "tab:green", "tab:red")
        axis.bar(range(len(rewards)), advantages, color=colours)
        axis.axhline(0, color="0.4", linewidth=0.8)
        axis.set(title=title, xlabel="sample", xticks=[])
    axes[0].set_ylabel("advantage")
    finish(figure, "advantages.png")


def draw_learning() -> None:
    """Draw how samples of a Gaussian move its mean, and where policy gradients with its spread fixed take it."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 2.8))
    std = np.sqrt(BASE_VARIANCE)
    samples = BASE_MEAN + std * np.random.default_rng(1).standard_normal(9)
    rewards = -((samples - TARGET) ** 2) / 2
    advantages = (rewards - rewards.mean()) / rewards.std()
    x = np.linspace(-2, 4, 400)
    left.plot(x, density(x, BASE_MEAN, std), "k--")
    left.scatter(samples, np.zeros(len(samples)), c=np.where(advantages > 0, "tab:green", "tab:red"), zorder=3)
    step = (advantages * (samples - BASE_MEAN)).mean()
    left.annotate("", (BASE_MEAN + step, 0.3), (BASE_MEAN, 0.3), arrowprops={"arrowstyle": "->", "color": "tab:blue"})
    left.set(title="good samples (green) pull the mean", xlabel="x", yticks=[])
    mean = BASE_MEAN
    for rounds in range(31):
        if rounds in (0, 5, 30):
            right.plot(x, density(x, mean, std), "k--" if rounds == 0 else "-", label=f"after {rounds} rounds")
        mean += 0.1 * (TARGET - mean)  # the gradient of the expected reward
    right.axvline(TARGET, color="0.6", linewidth=0.8)
    right.set(title="the policy, round by round", xlabel="x (the line: the best sample)", yticks=[])
    right.legend(frameon=False)
    finish(figure, "learning.png")


def density(x: NDArray[np.floating], mean: float, std: float) -> NDArray[np.floating]:
    """Return the density of N(mean, std^2) at each x."""
    values: NDArray[np.floating] = np.exp(-(((x - mean) / std) ** 2) / 2) / np.sqrt(2 * np.pi) / std
    return values


def draw_variety() -> None:
    """Draw the shares of four outcomes with rewards 1 to 4 during training, without and with weights by frequency."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 2.8), sharey=True)
    rewards = np.arange(1.0, 5.0)
    for axis, title, strength in zip(axes, ("plain reward", "diversity=frequency"), (0.0, 1.0), strict=True):
        shares = np.full((401, 4), 0.25)
        for update, now in enumerate(shares[:-1]):
            grown = now * np.exp(0.05 * rewards * (0.25 / now) ** strength)
            shares[update + 1] = grown / grown.sum()
        axis.plot(np.arange(len(shares)), shares)
        axis.set(title=title, xlabel="update", ylim=(0, 1))
    axes[0].set_ylabel("share of the samples")
    axes[1].legend([f"reward {r:.0f}" for r in rewards], frameon=False)
    finish(figure, "variety.png")


def finish(figure: Figure, name: str) -> None:
    """Save a figure beside this file, without the frames of its axes."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(FOLDER / name, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    draw_chain()
    draw_kl()
    draw_advantages()
    draw_learning()
    draw_variety()
