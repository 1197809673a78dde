"""Where the tables of a question set lie: in a folder of the user's, or in the Hugging Face cache."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evals.datasets.layout import AbsentError, Problem, ProblemError, shown
from evals.errors import UsageError

ORGANISATIONS = ("lmms-lab-encoder", "lmms-lab")
"""Owners of the six sets on the hub: today's, and the one until lmms-eval 0.7.2. The rows are the same."""
HUB = "hub:"
"""`hub:<organisation>` in place of a folder means the hub's data sets: the local cache first, then the network."""

_RESTORE = "Obtain the set again, or restore the file"


@dataclass(frozen=True, slots=True)
class Part:
    """One table of a set."""

    split: str
    folders: tuple[str, ...]
    """Where it may lie below the folder of the set, the hub's own place first."""


@dataclass(frozen=True, slots=True)
class Source:
    """A set as the hub has it."""

    title: str
    name: str
    """Of the repository, and of the folder below the root, in any case."""
    parts: tuple[Part, ...]
    """The tables that are downloaded."""
    instead: tuple[Part, ...] = ()
    """Tables that together hold the same rows."""
    alias: str = ""
    """Another name that the folder may have."""


def is_hub(root: Path) -> bool:
    """The root stands for the hub, not for a folder."""
    return root.name.startswith(HUB)


def folder_of(root: Path, source: Source, *, fetch: bool = True) -> Path:
    """The folder of a set below `root`, or its snapshot in the Hugging Face cache where `root` is `hub:<organisation>`.

    Only such a root reaches for the network, and only with `fetch`, without HF_HUB_OFFLINE, and for what the cache
    lacks. Raises UnavailableError with what was expected where, UsageError for an organisation that has no such sets.
    """
    if not is_hub(root):
        found = next((folder for folder in _places(root, source) if folder.is_dir()), None)
        if found is None:
            raise absent(root, source, root / source.name)
        return found
    named = root.name.removeprefix(HUB)
    if named not in ORGANISATIONS:
        raise UsageError(f"paths.vlm: {root.name!r} must be {' or '.join(HUB + name for name in ORGANISATIONS)}.")
    cached = _cached(source, sorted(ORGANISATIONS, key=lambda name: name != named))
    if cached is not None:
        return cached
    if not fetch:
        raise absent(root, source, root / source.name)
    return _download(root, source, named)


def files_of(base: Path, part: Part) -> list[Path]:
    """The files of a table in their order, parquet shards or those of `save_to_disk`; none where it is not there.

    Raises DataError for a table of which files are missing.
    """
    for folder in part.folders:
        here = base / folder
        found = _parquet(here, part.split) or _saved(here / part.split, part.split) or _saved(here, part.split)
        if found:
            return found
    return []


def absent(root: Path, source: Source, lacking: Path) -> AbsentError:
    """The error for a set, or a table of it, that is not there."""
    where = f"{ORGANISATIONS[0]}/{source.name}"
    command = f"hf download --repo-type dataset {where}"
    if is_hub(root):
        advice = f"With a network, a run downloads it, and so does: {command}"
    else:
        lines = [f"  {root}/{source.name}/{part.folders[0]}/{part.split}-*.parquet" for part in source.parts]
        advice = "\n".join(["Expected, as on the hub or as save_to_disk writes it:", *lines])
        advice += f"\nHow to obtain it: {command} --local-dir {root}/{source.name}\n"
        held = next((name for name in ORGANISATIONS if _cached(source, [name])), None)
        if held is None:
            advice += f"Or let a run download it: paths.vlm={HUB}{ORGANISATIONS[0]}."
        else:
            advice += f"The Hugging Face cache of this machine holds it: paths.vlm={HUB}{held} reads it from there."
    return AbsentError(source.title, lacking, f"{advice}\nTo try everything without it: --data miniature.")


def _places(root: Path, source: Source) -> Iterable[Path]:
    """Folders that may be the set's: by its name, below an organisation's, as a cache has it."""
    wanted = {source.name.casefold(), source.alias.casefold()} - {""}
    for above in (root, *(root / name for name in ORGANISATIONS)):
        if above.is_dir():
            names = sorted(entry.name for entry in shown(above, lambda problem: None))
            yield from (above / name for name in names if name.casefold() in wanted)
    for name in ORGANISATIONS:
        snapshot = _snapshot(root / f"datasets--{name}--{source.name}")
        if snapshot is not None:
            yield snapshot


def _cached(source: Source, organisations: Iterable[str]) -> Path | None:
    """The snapshot in the Hugging Face cache that has every table."""
    from huggingface_hub import constants

    for name in organisations:
        snapshot = _snapshot(Path(constants.HF_HUB_CACHE) / f"datasets--{name}--{source.name}")
        if snapshot is not None and _whole(snapshot, source):
            return snapshot
    return None


def _whole(snapshot: Path, source: Source) -> bool:
    """Every table is there; a download that broke off left some out, or some shards."""
    try:
        return any(
            parts and all(files_of(snapshot, part) for part in parts) for parts in (source.parts, source.instead)
        )
    except ProblemError:
        return False


def _snapshot(repository: Path) -> Path | None:
    """The snapshot of `main`, else the only one."""
    snapshots = repository / "snapshots"
    if not snapshots.is_dir():
        return None
    main = repository / "refs" / "main"
    if main.is_file() and (snapshots / main.read_text().strip()).is_dir():
        return snapshots / main.read_text().strip()
    found = list(snapshots.iterdir())
    return found[0] if len(found) == 1 else None


def _download(root: Path, source: Source, organisation: str) -> Path:
    from huggingface_hub import constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        raise absent(root, source, root / f"{source.name} (HF_HUB_OFFLINE is set)")
    patterns = [f"{part.folders[0]}/{part.split}-*" for part in source.parts]
    try:
        # The client's own errors are OSErrors and ValueErrors; what the network does is among them.
        return Path(snapshot_download(f"{organisation}/{source.name}", repo_type="dataset", allow_patterns=patterns))
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise absent(root, source, root / f"{source.name} ({reason})") from error


def _shards(folder: Path, split: str) -> dict[Path, tuple[int, int]]:
    """Parquet files of a split: their number and how many there should be."""
    form = re.compile(rf"{re.escape(split)}(?:-(\d+)-of-(\d+)(?:-[0-9a-f]+)?)?\.parquet")
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        if match := form.fullmatch(path.name):
            found[path] = (int(match[1] or 0), int(match[2] or 1))
    return found


def _lacking(folder: Path, split: str) -> str:
    """What is wrong with the numbers of the shards; empty: nothing."""
    shards = _shards(folder, split)
    totals = sorted({total for _, total in shards.values()})
    if len(totals) > 1:
        return f"files of {split} count {' and '.join(map(str, totals))} shards: two copies are mixed"
    numbers = sorted(number for number, _ in shards.values())
    if totals and numbers != list(range(totals[0])):
        return (
            f"shards of {split} are numbered {', '.join(map(str, numbers))}; expected 0 to {totals[0] - 1}, each once"
        )
    return ""


def _parquet(folder: Path, split: str) -> list[Path]:
    if what := _lacking(folder, split):
        raise Problem(str(folder), what, _RESTORE).error()
    return list(_shards(folder, split))


def _saved(folder: Path, split: str) -> list[Path]:
    """Arrow files that `save_to_disk` wrote, in the order of its state."""
    state = folder / "state.json"
    if not state.is_file():
        return []
    try:
        raw = json.loads(state.read_bytes())
        names = [str(entry["filename"]) for entry in raw["_data_files"]]
        of = raw.get("_split")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(str(state), f"is no state of save_to_disk ({error!r})", _RESTORE).error() from error
    if of is not None and of != split:
        return []
    if raw.get("_indices_files"):
        raise Problem(str(state), "the set was saved with a selection of rows", "Save it flattened").error()
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise Problem(str(state), f"names {name!r}, which is not there", _RESTORE).error()
    return [folder / name for name in names]
