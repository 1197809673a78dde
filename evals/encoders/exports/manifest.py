"""Exports, the folders in which a trained encoder is kept: their format, read strictly. Imports no torch.

An export is a folder that is renamed into place once it is whole:

* `export.json`, the manifest, written last: what follows, with size and sha256 of every other file. Its own sha256
  stands for the export: it covers the files and, through the digests of the teachers, everything they came from.
* `backbone.safetensors`: the weights under the names of the released EUPE files (`cls_token`, `storage_tokens`,
  `blocks.N...`, `rope_embed.periods`; for ConvNeXt `downsample_layers...`, `stages...`, `norm...`) or under timm's.
* `heads.safetensors`, where there are teachers: by teacher and kind of output, `<teacher>.cls.` and
  `<teacher>.patch.`, the adapter head: `inner.weight` [hidden, D], `norm.weight`, `norm.bias`, `outer.weight`
  [target, hidden]; Linear, LayerNorm (eps 1e-5), exact GELU, Linear, both without bias. `<teacher>.projection.weight`
  and `.bias` are the teacher's own projection from its class target to its text space, where the target is before it.
* `statistics.safetensors`, likewise: `mean` and `std` [target] of each coordinate of what the teacher put out; heads
  learn (output - mean) / std.

* `text.safetensors`, where the export brings a text tower of its own (see `Text`), which meets its global feature.

The manifest is a JSON object:

* `schema`: 1. A later one is refused. `name`: what the encoder is called in records and tables.
* `model`, `options`: the architecture as timm calls it, and its arguments that differ (width, depth, heads, ...).
* `entry`: what it wants of an image and what it gives, as in `configs/encoder`, nothing left to a default.
* `teachers`: who taught it, in order; see `Teacher`. `text`: its own text tower, if any.
* `training`: notes of the trainer, free in form.
* `files`: name -> `sha256`, `bytes`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from evals.encoders import keys
from evals.encoders.exports import readers
from evals.encoders.keys import Reader
from evals.errors import UnavailableError, UsageError, WeightsError
from evals.files import sha256_file

SCHEMA = 1
MANIFEST, BACKBONE = "export.json", "backbone.safetensors"
HEADS, STATISTICS, TEXT = "heads.safetensors", "statistics.safetensors", "text.safetensors"
_NAME, _TEACHER_NAME = re.compile(r"\w[\w.-]*"), re.compile(r"\w[\w-]*")
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Tower:
    """A text tower."""

    encoder: str
    """The entry that it belongs to."""
    digest: str
    """Identity of its weights."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """What an export learnt from, and the widths of what it has for it."""

    name: str
    """Beginning of its tensors; without a dot."""
    kind: Literal["encoder", "export"]
    source: str
    """The entry of an encoder; the folder of an export, relative to the one that names it, or inside it."""
    digest: str
    """Identity of its weights (`weights_sha256` of its card); of an export, the sha256 of its manifest."""
    hidden: int
    """Width inside the heads: 1536 in stage 1 of the paper, 3072 afterwards."""
    cls: int | None
    """Width of its class target; None: it taught none."""
    patch: int | None
    """Width of its patch target."""
    target: str = "global"
    """Its class target: `global`, its documented global feature; `mean`, of the patches; or the name of another."""
    projection: int | None = None
    """Width after its own projection into the text space, where the class target is before that."""
    tower: Tower | None = None
    """The text tower in whose space class target or projection lie; None: in none, or in one further up."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text tower inside an export: a transformer over the words of a small world."""

    words: tuple[str, ...]
    """Its vocabulary, in the order of its embeddings; others are unknown to it."""
    width: int
    depth: int
    heads: int
    context: int
    """Most words of a text."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """`export.json`."""

    name: str
    model: str
    entry: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    teachers: tuple[Teacher, ...] = ()
    text: Text | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Stamp] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def architecture(self) -> str:
        """The model and what differs from it, in one word."""
        changed = "&".join(f"{key}={json.dumps(self.options[key])}" for key in sorted(self.options))
        return f"{self.model}?{changed}" if changed else self.model

    def to_json(self) -> str:
        """Stable, indented JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export, without a look at the other files.

    Raises UnavailableError where there is no folder, WeightsError for one that is not whole or of a later schema,
    UsageError naming a key amiss.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise UnavailableError("weights", f"there is no export at {folder}: no such folder.")
    if not path.is_file():
        raise WeightsError(
            f"{folder} is no whole export: it has no {MANIFEST}, which is written last. Export it, or copy it, again."
        )
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read as JSON ({error}). Export it, or copy it, again.") from error
    return parse(raw, str(path))


def parse(raw: object, where: str) -> Manifest:
    """A manifest from what JSON gave. Raises as `read_manifest` does."""
    if isinstance(raw, dict) and isinstance(raw.get("schema"), int) and raw["schema"] > SCHEMA:
        raise WeightsError(f"{where} has schema {raw['schema']}; this version reads up to {SCHEMA}. Upgrade eupe-eval.")
    values = readers.json_object(where, raw, _MANIFEST, optional=("options", "teachers", "text", "training"))
    if values["schema"] != SCHEMA:
        raise UsageError(f"schema in {where} must be {SCHEMA}; got {values['schema']}.")
    manifest = Manifest(**values)
    _check_teachers(manifest, where)
    if manifest.text is not None and manifest.entry["global_feature"] == "none":
        raise UsageError(f"{where} has a text tower, and the encoder no global feature to meet it.")
    wanted = {BACKBONE, *((HEADS, STATISTICS) if manifest.teachers else ()), *((TEXT,) if manifest.text else ())}
    if set(manifest.files) != wanted:
        raise UsageError(f"files in {where} must be {', '.join(sorted(wanted))}; got {', '.join(manifest.files)}.")
    return manifest


def check_whole(folder: Path) -> Manifest:
    """The manifest of an export whose files are all those that were exported. Raises as its two parts do."""
    manifest = read_manifest(folder)
    for name in manifest.files:
        whole_file(folder, manifest, name)
    return manifest


def whole_file(folder: Path, manifest: Manifest, name: str) -> Path:
    """The path of a file of an export. Raises WeightsError where it is not the one that was exported."""
    path, stamp = folder / name, manifest.files[name]
    if not path.is_file():
        raise WeightsError(f"{folder} is no whole export: {name} is missing. Copy it again, with all its files.")
    if path.stat().st_size != stamp.bytes:
        raise WeightsError(
            f"{path} has {path.stat().st_size:,} bytes instead of {stamp.bytes:,}: it was cut short or replaced. "
            "Copy the export again."
        )
    if (found := sha256_file(path)) != stamp.sha256:
        raise WeightsError(
            f"{path} is not the file that was exported (sha256 {found[:12]} instead of {stamp.sha256[:12]}). Copy the "
            "export again."
        )
    return path


def _check_teachers(manifest: Manifest, where: str) -> None:
    """Raises UsageError for teachers whose parts do not go together."""
    names = [teacher.name for teacher in manifest.teachers]
    if len(set(names)) < len(names):
        raise UsageError(f"teachers in {where} must have different names; got {', '.join(names)}.")
    for teacher in manifest.teachers:
        said = f"teacher {teacher.name!r} in {where}"
        if teacher.cls is None and teacher.patch is None:
            raise UsageError(f"{said} has neither cls nor patch: it taught nothing.")
        if teacher.cls is not None and manifest.entry["global_feature"] == "none":
            raise UsageError(f"{said} has cls {teacher.cls}, and the encoder has no global feature.")
        if teacher.tower is not None and teacher.cls is None:
            raise UsageError(f"{said} has a tower and no cls: text meets class tokens only.")
        if teacher.projection is not None and teacher.tower is None:
            raise UsageError(f"{said} has a projection and no tower: say in whose text space it ends.")


def _teachers(where: str, value: object) -> tuple[Teacher, ...]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{where} must be a list; got {value!r:.60}.")
    return tuple(_TEACHER(f"number {at} of {where}", item) for at, item in enumerate(value, start=1))


def _files(where: str, value: object) -> dict[str, Stamp]:
    known = dict.fromkeys((BACKBONE, HEADS, STATISTICS, TEXT), _STAMP)
    return readers.json_object(where, value, known, optional=(HEADS, STATISTICS, TEXT))


_digest = readers.matching(_DIGEST, "a sha256 in 64 hexadecimal digits")
_STAMP = readers.made(Stamp, {"sha256": _digest, "bytes": keys.side})
_TEACHER = readers.made(
    Teacher,
    {
        "name": readers.matching(_TEACHER_NAME, "letters, digits, - and _"),
        "kind": keys.one_of("encoder", "export"),
        "source": keys.text,
        "digest": _digest,
        "hidden": keys.side,
        "cls": keys.or_null(keys.side),
        "patch": keys.or_null(keys.side),
        "target": keys.text,
        "projection": keys.or_null(keys.side),
        "tower": keys.or_null(readers.made(Tower, {"encoder": keys.text, "digest": _digest})),
    },
    optional=("target", "projection", "tower"),
)
_OPTIONS: Mapping[str, Reader] = {
    **dict.fromkeys(("embed_dim", "depth", "num_heads", "patch_size", "output_stride", "stem_width"), keys.side),
    "num_reg_tokens": keys.whole,
    **dict.fromkeys(("mlp_ratio", "init_values"), readers.ratio),
    **dict.fromkeys(("dims", "depths", "layers", "channels"), readers.sides),
    "norm_layer": keys.one_of("groupnorm1"),
}
"""Arguments of an architecture that are numbers, and a norm; others could make timm fetch or read files."""
_ENTRY: Mapping[str, Reader] = {
    "size": keys.side,
    "patch": keys.side,
    "dim": keys.side,
    "global_feature": keys.one_of("cls", "gap_norm", "avg_pool", "none"),
    "licence": keys.text,
    "mean": keys.triple,
    "std": keys.deviations,
    "interpolation": keys.one_of("bilinear", "bicubic"),
    "antialias": keys.flag,
    "resize": keys.one_of("crop", "squash"),
    "note": keys.text,
}
_MANIFEST: Mapping[str, Reader] = {
    "schema": keys.whole,
    "name": readers.matching(_NAME, "a name of letters, digits, dots, - and _"),
    "model": keys.text,
    "options": readers.made(dict, _OPTIONS, optional=tuple(_OPTIONS)),
    "entry": readers.made(dict, _ENTRY, optional=("note",)),
    "teachers": _teachers,
    "text": keys.or_null(
        readers.made(Text, {"words": readers.words, **dict.fromkeys(("width", "depth", "heads", "context"), keys.side)})
    ),
    "training": readers.notes,
    "files": _files,
}
