"""Source `folder`: every image below a folder, in the order of their paths."""

from dataclasses import dataclass
from pathlib import Path

from eupe.data.base import digest_of
from evals.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True, slots=True)
class Folder:
    """Image files of any depth."""

    name: str
    root: Path
    files: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.files)

    def read(self, item: int) -> bytes:
        """The bytes of the file."""
        return (self.root / self.files[item]).read_bytes()

    def where(self, item: int) -> str:
        """Its path."""
        return str(self.root / self.files[item])


def open_source(name: str, root: Path) -> Folder:
    """Raises DataError for a folder that is not there or holds no image."""
    if not root.is_dir():
        raise DataError(f"source {name}: no folder {root}. Give the folder of its images (any depth).")
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not files:
        raise DataError(f"source {name}: {root} holds no image ({', '.join(EXTENSIONS)}).")
    return Folder(name, root, tuple(files), digest_of(files))
