"""Terms of a report: the plain name and the meaning of each metric of a run."""

from collections.abc import Mapping
from typing import NamedTuple


class Term(NamedTuple):
    """A metric in plain words.

    Attributes:
        label: its name, in lower case where it begins with a common word.
        meaning: what it is, without a full stop; "": the label says it all.
        of: the figures whose product is the number of samples that it is a share of, such as ("n", "validity") for a
            share of the valid ones; (): it is no share of samples.
        most: samples that it is taken of, where it leaves the others out; None: all of them.
    """

    label: str
    meaning: str = ""
    of: tuple[str, ...] = ()
    most: int | None = None


TRAINING: Mapping[str, Term] = {
    "reward": Term("reward", "mean reward of the samples"),
    "lost": Term("not scored", "samples that the reward could not score; the means leave them out"),
    "kl": Term("KL to the start", "how far the policy is from the model before training, nats of a whole chain"),
    "kl_round": Term("KL of the round", "how far one round moved the policy, nats of a whole chain"),
    "rate_factor": Term("factor of the learning rate", "by which the KL budget scales the learning rate"),
    "held_out": Term("held-out reward", "mean of the reward that is measured and not trained on"),
    "held_out_diverged": Term(
        "rounds of divergence", "rounds in a row with a rising reward and a falling held-out one"
    ),
    "exploited": Term("reward exploited", "1 where the reward rises while the held-out one falls"),
    "stop": Term("stopped", "1 in the round that ended the run early"),
    "reward_lost": Term("not scored", "share of the samples that the reward could not score"),
    "reward_queries": Term("reward queries", "samples that the reward scored in the round"),
    "reward_shaped": Term("shaped reward", "mean reward after the terms that keep variety"),
    "reward_replayed": Term("reward of replayed samples", "mean reward of the samples that gradients were taken of"),
    "reward_estimated": Term("reward of estimates", "mean reward of the clean estimates that gradients were taken of"),
    "gradient_lost": Term("no gradient", "share of the samples whose reward has no gradient"),
    "diversity_factor": Term("factor of variety", "mean factor that rewards are multiplied by to keep variety"),
    "diversity_buckets": Term("buckets of variety", "kinds of samples, such as scaffolds, that the run has seen"),
    "diversity_ess": Term(
        "evenness of variety", "effective share of the samples after these factors, 1: all count alike"
    ),
    "advantage_saturated": Term("cut advantages", "share of the advantages at the limit"),
    "groups_flat": Term("flat groups", "share of the groups in which all rewards are the same: nothing to learn from"),
    "clip_fraction": Term(
        "clipped ratios", "share of the likelihood ratios outside the clip range, without a gradient"
    ),
    "clip_fraction_*": Term("clipped ratios, part * of the chain", "the same for steps of one part, 1: the noisiest"),
    "mean_abs_log_ratio": Term("size of log-ratios", "mean |log-ratio| of the new to the old policy's steps, nats"),
    "log_ratio_min_*": Term("smallest log-ratio, part * of the chain", "of the new to the old policy's steps, nats"),
    "log_ratio_mean_*": Term("mean log-ratio, part * of the chain", "of the new to the old policy's steps, nats"),
    "log_ratio_max_*": Term("largest log-ratio, part * of the chain", "of the new to the old policy's steps, nats"),
    "max_abs_log_ratio_first": Term(
        "check of likelihoods", "largest difference between the rollout and training before the first update, nats: 0"
    ),
    "max_prediction_error_first": Term(
        "check of predictions",
        "largest relative difference between the rollout and training before the first update: 0",
    ),
    "noise_norm": Term(
        "size of predictions", "predicted noise over that of the model before training; far from 1: drift"
    ),
    "weight_ess": Term("effective share", "share of the samples that carry the weight, 1: all count alike"),
    "weight_max": Term("largest weight", "of one sample in the loss"),
    "payoff_ess": Term("effective share of candidates", "1: all candidates count alike"),
    "payoff_flat": Term("flat candidates", "share of the states whose candidates all score the same"),
    "payoff_lost": Term("candidates not scored", "share of the candidates that the reward could not score"),
    "payoff_reward": Term("reward of candidates", "mean reward of the candidates"),
    "payoff_std": Term("spread of candidates", "standard deviation of the rewards of one state's candidates"),
    "pull": Term("size of the pull", "how far steps are moved toward better samples, in standard deviations of a step"),
    "missed": Term("distance to the target", "KL of the policy's steps to those that it is to learn, nats"),
    "moved": Term("moved predictions", "mean squared distance of the predictions from the older policy"),
    "denoising_error": Term("denoising error", "mean squared error of the predicted noise"),
    "preferences": Term("used pairs", "share of the pairs with a better and a worse sample"),
    "preferred": Term("preferred pairs", "share of the pairs in which the model prefers the better sample"),
    "log_odds": Term("log-odds of pairs", "of the better sample over the worse one under the model"),
    "implicit_reward_winner": Term("implied reward of the better", "log-ratio to the model before training, scaled"),
    "implicit_reward_loser": Term("implied reward of the worse", "log-ratio to the model before training, scaled"),
    "prediction_norm": Term("size of predictions", "mean squared norm of the predicted noise"),
    "reference_norm": Term("size of the first predictions", "the same of the model before training"),
    "loss": Term("loss", "mean loss of the updates of the round"),
    "grad_norm": Term("norm of the gradient", "before it is clipped, mean of the updates"),
    "updates": Term("updates", "steps of the optimiser in the round"),
    "seconds": Term("seconds", "of the whole round"),
    "seconds_rollout": Term("seconds: drawing", "time of the round for drawing samples"),
    "seconds_decode": Term("seconds: decoding", "time of the round for making samples of states"),
    "seconds_reward": Term("seconds: reward", "time of the round in which training waited for rewards"),
    "seconds_candidates": Term("seconds: candidates", "time of the round for the algorithm's own collecting"),
    "seconds_metrics": Term("seconds: metrics", "time of the round for held-out metrics"),
    "seconds_train": Term("seconds: learning", "time of the round for updates"),
}


def find_term(name: str, terms: Mapping[str, Term]) -> Term:
    """Return what a metric means: by its name, or by one that ends in `*`; its name in words where none is there."""
    key = find_key(name, terms)
    if key is None:
        return Term(name.replace("_", " "))
    if key == name:
        return terms[key]
    term, rest = terms[key], name.removeprefix(key.removesuffix("*"))
    return term._replace(label=term.label.replace("*", rest), meaning=term.meaning.replace("*", rest))


def find_key(name: str, terms: Mapping[str, Term]) -> str | None:
    """Return the key of a metric's term: its name, or one that ends in `*` and fits; None where there is none."""
    if name in terms:
        return name
    return next((key for key in terms if key.endswith("*") and name.startswith(key[:-1])), None)
