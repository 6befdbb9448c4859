"""Settings that once had another name: the old one is answered with the new one, and nothing else is done with it."""

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
