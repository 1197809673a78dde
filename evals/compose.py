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
from evals.encoders.entry import EncoderEntry, config_folder
from evals.encoders.registry import resolve
from evals.encoders.routes import require_trust
from evals.errors import UsageError, unknown
from evals.files import cache_home
from evals.miniature.world import Identity, read_identity

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
    world_folder: Path | None
    """A rendered world that was given as the data folder."""
    results: Path
    cache: Path


def compose(
    *,
    chosen_suites: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    vlm_checkpoint: Path | None = None,
) -> Settings:
    """Resolve flags over `-o` overrides over the files of `configs/`. Raises UsageError naming the key.

    `vlm_checkpoint` is the constant `checkpoint` of every vision-language benchmark.
    """
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    raw = _compose_raw(overrides)
    values = {**raw, **raw["paths"], **given}
    chosen = _chosen(chosen_suites, benchmarks) or tuple(raw["suite"]["benchmarks"])
    for name in chosen:
        base.find(name)
    data = values["data"]
    world = _world(data)
    changes = _changes(raw["benchmarks"] or {})
    if vlm_checkpoint is not None:
        given_model = {"checkpoint": str(vlm_checkpoint.expanduser().resolve())}
        changes |= {name: {**changes.get(name, {}), **given_model} for name in chosen if talks(name)}
    return Settings(
        device=str(values["device"]),
        batch=_whole("batch", values["batch"], least=1),
        workers=_workers(values["workers"]),
        seed=_whole("seed", values["seed"], least=0),
        dtype=_one_of("dtype", values["dtype"], ("fp32", "bf16")),
        protocol=None if values["protocol"] is None else str(values["protocol"]),
        limit=None if values["limit"] is None else _whole("limit", values["limit"], least=1),
        benchmarks=chosen,
        changes=changes,
        folders={} if world else _folders(data, raw["paths"]),
        world=world.size if isinstance(world, Identity) else world,
        world_folder=Path(data).expanduser() if isinstance(world, Identity) else None,
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
        made.append(kind.of(named, world=settings.world is not None, **changes))
    return made


def entries(names: Sequence[str], weights: str | None, seed: int, config_dir: Path | None) -> list[EncoderEntry]:
    """The entries of the encoders that were asked for, each once.

    Raises UsageError as `resolve` does, and where one runs code of a repository that the user did not say to trust.
    """
    found = [resolve(name, weights=weights, seed=seed, extra=config_dir) for name in dict.fromkeys(names)]
    for entry in found:
        if entry.source == "torch_hub":
            require_trust(entry.model)
    return found


def talks(name: str) -> bool:
    """Whether a benchmark asks a vision-language model."""
    return base.find(name).family == "vlm"


def suites() -> dict[str, list[str]]:
    """Suite -> benchmark ids."""
    files = sorted((config_folder() / "suite").glob("*.yaml"))
    return {file.stem: list(yaml.safe_load(file.read_text())["benchmarks"]) for file in files}


def cache_folder(given: str | None) -> Path:
    """The cache: as given, else below $XDG_CACHE_HOME, else ~/.cache."""
    return Path(given).expanduser() if given else cache_home()


def roots(folder: Path, identity: str | None) -> Roots:
    """The folders of an embedded world."""
    return Roots({name: folder / name for name in DATA_FOLDERS if (folder / name).is_dir()}, identity)


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
        if not key.strip("+") or key.startswith("~"):
            raise UsageError(f"-o takes key=value; got {override!r}.")
        words.append(f"++benchmarks.{override.lstrip('+')}" if head in known and "." in key else override)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
            composed = OmegaConf.to_container(hydra_compose("eval", overrides=words), resolve=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _override_error(error, overrides) from error
    assert isinstance(composed, dict)
    raw = {str(key): value for key, value in composed.items()}
    if not isinstance(raw["benchmarks"], dict):
        raise UsageError(f"benchmarks holds keys of its own, such as in1k-knn.ks=[20]; got {raw['benchmarks']!r}.")
    return raw


def _override_error(error: Exception, overrides: Sequence[str]) -> UsageError:
    keys = ["device", "batch", "workers", "seed", "dtype", "protocol", "limit", "paths.<data set>", "suite"]
    benchmarks = [f"{name}.<constant>" for name in base.names()]
    reason = str(error).splitlines()[0]
    return UsageError(
        f"cannot apply -o {' -o '.join(overrides)}: {reason} Keys: {', '.join(keys + benchmarks)}; "
        "`eupe-eval info BENCHMARK` lists its constants."
    )


def _changes(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for name, changes in raw.items():
        base.find(name)
        if not isinstance(changes, dict):
            raise UsageError(f"{name} holds constants; write -o {name}.<constant>=<value>.")
    return {
        name: {key: tuple(v) if isinstance(v, list) else v for key, v in changes.items()}
        for name, changes in raw.items()
    }


def _world(data: str | None) -> str | Identity | None:
    """The size of a world: `miniature` -> small, `miniature-tiny` -> tiny; its identity if a folder holds one."""
    if data is None:
        return None
    if Path(data).expanduser().is_dir():
        return read_identity(Path(data).expanduser())
    if not str(data).startswith(WORLD_PREFIX):
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
    return _whole("workers, unless auto,", value, least=0)


def _whole(key: str, value: Any, *, least: int) -> int:
    """A whole number, also as the text of an environment variable."""
    text = str(value)
    if isinstance(value, float) or not text.removeprefix("-").isdecimal() or int(text) < least:
        raise UsageError(f"{key} must be a whole number from {least}; got {value!r}.")
    return int(text)


def _one_of(key: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise unknown(key, str(value), list(choices))
    return str(value)
