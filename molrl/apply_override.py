"""One override of a command line, `name=value`, set in a composed configuration."""

from collections.abc import Sequence
from typing import Any

from molrl.config import ConfigError
from molrl.renamed import refuse_renamed
from molrl.suggestions import nearest


def apply_override(config: Any, override: str, known: Sequence[str], command: str) -> None:
    """Set the value of `name=value`; `+name=value` adds a name, which the callee's signature then has to know.

    Raises:
        ConfigError: there is no such setting, or the value cannot be read or is several.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ConfigError(f"{override}: cannot be read; put special characters in quotes: \"name='value'\"") from error
    if parsed.is_sweep_override():
        raise ConfigError(
            f"{override}: several values; give one, or put it in quotes: \"name='value'\"; with -m each is a run"
        )
    key, value = parsed.key_or_group, parsed.value()
    if not parsed.is_add() and (key not in known or parsed.is_delete()):
        refuse_renamed(command, key, override)
        near = nearest(key, [name for name in known if not name.rpartition(".")[2].startswith("_")])
        hint = f"did you mean {' or '.join(near)}?" if near else f"molrl {command} --help lists them"
        if str(OmegaConf.select(config, f"{key.partition('.')[0]}._target_")).startswith("molrl.plugins."):
            hint = f"a setting of your own code is added: +{override}"
        raise ConfigError(f"{override}: no setting {override.partition('=')[0]!r}; {hint}")
    # a mapping is merged into that which is there, unless it is told apart by its kind, as networks are
    whole = isinstance(value, dict) and "kind" in value and OmegaConf.select(config, f"{key}._target_") is None
    try:
        OmegaConf.update(config, key, value, merge=not whole, force_add=parsed.is_add())
    except OmegaConfBaseException as error:
        raise ConfigError(f"{override}: {str(error).splitlines()[0]}") from error
