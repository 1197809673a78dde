"""The tensors of an export: written with its manifest as one folder that is whole or absent, and read strictly."""

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from evals.encoders.exports.heads import adapters, check_statistics, target_statistics
from evals.encoders.exports.manifest import (
    BACKBONE,
    HEADS,
    MANIFEST,
    STATISTICS,
    TEXT,
    Manifest,
    Stamp,
    parse,
    read_manifest,
    whole_file,
)
from evals.encoders.weights import load_strict, read_tensors, seeded
from evals.errors import ResultsError, UsageError
from evals.files import sha256_file, write_atomic


def write_export(
    folder: Path,
    manifest: Manifest,
    backbone: Mapping[str, Tensor],
    heads: nn.ModuleDict | None = None,
    statistics: nn.ModuleDict | None = None,
    text: nn.Module | None = None,
) -> Manifest:
    """Write an export; returns its manifest with the files stamped.

    `heads` and `statistics` are as `adapters` and `target_statistics` make them for the manifest's teachers, `text` is
    the tower that the manifest describes. Nothing
    but whole exports ever has that name: everything is written beside it and renamed. Raises UsageError for an
    existing folder or a manifest that could not be read again, WeightsError for heads or statistics that are not the
    manifest's, ResultsError where it cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already; exports are never overwritten. Choose another folder.")
    parts = {BACKBONE: dict(backbone)}
    if manifest.teachers:
        parts |= {HEADS: _state(heads), STATISTICS: _state(statistics)}
    if manifest.text is not None:
        parts[TEXT] = _state(text)
    checked = _stamped(manifest, dict.fromkeys(parts, Stamp("0" * 64, 1)))
    if checked.teachers:
        _fill(checked, parts[HEADS], parts[STATISTICS], what=str(folder))
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        aside.mkdir(parents=True)
        written = _stamped(checked, {name: write_tensors(aside / name, tensors) for name, tensors in parts.items()})
        write_atomic(aside / MANIFEST, written.to_json().encode())
        aside.rename(folder)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise ResultsError(f"cannot write the export {folder}: {why}. Free some space, or choose another.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return written


def read_heads(folder: Path) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """Adapters and statistics of an export by teacher, frozen; the backbone is not looked at.

    Raises WeightsError for files that are not whole, or that hold other tensors than the manifest says.
    """
    manifest = read_manifest(folder)
    if not manifest.teachers:
        return nn.ModuleDict(), nn.ModuleDict()
    heads, statistics = (read_tensors(whole_file(folder, manifest, name)) for name in (HEADS, STATISTICS))
    return _fill(manifest, heads, statistics, what=str(folder))


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> Stamp:
    """Write a file of an export, on the disk when this returns. Raises OSError and SafetensorError."""
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return Stamp(sha256_file(path), path.stat().st_size)


def _stamped(manifest: Manifest, files: Mapping[str, Stamp]) -> Manifest:
    """The manifest with its files, as it will be read. Raises as `parse` does."""
    return parse(json.loads(replace(manifest, files=files).to_json()), f"the manifest of {manifest.name}")


def _state(modules: nn.Module | None) -> dict[str, Tensor]:
    return {} if modules is None else dict(modules.state_dict())


def _fill(
    manifest: Manifest, heads: Mapping[str, Tensor], statistics: Mapping[str, Tensor], *, what: str
) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    check_statistics(statistics, what=f"{STATISTICS} of {what}")
    # The draw of fresh heads is not to move the caller's stream; all of it is overwritten.
    with seeded(0):
        made = adapters(manifest.teachers, manifest.entry["dim"])
    measured = target_statistics(manifest.teachers)
    load_strict(made, heads, what=f"{HEADS} of {what}")
    load_strict(measured, statistics, what=f"{STATISTICS} of {what}")
    return made.requires_grad_(False).eval(), measured.eval()
