"""Checkpoints of a run: written aside by a thread and renamed when whole, so that the last good one always stays.

A checkpoint is a folder `step-<n>` of torch.distributed.checkpoint with `run.json` in it: the step, what the run was
(configuration, teachers, statistics, data) and the digest of every file. `run.json` is written last; a folder
without it, or whose files differ from it, is no checkpoint. Weights of teachers are never saved.
"""

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException

from evals.errors import ResultsError
from evals.files import sha256_file, write_atomic

MANIFEST = "run.json"
_FAILURES = (OSError, RuntimeError, CheckpointException)
"""What a disk that is full, or an earlier file that cannot be read, ends in."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run is; one that goes on must be the same."""

    config: str
    teachers: Mapping[str, str]
    """Digest of the weights of each."""
    statistics: str
    data: str

    def differences(self, other: "Identity") -> list[str]:
        """Which parts differ, in words."""
        words = {
            "config": "the configuration",
            "teachers": "the weights of a teacher",
            "statistics": "the statistics of the targets",
            "data": "the images of a source",
        }
        return [text for key, text in words.items() if getattr(self, key) != getattr(other, key)]


class Saver:
    """Writes checkpoints of one run into its folder, one at a time, beside the training."""

    def __init__(self, folder: Path, identity: Identity, *, keep: int) -> None:
        self._folder, self._identity, self._keep = folder, identity, keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        # Collectives of this thread must not meet those of the training.
        self._group: Any = distributed.new_group(backend="gloo")
        self._first = distributed.get_rank() == 0

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Copy the state after `step` steps and start writing it; waits for the one before.

        Every process must call it. Raises ResultsError where the one before could not be written.
        """
        self.finish()
        copied = _copied(state)
        self._pending = self._thread.submit(self._write, step, copied)

    def finish(self) -> None:
        """Wait until nothing is left to write. Raises ResultsError where it could not be (a full disk, say)."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, step: int, state: Mapping[str, Any]) -> None:
        final = self._folder / f"step-{step:08d}"
        aside = self._folder / f".{final.name}.partial"
        try:
            if self._first:
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir(parents=True)
            self._wait()
            state_dict_saver.save(dict(state), checkpoint_id=aside, process_group=self._group)
            self._wait()
            if self._first:
                write_atomic(aside / MANIFEST, _manifest(aside, step, self._identity).encode())
                _sync(aside)
                shutil.rmtree(final, ignore_errors=True)
                aside.rename(final)
                _sync(self._folder)
                for old in checkpoints(self._folder)[: -self._keep]:
                    shutil.rmtree(old)
        except _FAILURES as error:
            if self._first:
                shutil.rmtree(aside, ignore_errors=True)
            raise ResultsError(
                f"the checkpoint of step {step} cannot be written to {self._folder} ({error}); the last one stays."
            ) from error

    def _wait(self) -> None:
        distributed.barrier(self._group)


def checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, the oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / MANIFEST).is_file())


def read_manifest(path: Path) -> tuple[int, Identity]:
    """(step, identity) of a checkpoint. Raises ResultsError where a file is missing or was changed."""
    try:
        raw = json.loads((path / MANIFEST).read_text())
        step, identity = int(raw["step"]), Identity(**raw["identity"])
        wrong = [name for name, digest in raw["files"].items() if sha256_file(path / name) != digest]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path} is no whole checkpoint ({error}); use an earlier one.") from error
    if wrong:
        raise ResultsError(f"{path / wrong[0]} is not the file that was saved; use an earlier checkpoint.")
    return step, identity


def restore(path: Path, state: dict[str, Any]) -> None:
    """Fill a state of the right names and shapes in place. Raises ResultsError where the checkpoint has others."""
    try:
        state_dict_loader.load(state, checkpoint_id=path)
    except (*_FAILURES, ValueError, KeyError) as error:
        raise ResultsError(f"{path} does not fit this run: {error}") from error


def _copied(state: Any) -> Any:
    """The same on the CPU, apart from what training goes on to change."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list | tuple) else state


def _manifest(folder: Path, step: int, identity: Identity) -> str:
    files = {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    whole = {"step": step, "identity": asdict(identity), "torch": torch.__version__, "files": files}
    return json.dumps(whole, indent=1, sort_keys=True)


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
