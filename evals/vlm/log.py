"""The log of a training: one JSON line a step."""

import json
from collections.abc import Mapping
from pathlib import Path

from evals.files import write_atomic

FILE = "log.jsonl"


def append(folder: Path, line: Mapping[str, float]) -> None:
    """Add a line; it is whole or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("ab", buffering=0) as file:
        file.write(json.dumps(dict(line)).encode() + b"\n")


def read(folder: Path) -> list[dict[str, float]]:
    """The lines, one a step; one that was cut short is left out."""
    path, lines = folder / FILE, []
    for text in path.read_text().splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def cut(folder: Path, steps: int) -> None:
    """Forget what comes after so many steps: those are taken again. Raises ResultsError where it cannot be written."""
    kept = [line for line in read(folder) if line["step"] < steps]
    write_atomic(folder / FILE, "".join(json.dumps(line) + "\n" for line in kept).encode())
