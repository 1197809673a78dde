"""Which commit of a hub repository this machine used first: `hub.lock.json` in the cache. Imports no torch."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from evals.errors import ResultsError
from evals.files import cache_home, write_atomic


@dataclass(frozen=True, slots=True)
class Lock:
    """What was used first."""

    commit: str
    sha256: str
    """Of the file."""


def lock_file() -> Path:
    """In the cache of this machine, whichever cache a single run is given."""
    return Path(os.environ.get("EUPE_EVAL_CACHE") or cache_home()).expanduser() / "hub.lock.json"


def locks() -> Mapping[str, Lock]:
    """`owner/repository/file` -> what was used first. Raises ResultsError for a file that is none of ours."""
    path = lock_file()
    try:
        raw = json.loads(path.read_text())
        return {key: Lock(str(value["commit"]), str(value["sha256"])) for key, value in raw.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"{path} cannot be read as the commits of hub weights ({type(error).__name__}: {error}). Mend "
            "it, or delete it to start from the weights that are here now."
        ) from error


def remember(key: str, lock: Lock) -> None:
    """Write down what was used first. Raises ResultsError where that cannot be kept."""
    known = {**locks(), key: lock}
    text = json.dumps({name: asdict(known[name]) for name in sorted(known)}, indent=1)
    write_atomic(lock_file(), f"{text}\n".encode())
