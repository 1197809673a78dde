"""Source `world`: the pictures of an embedded world of lessons."""

from pathlib import Path

from eupe.data.base import digest_of
from eupe.data.folder import Folder
from evals.errors import DataError
from evals.miniature.world import is_whole, read_identity

SIZE = "lessons"
"""The size to learn from; the others are what benchmarks ask about."""
_PICTURES = (".jpg", ".jpeg")
"""Label and depth maps are PNGs."""


def open_source(name: str, root: Path) -> Folder:
    """Raises DataError for a folder that holds no whole world of lessons."""
    found = read_identity(root)
    if found is None or found.size != SIZE or not is_whole(root):
        held = "nothing of the kind" if found is None else f"a world of size {found.size!r}, whole or in part"
        raise DataError(
            f"source {name}: {root} must hold a whole embedded world of size {SIZE!r}; it holds {held}. Make one: "
            f"eupe-eval data make --size {SIZE} --seed 1 --to {root}"
        )
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix.lower() in _PICTURES)
    return Folder(name, root, tuple(files), digest_of([found.fingerprint, *files]))
