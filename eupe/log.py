"""What a run tells while it runs: one JSON line every so many steps, and TensorBoard or wandb where they are wanted."""

import importlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.errors import UnavailableError

FILE = "log.jsonl"


class Log:
    """Lines of numbers by name."""

    def __init__(self, folder: Path, name: str, extras: Sequence[str] = ()) -> None:
        """`extras`: `tensorboard`, `wandb`. Raises UnavailableError for one that is not installed."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        self._writers = [_writer(extra, folder, name) for extra in extras]

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append a line; it is whole or not there."""
        line = json.dumps({"step": step, "time": round(time.time(), 3), **numbers}) + "\n"
        with self._path.open("ab", buffering=0) as file:
            file.write(line.encode())
        for writer in self._writers:
            writer(step, numbers)


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of a log that are whole; of a step that was run twice (after a kill) the last."""
    path = folder / FILE
    lines: dict[int, dict[str, Any]] = {}
    for text in path.read_text().splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        lines[int(line["step"])] = line
    return [lines[step] for step in sorted(lines)]


def _writer(extra: str, folder: Path, name: str) -> Any:
    try:
        if extra == "tensorboard":
            board = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder / "tensorboard"))
            return lambda step, numbers: [board.add_scalar(key, value, step) for key, value in numbers.items()]
        wandb: Any = importlib.import_module("wandb")
    except ImportError as error:
        raise UnavailableError("package", f"logging to {extra} needs it: pip install {extra} ({error})") from error
    run = wandb.init(project="eupe", name=name, dir=str(folder), resume="allow")
    return lambda step, numbers: run.log(dict(numbers), step=step)
