"""Names of old: a setting's is answered with the new one, and that of a class in a run's folder is replaced by it."""

from collections.abc import Mapping
from typing import Any

from molrl.config import ConfigError

EVERYWHERE = {
    "weights": "policy",
    "task.weights": "policy",
    **{
        f"task.{name}": f"policy.{name}"
        for name in (
            *("num_steps", "grid_power", "eta", "points", "guidance_scale", "revision"),
            *("tuning", "rank", "dtype", "batch", "checkpointing", "shard"),
        )
    },
    "task.asked": "task.classes",
    "trained": "trainable_parameters",
    "algo.density": "algo.likelihood",
    "algo.advantage.memory": "algo.advantage.buffer_size",
    "algo.advantage.least": "algo.advantage.min_count",
    **{f"shapes.{name}": f"reader.{name}" for name in ("points", "seed", "up", "manifold")},
    "model.picture": "model.image_size",
}
OF_COMMAND = {
    "sample": {
        **{name: f"policy.{name}" for name in ("num_steps", "grid_power", "eta", "points", "guidance_scale")},
    },
}
CHOICES = {"model": {"pictures": "images"}, "policy": {"pictures": "images"}, "data": {"pyg_qm9": "pyg"}}
MOVED = {"molrl.pretrain.Pretraining": "molrl.pretraining.Pretraining"}  # `_target_` in the config.yaml of a run


def with_moved_targets(node: Any) -> Any:
    """Return the settings of a run that was begun by an older version, with the present names of our classes."""
    if isinstance(node, list):
        return [with_moved_targets(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    moved = {"_target_": MOVED.get(str(node["_target_"]), node["_target_"])} if "_target_" in node else {}
    return {**{name: with_moved_targets(value) for name, value in node.items()}, **moved}


def refuse_renamed_choice(group: str, name: str) -> None:
    """Raise ConfigError for a choice of a group that has another name now, and name that."""
    if new := CHOICES.get(group, {}).get(name):
        raise ConfigError(f"{group}={name}: {name} is now {new}, {group}={new}")


def refuse_renamed(command: str, key: str, override: str) -> None:
    """Raise ConfigError for a setting that has another name now, and name that.

    Args:
        key: the setting's name.
        override: all that was written, for the message.
    """
    new = {**EVERYWHERE, **OF_COMMAND.get(command, {})}.get(key)
    if new is not None:
        rule = "; a name, a folder, a run or hub:OWNER/NAME" if new == "policy" else ""
        raise ConfigError(f"{override}: {key} is now {new}={rule}")
