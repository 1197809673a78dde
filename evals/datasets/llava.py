"""The two training sets of LLaVA-1.5: 558K captions (alignment) and 665K conversations (instruction)."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from evals.context import BarFactory, silent_bar
from evals.datasets.base import fingerprint
from evals.datasets.jsonlist import records
from evals.datasets.layout import Problem, ProblemError, Report, home, image_size, stop, unavailable
from evals.datasets.pool import mapped
from evals.errors import DataError
from evals.files import DigestMemo

Stage = Literal["alignment", "instruction"]
STAGES: tuple[Stage, ...] = ("alignment", "instruction")
FILES: dict[str, str] = {"alignment": "blip_laion_cc_sbu_558k.json", "instruction": "llava_v1_5_mix665k.json"}
PUBLISHED: dict[str, int] = {"alignment": 558_128, "instruction": 665_298}
"""Records a stage."""
TEXT_ALONE = "text alone"
PUBLISHED_MIX: dict[str, int] = {
    "coco": 157_712 + 82_783 + 8_998 + 66_160 + 48_447,
    "gqa": 72_140,
    "ocr_vqa": 80_000,
    "textvqa": 21_953,
    "vg": 86_417,
    TEXT_ALONE: 40_688,
}
"""Records of the instruction stage by the first folder of their picture. COCO pictures are those of LLaVA-Instruct,
VQAv2, OKVQA, A-OKVQA and RefCOCO, textvqa's those of TextCaps; text alone is ShareGPT."""
INNER = "LLaVA-Pretrain"
FEW = 5
"""Pictures that an error lists; the rest are counted."""

_TREE = """
{root}/
  LLaVA-Pretrain/blip_laion_cc_sbu_558k.json    558,128 records
  LLaVA-Pretrain/images/00000/*.jpg ...
  llava_v1_5_mix665k.json                       665,298 records
  coco/train2017/  gqa/images/  ocr_vqa/images/  textvqa/train_images/  vg/VG_100K/  vg/VG_100K_2/
"""
_SOURCE = (
    "the hub's data sets liuhaotian/LLaVA-Pretrain and liuhaotian/LLaVA-Instruct-150K (llava_v1_5_mix665k.json);\n"
    "pictures from COCO train2017, GQA, OCR-VQA, TextVQA (train_val_images) and Visual Genome parts 1 and 2."
)
_RESTORE = "Restore the file"
_NO_TRAINING = "the training of the vision-language model stops with this error"
_SPEAKERS: dict[str, Literal["human", "gpt"]] = {"human": "human", "gpt": "gpt"}


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says."""

    speaker: Literal["human", "gpt"]
    text: str


@dataclass(frozen=True, slots=True)
class Talk:
    """One record of either file."""

    id: str
    """As the file has it: pictures that several sources use give several records of one id."""
    image: Path | None
    """Absolute where the root is; None: text alone."""
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Talks:
    """All records of a stage, in the order of the file."""

    stage: Stage
    talks: tuple[Talk, ...]
    fingerprint: str
    """Digest of the file, of the pictures, and of what was left out."""
    skipped: tuple[str, ...]
    """Ids of records that were left out because their picture is missing or unreadable."""


def read_talks(
    root: Path,
    stage: Stage,
    digests: DigestMemo,
    *,
    on_missing: Literal["stop", "skip"] = "stop",
    workers: int = 0,
    bar: BarFactory = silent_bar,
) -> Talks:
    """The records of a stage, after a look at the header of every picture (in `workers` processes; 0: in this one).

    A record whose picture is missing or unreadable stops with an error that counts all of them and lists the first;
    with `skip` it is left out and its id kept. Raises UnavailableError when the stage's file is not there, DataError
    naming file, record and key for a record of another form.
    """
    talks = survey(root, stage, stop)
    pictures = pictures_of(talks)
    missing = absent(pictures)
    broken = unreadable(sorted(pictures - missing), stage, workers, bar)
    lost, file = missing | broken, file_of(root, stage)
    kept = tuple(talk for talk in talks if talk.image not in lost)
    if lost and (on_missing == "stop" or not kept):
        raise DataError(_told(file, talks, missing, broken))
    skipped = tuple(talk.id for talk in talks if talk.image in lost)
    total = fingerprint([file, *sorted(pictures - lost)], file.parent, digests, extra="\0".join([stage, *skipped]))
    return Talks(stage, kept, total, skipped)


def file_of(root: Path, stage: str) -> Path:
    """Where the records of a stage lie: captions in LLaVA-Pretrain or beside it, conversations in the root."""
    base = home(root, INNER, FILES[stage]) if stage == "alignment" else root
    return base / FILES[stage]


def survey(root: Path, stage: str, report: Report) -> list[Talk]:
    """Every sound record, without a look at the pictures; every problem goes to `report`."""
    path = file_of(root, stage)
    if not path.is_file():
        raise unavailable(f"LLaVA-1.5, {stage}", path, _TREE.format(root=root), _SOURCE)
    reader = _Reader(path, path.parent / "images" if stage == "alignment" else path.parent, stage, report)
    with closing(records(path)) as given:
        found = (reader.talk(index, record) for index, record in enumerate(given))
        talks = [talk for talk in found if talk is not None]
    if not talks:
        report(Problem(str(path), "holds no sound record", _RESTORE, _NO_TRAINING))
    return talks


def pictures_of(talks: Iterable[Talk]) -> set[Path]:
    """The pictures of the records, each once."""
    return {talk.image for talk in talks if talk.image is not None}


def absent(pictures: Iterable[Path]) -> set[Path]:
    """Those that are not there; a listing of each folder is faster than a look at each of a million files."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in pictures:
        folders[path.parent].append(path)
    lacking: set[Path] = set()
    for folder, wanted in folders.items():
        try:
            with os.scandir(folder) as entries:
                names = {entry.name for entry in entries if entry.is_file()}
        except OSError:
            names = set()
        lacking.update(path for path in wanted if path.name not in names)
    return lacking


def unreadable(pictures: Sequence[Path], stage: str, workers: int, bar: BarFactory) -> set[Path]:
    """Those whose header cannot be decoded."""
    found = set()
    with bar(f"pictures of {stage}", len(pictures)) as progress:
        for path, sound in zip(pictures, mapped(has_header, pictures, workers), strict=True):
            progress.update()
            if not sound:
                found.add(path)
    return found


def has_header(path: Path) -> bool:
    """The header of a picture can be decoded."""
    try:
        image_size(path)
    except ProblemError:
        return False
    return True


def _told(path: Path, talks: Sequence[Talk], missing: set[Path], broken: set[Path]) -> str:
    needing = sum(talk.image in missing or talk.image in broken for talk in talks)
    parts = [
        f"{len(names):,} pictures {how}, the first: {', '.join(map(str, sorted(names)[:FEW]))}"
        for names, how in ((missing, "are missing"), (broken, "cannot be decoded"))
        if names
    ]
    return (
        f"{path}: {needing:,} of {len(talks):,} records cannot be used: {'; '.join(parts)}. Obtain the pictures, "
        "or set on_missing to skip: the training then goes on without these records, and its card counts them."
    )


class _Reader:
    """Checks records and makes them compact: the path of a picture is kept once."""

    def __init__(self, path: Path, pictures: Path, stage: str, report: Report) -> None:
        self._path, self._pictures, self._report = path, pictures, report
        self._must_show = stage == "alignment"
        self._known: dict[str, Path] = {}

    def talk(self, index: int, record: dict[str, Any]) -> Talk | None:
        """The record; None after its problem was reported."""
        try:
            return Talk(_id(record), self._image(record), _turns(record))
        except _FormError as error:
            where = f"{self._path}, record {index}{_shown(record)}, key {error.key}"
            self._report(Problem(where, error.what, _RESTORE, _NO_TRAINING))
            return None

    def _image(self, record: dict[str, Any]) -> Path | None:
        if "image" not in record:
            if self._must_show:
                raise _FormError("image", "the key is missing: every record of this file has a picture")
            return None
        name = _text(record["image"], "image")
        if name not in self._known:
            parts = PurePosixPath(name).parts
            if not parts or name.startswith("/") or ".." in parts or "\0" in name:
                raise _FormError("image", f"expected a path below {self._pictures}, got {name!r}")
            self._known[name] = self._pictures / name
        return self._known[name]


class _FormError(Exception):
    """A record of another form than the file's."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(key, what)
        self.key, self.what = key, what


def _id(record: dict[str, Any]) -> str:
    match record.get("id"):
        case str(name):
            return _text(name, "id")
        case bool():
            pass
        case int(number):
            return str(number)
        case _:
            pass
    what = f"expected text or a whole number, got {record['id']!r}" if "id" in record else "the key is missing"
    raise _FormError("id", what)


def _turns(record: dict[str, Any]) -> tuple[Turn, ...]:
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise _FormError("conversations", "expected a list of turns, got none")
    return tuple(_turn(turn, f"conversations[{at}]") for at, turn in enumerate(turns))


def _turn(turn: object, key: str) -> Turn:
    if not isinstance(turn, dict):
        raise _FormError(key, f"expected an object with from and value, got {_short(turn)}")
    speaker = _SPEAKERS.get(turn["from"]) if isinstance(turn.get("from"), str) else None
    if speaker is None:
        raise _FormError(f"{key}.from", f"expected human or gpt, got {_short(turn.get('from'))}")
    if "value" not in turn:
        raise _FormError(f"{key}.value", "the key is missing")
    return Turn(speaker, _text(turn["value"], f"{key}.value"))


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise _FormError(key, f"expected text, got {_short(value)}")
    if not value.isascii():
        try:
            # JSON can spell halves of characters, which no tokenizer and no file name can hold.
            value.encode()
        except UnicodeEncodeError as error:
            raise _FormError(key, "the text has half a character (a lone surrogate)") from error
    return value


def _short(value: object) -> str:
    return repr(value)[:60]


def _shown(record: dict[str, Any]) -> str:
    return f" (id {_short(record['id'])})" if "id" in record else ""
