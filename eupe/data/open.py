"""From the sources of a configuration to lists of images."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from eupe.config import SourceConfig
from eupe.data.base import Source
from evals.errors import UnavailableError


def open_sources(configs: Mapping[str, SourceConfig]) -> list[Source]:
    """Every source, in the order of the configuration.

    Raises DataError for one that is not there, UnavailableError where the package that reads it is not.
    """
    return [_opened(name, config) for name, config in configs.items()]


def _opened(name: str, config: SourceConfig) -> Source:
    try:
        kind = import_module(f"eupe.data.{config.kind}")
    except ImportError as error:
        raise UnavailableError(
            "package", f"source {name} of kind {config.kind} needs a package: pip install {error.name}"
        ) from error
    source: Source = kind.open_source(name, Path(config.root).expanduser())
    return source
