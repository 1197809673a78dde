"""Encoders of other packages: which there are is known without importing any; what they get wrong names the package.

A package announces a source in the entry-point group `eupe_eval.encoders`: the name is the source, the value a module
with `build`, and `derive` where names of that source need no entry. YAML files in the folder `encoder` beside that
module are entries. Imports no torch.
"""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.encoders.entry import EncoderEntry
from evals.errors import EvalError, UnavailableError, UsageError
from evals.record import EncoderCard

if TYPE_CHECKING:
    from evals.types import Encoder

GROUP = "eupe_eval.encoders"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A source that an installed package announces."""

    source: str
    module: str
    package: str
    """Name and version of the distribution."""

    @classmethod
    def of(cls, point: EntryPoint) -> "Plugin":
        """From its entry point."""
        package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unnamed package"
        return cls(point.name, point.module, package)

    def entries(self) -> list[Path]:
        """Its YAML files; none where the package cannot be found. Nothing of it is imported."""
        top, *inner = self.module.split(".")
        with contextlib.suppress(ImportError, ValueError):
            spec = find_spec(top)
            places = [] if spec is None else spec.submodule_search_locations or []
            # The module may be a package itself or a file of one; either way its folder is beside it.
            folders = [Path(place, *inner[:depth]) for place in places for depth in (len(inner), len(inner) - 1)]
            found = [sorted((folder / "encoder").glob("*.yaml")) for folder in folders if folder.is_dir()]
            return next((files for files in found if files), [])
        return []

    def build(self, entry: EncoderEntry, card: EncoderCard) -> "Encoder":
        """The encoder of an entry. Raises UnavailableError naming the package where its code fails."""
        from evals.types import Encoder

        module = self._load()
        with self._blamed("building"):
            made = module.build(entry, card)
        if not isinstance(made, Encoder):
            raise self._broken(f"build gave {type(made).__name__}, not an evals.types.Encoder")
        return made

    def derive(self, name: str, model: str, given: Mapping[str, object]) -> EncoderEntry:
        """The entry of a model that needs none. Raises as `build` does, UsageError where the source has no `derive`."""
        module = self._load()
        derive = getattr(module, "derive", None)
        if derive is None:
            raise UsageError(f"models of {self.source!r} ({self.package}) need an entry.")
        with self._blamed("deriving an entry"):
            made = derive(name, model, given)
        if not isinstance(made, EncoderEntry):
            raise self._broken(f"derive gave {type(made).__name__}, not an EncoderEntry")
        return made

    def _load(self) -> Any:
        with self._blamed("importing"):
            module = importlib.import_module(self.module)
        if not callable(getattr(module, "build", None)):
            raise self._broken(f"{self.module} has no `build(entry, card)`")
        return module

    @contextlib.contextmanager
    def _blamed(self, doing: str) -> Iterator[None]:
        try:
            yield
        except EvalError:
            raise
        # Somebody else's code may fail in ways that nobody foresaw; whose it is must be told.
        except Exception as error:
            raise self._broken(f"{doing} failed with {type(error).__name__}: {error}") from error

    def _broken(self, what: str) -> UnavailableError:
        return UnavailableError(
            "package",
            f"the source {self.source!r} of {self.package} (module {self.module}) does not work: {what}. "
            "Mend, upgrade or uninstall that package; other encoders do not need it.",
        )


@cache
def plugins() -> tuple[Plugin, ...]:
    """Every source that installed packages announce, in the order of their names."""
    return tuple(sorted(map(Plugin.of, entry_points(group=GROUP)), key=lambda plugin: (plugin.source, plugin.package)))
