"""From the sources of a configuration to lists of images."""

from collections.abc import Callable, Mapping
from pathlib import Path

from eupe.config import SourceConfig
from eupe.data import folder, parquet, tars
from eupe.data.base import Source

_KINDS: Mapping[str, Callable[[str, Path], Source]] = {
    "folder": folder.open_source,
    "tars": tars.open_source,
    "parquet": parquet.open_source,
}


def open_sources(configs: Mapping[str, SourceConfig]) -> list[Source]:
    """Every source, in the order of the configuration. Raises DataError for one that is not there."""
    return [_KINDS[config.kind](name, Path(config.root).expanduser()) for name, config in configs.items()]
