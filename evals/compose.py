"""Configuration: hydra composes it here and hands out frozen dataclasses; nothing below knows hydra."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evals.benchmarks import base
from evals.benchmarks.base import Benchmark
from evals.context import Roots
from evals.encoders.entry import EncoderEntry, config_folder, resolve
from evals.errors import UsageError, unknown

DATA_FOLDERS = ("imagenet", "ade20k", "nyu", "SPair-71k", "llava", "vlm")
WORLD_PREFIX = "miniature"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that `run` was asked for, resolved."""

    device: str
    batch: int
    workers: int
    seed: int
    dtype: str
    protocol: str | None
    limit: int | None
    benchmarks: tuple[str, ...]
    changes: Mapping[str, Mapping[str, Any]]
    """Benchmark -> constants changed by the user."""
    folders: Mapping[str, Path]
    world: str | None
    """Size of the embedded world if it was asked for."""
    results: Path
    cache: Path


def compose(
    *,
    chosen_suites: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Resolve flags over `-o` overrides over the files of `configs/`. Raises UsageError naming the key."""
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    raw = _compose_raw(overrides)
    values = {**raw, **raw["paths"], **given}
    chosen = _chosen(chosen_suites, benchmarks) or tuple(raw["suite"]["benchmarks"])
    for name in chosen:
        base.find(name)
    data = values["data"]
    world = _world_size(data)
    return Settings(
        device=str(values["device"]),
        batch=_positive("batch", values["batch"]),
        workers=_workers(values["workers"]),
        seed=int(values["seed"]),
        dtype=_one_of("dtype", values["dtype"], ("fp32", "bf16")),
        protocol=values["protocol"],
        limit=None if values["limit"] is None else _positive("limit", values["limit"]),
        benchmarks=chosen,
        changes=_changes(raw["benchmarks"] or {}),
        folders={} if world else _folders(data, raw["paths"]),
        world=world,
        results=Path(values["results"]).expanduser(),
        cache=cache_folder(values["cache"]),
    )


def build(settings: Settings) -> list[tuple[str, Benchmark]]:
    """(protocol, benchmark) for every benchmark that was asked for."""
    kinds = [base.find(name) for name in base.names()]
    protocols = sorted({protocol for kind in kinds for protocol in kind.protocols})
    if settings.protocol is not None and settings.protocol not in protocols:
        raise unknown("protocol", settings.protocol, protocols)
    made = []
    common: dict[str, Any] = {"dtype": settings.dtype, "limit": settings.limit}
    for name in settings.benchmarks:
        changes = {**common, **settings.changes.get(name, {})}
        kind = base.find(name)
        # Where the named protocol does not exist, the default one stands in (`official` has no zero-shot or SPair).
        named = settings.protocol and (settings.protocol if settings.protocol in kind.protocols else kind.default())
        try:
            made.append(kind.of(named, world=settings.world is not None, **changes))
        except (TypeError, ValueError) as error:
            raise UsageError(f"constants of {name} do not fit: {error}") from error
    return made


def entries(names: Sequence[str], weights: str | None, seed: int, config_dir: Path | None) -> list[EncoderEntry]:
    """The entries of the encoders that were asked for."""
    return [resolve(name, weights=weights, seed=seed, extra=config_dir) for name in names]


def suites() -> dict[str, list[str]]:
    """Suite -> benchmark ids."""
    files = sorted((config_folder() / "suite").glob("*.yaml"))
    return {file.stem: list(yaml.safe_load(file.read_text())["benchmarks"]) for file in files}


def cache_folder(given: str | None) -> Path:
    """The cache: as given, else below $XDG_CACHE_HOME, else ~/.cache."""
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eupe-eval"


def roots(settings: Settings, world: Path | None, identity: str | None) -> Roots:
    """Where the data are: the embedded world's folders, or the user's."""
    if world is None:
        return Roots(settings.folders)
    return Roots({name: world / name for name in DATA_FOLDERS if (world / name).is_dir()}, identity)


def _chosen(names: Sequence[str], benchmarks: Sequence[str]) -> tuple[str, ...]:
    """Benchmarks of the named suites, then the single ones, each once."""
    known = suites()
    for name in names:
        if name not in known:
            raise unknown("suite", name, list(known))
    return tuple(dict.fromkeys([member for name in names for member in known[name]] + list(benchmarks)))


def _compose_raw(overrides: Sequence[str]) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = base.names()
    words = []
    for override in overrides:
        key, separator, _ = override.partition("=")
        head = key.lstrip("+").split(".")[0]
        if not separator:
            raise UsageError(f"-o takes key=value; got {override!r}.")
        words.append(f"+benchmarks.{override.lstrip('+')}" if head in known and "." in key else override)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
            composed = OmegaConf.to_container(hydra_compose("eval", overrides=words), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _override_error(error, overrides) from error
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


def _override_error(error: Exception, overrides: Sequence[str]) -> UsageError:
    keys = ["device", "batch", "workers", "seed", "dtype", "protocol", "limit", "paths.<data set>", "suite"]
    benchmarks = [f"{name}.<constant>" for name in base.names()]
    reason = str(error).splitlines()[0]
    return UsageError(
        f"cannot apply -o {' -o '.join(overrides)}: {reason} Keys: {', '.join(keys + benchmarks)}; "
        "`eupe-eval info BENCHMARK` lists its constants."
    )


def _changes(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for name in raw:
        base.find(name)
    return {
        name: {key: tuple(v) if isinstance(v, list) else v for key, v in changes.items()}
        for name, changes in raw.items()
    }


def _world_size(data: str | None) -> str | None:
    """`miniature` -> small, `miniature-tiny` -> tiny, a path -> None."""
    if data is None or not str(data).startswith(WORLD_PREFIX) or Path(data).is_dir():
        return None
    return str(data).removeprefix(WORLD_PREFIX).removeprefix("-") or "small"


def _folders(data: str | None, paths: Mapping[str, Any]) -> dict[str, Path]:
    if data is not None and not Path(data).expanduser().is_dir():
        raise UsageError(
            f"data folder {data!r} does not exist. Give a folder that holds {', '.join(DATA_FOLDERS)} (any of them), "
            "or `miniature` for the embedded world."
        )
    folders = {name: Path(data).expanduser() / name for name in DATA_FOLDERS} if data else {}
    return folders | {name: Path(paths[name]).expanduser() for name in DATA_FOLDERS if paths.get(name)}


def _workers(value: Any) -> int:
    if value == "auto":
        # One process per core up to 16 feeds a GPU; on few cores decoding in the main process is as quick.
        cores = os.cpu_count() or 1
        return 0 if cores <= 2 else min(16, cores - 1)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise UsageError(f"workers must be auto or a number from 0; got {value!r}.")
    return number


def _positive(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{key} must be a whole number from 1; got {value!r}.")
    return value


def _one_of(key: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise unknown(key, str(value), list(choices))
    return str(value)
