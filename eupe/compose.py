"""From a recipe and overrides to a stage: hydra composes here, and nothing below knows hydra.

A recipe is one stage (`configs/recipe/stage2-vit-b.yaml`) made of a stage's schedule, teachers, students and data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from eupe.config import Stage, read
from evals.encoders.entry import config_folder
from evals.errors import UsageError, unknown

_RUN_KEYS = ("out", "device")
"""Keys beside those of a stage."""


@dataclass(frozen=True, slots=True)
class Order:
    """What `eupe-train` was asked for."""

    stage: Stage
    folder: Path
    """Where it trains: <out>/<name of the stage>."""
    device: str


def recipes() -> list[str]:
    """Names of the recipes."""
    return sorted(path.stem for path in (config_folder() / "recipe").glob("*.yaml"))


def compose(overrides: Sequence[str]) -> Order:
    """The stage of `recipe=<name>` with `key=value` overrides. Raises UsageError naming what is wrong or missing."""
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UsageError(f"overrides are key=value, such as recipe=stage2-vit-b or batch=1024; got {override!r}.")
        if key == "recipe" and value not in recipes():
            raise unknown("recipe", value, recipes())
    raw = _composed(overrides)
    out, device = raw.pop("out"), raw.pop("device")
    stage: Stage = read(Stage, raw, "the recipe")
    return Order(stage, Path(str(out)).expanduser() / stage.name, str(device))


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
            made = hydra_compose("train", overrides=list(overrides))
        missing = sorted(OmegaConf.missing_keys(made))
        if missing:
            raise UsageError(
                f"the recipe needs values that only you know: {', '.join(f'{key}=...' for key in missing)}."
            )
        plain = OmegaConf.to_container(made, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UsageError(f"the overrides {' '.join(overrides)!r} do not fit: {lines[0] if lines else error}") from error
    assert isinstance(plain, Mapping)
    return {str(key): value for key, value in plain.items()}
