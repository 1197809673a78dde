"""From a recipe and overrides to a stage: hydra composes here, and nothing below knows hydra.

A recipe is one stage (`configs/recipe/stage2-vit-b.yaml`) made of a stage's schedule, teachers, students and data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from eupe.config import Stage, StudentConfig, read
from eupe.export import FOLDER as EXPORTS
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


def described(group: str, names: Sequence[str] | None = None) -> list[str]:
    """A line for each: name and what its first comment says."""
    lines = []
    for name in recipes() if names is None else names:
        comments = (config_folder() / group / f"{name}.yaml").read_text().splitlines()
        said = next(line for line in comments if line.startswith("#") and "@package" not in line)
        lines.append(f"{name:<28}{said.lstrip('# ')}")
    return lines


def compose(overrides: Sequence[str]) -> Order:
    """The stage of `recipe=<name>` with `key=value` overrides. Raises UsageError naming what is wrong or missing."""
    for override in overrides:
        key, equals, value = override.partition("=")
        if not key or not (equals or key.startswith("~")):
            raise UsageError(f"overrides are key=value, such as recipe=stage2-vit-b or batch=1024; got {override!r}.")
        if key == "recipe" and value not in recipes():
            raise unknown("recipe", value, recipes())
    raw = _composed(overrides)
    out, device = raw.pop("out"), raw.pop("device")
    stage: Stage = read(Stage, raw, "the recipe")
    return Order(stage, Path(str(out)).expanduser() / stage.name, str(device))


def foreseen(stage: Stage) -> dict[str, StudentConfig]:
    """Teachers that are exports which their recipe has yet to make, as the students that they will be."""
    found: dict[str, StudentConfig] = {}
    for name, teacher in stage.teachers.items():
        path = Path(teacher.encoder).expanduser()
        recipe, folder, student = ("", "", "", *path.parts)[-3:]
        if folder == EXPORTS and recipe in recipes() and not path.exists():
            students = _composed([f"recipe={recipe}"], whole=False)["students"]
            if student in students:
                found[name] = read(StudentConfig, students[student], f"students.{student} of recipe {recipe}")
    return found


def _forced(override: str) -> str:
    """A key of a stage that its recipe leaves out is as good as any: hydra wants that said. `read` checks it."""
    key = override.partition("=")[0]
    first, dot, _ = key.partition(".")
    given = first in {item.name for item in fields(Stage)} and (dot or not (config_folder() / key).is_dir())
    return f"++{override}" if given else override


def _composed(overrides: Sequence[str], *, whole: bool = True) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
            made = hydra_compose("train", overrides=[_forced(override) for override in overrides])
        missing = sorted(OmegaConf.missing_keys(made))
        if missing and whole:
            raise UsageError(
                f"the recipe needs values that only you know: {', '.join(f'{key}=...' for key in missing)}."
            )
        plain = OmegaConf.to_container(made, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UsageError(f"the overrides {' '.join(overrides)!r} do not fit: {lines[0] if lines else error}") from error
    assert isinstance(plain, Mapping)
    return {str(key): value for key, value in plain.items()}
