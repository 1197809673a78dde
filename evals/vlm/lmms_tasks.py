"""Task files with which lmms-eval asks the six sets of this suite's folders, without the hub.

`python -m evals.vlm.lmms_tasks <folder of the sets> <folder for the task files>`, and give the latter to lmms-eval as
`--include_path`. Each file includes lmms-eval's own task, so prompts, settings and metrics are its own; what changes is
where rows come from (its task files name repositories that were renamed, and want a login) and, for TextVQA, that no
submission is written into the working directory. The tasks have names of their own, `<task>_local`: a file cannot
replace a task of lmms-eval. GQA's pictures are looked up in their table; its own code fetches them from the hub.
"""

import argparse
import importlib.util
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from evals.datasets.layout import AbsentError, stop
from evals.datasets.vlm import gqa, mme, pope, realworldqa, sqa, textvqa
from evals.datasets.vlm.files import IMAGE, Place, picture_at
from evals.datasets.vlm.find import Part, Source, absent, files_of, folder_of
from evals.datasets.vlm.table import KEY, lines
from evals.errors import EvalError, UnavailableError
from evals.files import write_atomic
from evals.vlm.questions import SHORT

TAG = "six_local"
"""All six at once; TextVQA without OCR tokens, as lmms-eval asks it."""
_PICTURES = "pictures"
_HERE = "evals.vlm.lmms_tasks"
"""This module, which is run under another name."""


class _Function(str):
    """What lmms-eval imports by name."""


class _Dumper(yaml.SafeDumper):
    """Writes lmms-eval's tag of functions."""


_Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", str(name)))


@dataclass(frozen=True, slots=True)
class _Task:
    """A task of lmms-eval and where its rows are."""

    includes: str
    """Its file, below lmms-eval's tasks."""
    source: Source
    part: Part
    instead: tuple[Part, ...] = ()
    """Tables that together have the same rows."""
    process: str | None = "with_pictures"
    tagged: bool = True
    more: Mapping[str, Any] = field(default_factory=dict)


_METRIC = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
"""TextVQA's, without the submission."""
_TASKS: Mapping[str, _Task] = {
    "pope": _Task("pope/pope.yaml", pope.SOURCE, pope.SOURCE.parts[0], pope.SOURCE.instead),
    "mme": _Task("mme/mme.yaml", mme.SOURCE, mme.SOURCE.parts[0]),
    "scienceqa_img": _Task("scienceqa/scienceqa_img.yaml", sqa.SOURCE, sqa.SOURCE.parts[0], process="only_shown"),
    "realworldqa": _Task("realworldqa/realworldqa.yaml", realworldqa.SOURCE, realworldqa.SOURCE.parts[0]),
    "textvqa_val": _Task(
        "textvqa/textvqa_val.yaml", textvqa.SOURCE, textvqa.SOURCE.parts[0], more={"metric_list": _METRIC}
    ),
    "textvqa_val_ocr": _Task(
        "textvqa/textvqa_val.yaml",
        textvqa.SOURCE,
        textvqa.SOURCE.parts[0],
        tagged=False,
        more={
            "metric_list": _METRIC,
            "lmms_eval_specific_kwargs": {"default": {"pre_prompt": "", "post_prompt": SHORT, "ocr": True}},
        },
    ),
    "gqa": _Task("gqa/gqa.yaml", gqa.SOURCE, gqa.QUESTIONS, process=None),
}


def write_tasks(root: Path, folder: Path) -> tuple[list[str], list[AbsentError]]:
    """Write a file for each set below `root`, a folder or `hub:<organisation>`; (names of tasks, sets not there).

    Raises UnavailableError without lmms-eval, or where no set is there, DataError for a set of which files are missing.
    """
    own, told, lacking = _own_tasks(), {}, []
    for name, task in _TASKS.items():
        try:
            told[f"{name}_local"] = _config(name, task, root, own)
        except AbsentError as error:
            lacking.append(error)
    if not told:
        raise lacking[0]
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in told.items():
        text = yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        write_atomic(folder / f"{name}.yaml", text.encode())
    return list(told), lacking


def _config(name: str, task: _Task, root: Path, own: Path) -> dict[str, Any]:
    files = _files(root, task.source, task.part, task.instead)
    config: dict[str, Any] = {
        "include": str(own / task.includes),
        "task": f"{name}_local",
        "dataset_path": "arrow" if files[0].suffix == ".arrow" else "parquet",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {task.part.split: [str(path) for path in files]}},
        "process_docs": None if task.process is None else _Function(f"{_HERE}.{task.process}"),
        **task.more,
    }
    if task.tagged:
        config["tag"] = TAG
    if task.source is gqa.SOURCE:
        pictures = [str(path) for path in _files(root, gqa.SOURCE, gqa.PICTURES, ())]
        config["doc_to_visual"] = _Function(f"{_HERE}.gqa_picture")
        told = {"pre_prompt": "", "post_prompt": SHORT, _PICTURES: pictures}
        config["lmms_eval_specific_kwargs"] = {"default": told}
    return config


def _files(root: Path, source: Source, part: Part, instead: Sequence[Part]) -> list[Path]:
    base = folder_of(root, source)
    for parts in ([part], instead):
        found = [files_of(base, one) for one in parts]
        if found and all(found):
            return [path.absolute() for files in found for path in files]
    raise absent(root, source, base / part.folders[0])


def _own_tasks() -> Path:
    """Where lmms-eval keeps its tasks; the package is not imported, which takes many seconds."""
    found = importlib.util.find_spec("lmms_eval")
    if found is None or not found.submodule_search_locations:
        raise UnavailableError("package", "lmms-eval is not installed: pip install 'eupe-eval[lmms]'.")
    return Path(found.submodule_search_locations[0]) / "tasks"


def with_pictures(rows: Any) -> Any:
    """Rows whose pictures are pictures: files without the hub's own schema say only that they are structs."""
    from datasets import Image as Picture

    return rows.cast_column(IMAGE, Picture())


def only_shown(rows: Any) -> Any:
    """The same, of the rows that have a picture."""
    from datasets import Image as Picture

    held = rows.cast_column(IMAGE, Picture(decode=False))[IMAGE]
    return with_pictures(rows.select([at for at, one in enumerate(held) if one is not None and one["bytes"]]))


def gqa_picture(row: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Image.Image]:
    """The picture of a question of GQA, from the table that the task file names."""
    place = _places(tuple(settings[_PICTURES]))[str(row["imageId"])]
    with Image.open(io.BytesIO(picture_at(place))) as image:
        return [image.convert("RGB")]


@lru_cache(maxsize=1)
def _places(files: tuple[str, ...]) -> dict[str, Place]:
    """Where each picture of GQA lies."""
    found = lines([Path(path) for path in files], {"id": KEY}, stop)
    return {str(line.row["id"]): line.place for line in found if line.place is not None}


def main(given: Sequence[str] | None = None) -> None:
    """Write task files with which lmms-eval asks the sets of a folder, for its option --include_path."""
    parser = argparse.ArgumentParser(prog=f"python -m {_HERE}", description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder of the six sets, or hub:lmms-lab for the hub's")
    parser.add_argument("folder", type=Path, help="where the task files go")
    options = parser.parse_args(given)
    try:
        names, lacking = write_tasks(options.data, options.folder)
    except EvalError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    sys.stderr.writelines(f"left out: {absence}\n" for absence in lacking)
    sys.stdout.write(f"{','.join(names)}\n")


if __name__ == "__main__":
    main()
