"""From the folder of an export to an entry, and along its lineage to a text space. Imports no torch."""

from collections.abc import Container
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evals.encoders.entry import EncoderEntry, read_entry
from evals.encoders.exports.manifest import MANIFEST, Manifest, Teacher, read_manifest
from evals.errors import EvalError, UnavailableError, UsageError, WeightsError
from evals.files import sha256_file


@dataclass(frozen=True, slots=True)
class ExportEntry(EncoderEntry):
    """The entry of an export; its weights are `export.json`, whose digest covers all that the encoder came from."""

    folder: str = ""
    """Absolute."""

    def __post_init__(self) -> None:
        """An export brings its own weights; a random one has learnt no text."""
        own = str(Path(self.folder) / MANIFEST)
        if self.weights == "hub":
            object.__setattr__(self, "weights", own)
        if self.weights == "random":
            object.__setattr__(self, "text", False)
        elif self.weights != own:
            raise UsageError(
                f"{self.folder} is an export and brings its own weights, not {self.weights!r}: leave --weights out, or "
                "pass `random` for the untrained architecture."
            )

    def lineage(self) -> dict[str, Any] | None:
        """Stage, step and configuration of its training, and who taught it. Raises as `read_manifest` does."""
        if self.weights == "random":
            return None
        manifest = read_manifest(Path(self.folder))
        notes = manifest.training
        teachers = [
            {"name": each.name, "source": each.source, "digest": each.digest, "target": each.target}
            for each in manifest.teachers
        ]
        told = {"stage": (notes.get("stage") or {}).get("name"), "step": notes.get("step"), "teachers": teachers}
        return {**told, "config": (notes.get("identity") or {}).get("config")}


@dataclass(frozen=True, slots=True)
class Link:
    """A class head of an export, on the way from its class token to a text space."""

    folder: Path
    teacher: Teacher


@dataclass(frozen=True, slots=True)
class TextRoute:
    """The class heads to go through in turn, to the text tower of the last teacher or to one `inside` an export."""

    links: tuple[Link, ...] = ()
    inside: Path | None = None
    """The export at the end that brings its own text tower."""
    why_not: str = ""
    """Set where no text tower is reached."""


def is_export(name: str) -> bool:
    """Whether what was given as an encoder is a path, or a folder here that holds an export; entries have no slash."""
    return "/" in name.partition(":")[0] or (Path(name) / MANIFEST).is_file()


def entry_of(name: str, known: Container[str] = ()) -> ExportEntry:
    """The entry of the export in the folder `name`.

    What lies further up its lineage may be missing: that is said when text is asked for. Raises as `read_manifest`
    does, and UsageError for an export that has the name of a `known` encoder.
    """
    folder = Path(name).expanduser().resolve()
    manifest = read_manifest(folder)
    if manifest.name in known:
        raise UsageError(
            f"the export in {folder} calls itself {manifest.name!r}, the name of another encoder: its records would "
            f"be taken for those. Export it under another name."
        )
    text, tower, note = _text(folder, manifest)
    values = {**manifest.entry, "source": "export", "model": manifest.architecture, "text": text}
    entry = read_entry(manifest.name, {**values, "text_tower": tower, "note": note})
    return ExportEntry(**_values(entry), folder=str(folder))


def backbone_entry(entry: ExportEntry, manifest: Manifest, weights: str) -> EncoderEntry:
    """The entry of the backbone alone, from a file of weights (or `random`), as timm calls its architecture."""
    return EncoderEntry(**{**_values(entry), "model": manifest.model, "weights": weights})


def text_route(folder: Path, manifest: Manifest) -> TextRoute:
    """The way from the class token of an export to a text space: by a teacher that has one, else by exports it names.

    Of several, the first in the order of the manifest. Raises UnavailableError for an export of the lineage that is
    not where its student says, WeightsError for one that is another than the student learnt from.
    """
    if manifest.text is not None:
        return TextRoute(inside=folder)
    reasons = []
    for teacher in sorted(manifest.teachers, key=lambda teacher: teacher.tower is None):
        here = Link(folder, teacher)
        if teacher.cls is None:
            reasons.append(f"{teacher.name} taught patches only")
        elif teacher.tower is not None:
            return TextRoute((here,))
        elif teacher.kind == "export" and teacher.target == "global":
            above = text_route(*_follow(here))
            if not above.why_not:
                return TextRoute((here, *above.links), above.inside)
            reasons.append(f"{teacher.name}: {above.why_not}")
        else:
            reasons.append(f"{teacher.name} has no text tower")
    return TextRoute(why_not="; ".join(reasons) or "no teacher")


def _text(folder: Path, manifest: Manifest) -> tuple[bool, str | None, str | None]:
    """(whether text can be asked for, encoder of the text tower, note)."""
    said = [manifest.entry["note"]] if "note" in manifest.entry else []
    try:
        route = text_route(folder, manifest)
    except EvalError as error:
        # To be told when text is asked for; everything else can be scored.
        return True, None, " ".join([*said, f"Text cannot be used here: {error}"])
    if route.why_not:
        return False, None, " ".join([*said, f"No text: {route.why_not}."])
    if route.inside is not None:
        return True, read_manifest(route.inside).name, " ".join(said) or None
    tower = route.links[-1].teacher.tower
    assert tower is not None, "a route ends at a tower"
    return True, tower.encoder, " ".join(said) or None


def _follow(link: Link) -> tuple[Path, Manifest]:
    """The export that a teacher is. Raises as `text_route` does."""
    teacher, said = link.teacher, f"teacher {link.teacher.name!r} of the export in {link.folder}"
    folder = (link.folder / teacher.source).resolve()
    if not folder.is_dir():
        raise UnavailableError(
            "weights",
            f"{said} is not at {folder}. Text needs the heads of every export on the way to a text tower: copy that "
            f"export to {teacher.source!r}, as seen from its student.",
        )
    manifest, digest = read_manifest(folder), sha256_file(folder / MANIFEST)
    if digest != teacher.digest:
        raise WeightsError(
            f"{said} is another export than the one in {folder}: sha256 of {MANIFEST} {teacher.digest[:12]}, there "
            f"{digest[:12]}. Put back the export that it learnt from."
        )
    if manifest.entry["dim"] != teacher.cls:
        raise WeightsError(f"{said} put out {teacher.cls} numbers; the one in {folder} has {manifest.entry['dim']}.")
    return folder, manifest


def _values(entry: EncoderEntry) -> dict[str, Any]:
    return {item.name: getattr(entry, item.name) for item in fields(EncoderEntry)}
