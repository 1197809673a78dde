"""What a run tells while it runs: one JSON line every so many steps, and TensorBoard or wandb where they are wanted."""

import hashlib
import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.errors import UnavailableError

FILE = "log.jsonl"
Writer = Callable[[int, Mapping[str, float]], object]


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


def _writer(extra: str, folder: Path, name: str) -> Writer:
    module = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}[extra]
    try:
        library: Any = importlib.import_module(module)
    except ImportError as error:
        raise UnavailableError("package", f"logging to {extra} needs it: pip install {extra} ({error})") from error
    if extra == "tensorboard":
        board = library.SummaryWriter(str(folder / "tensorboard"))

        def write(step: int, numbers: Mapping[str, float]) -> None:
            for key, value in numbers.items():
                board.add_scalar(key, value, step)
            # A line is whole when it is written; so is this.
            board.flush()

        return write
    # The same id for the same folder: what goes on is one run there too.
    identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    run = library.init(project="eupe", name=name, id=identity, dir=str(folder), resume="allow")
    return lambda step, numbers: run.log(dict(numbers), step=step)
