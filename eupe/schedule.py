"""Exports while a stage trains, and their scores: what `eupe-eval watch` does, started by the training.

Scores are made by a process of its own, `eupe-eval watch --once`, one at a time; a failure in there is told and kept in
its log, and never reaches the training. Only exporting itself is waited for by the other processes.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from eupe import export
from eupe.config import ScheduleConfig
from eupe.processes import Stop, World
from eupe.train import Run, export_student
from evals.errors import ResultsError, UsageError

COMMAND = (sys.executable, "-m", "evals")
LOG = "evaluations.log"
"""In the folder of the run: all that the evaluations print."""
_GRACE = 30.0
"""Seconds that an evaluation has to free what it holds before it is ended."""
_CODES = {1: "something failed", 2: "the settings do not hold", 3: "a score regressed"}
Tell = Callable[[str], None]


class Scores:
    """The evaluations of one run: at most one at a time, each of everything that is new."""

    def __init__(
        self, config: ScheduleConfig, folder: Path, tell: Tell, stop: Stop, command: Sequence[str] = COMMAND
    ) -> None:
        """`folder`: of the run. Without `watch` in the configuration nothing is ever scored."""
        self._config, self._folder, self._tell, self._stop = config, folder, tell, stop
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False

    def check(self, world: World) -> None:
        """Raises UsageError for settings that `eupe-eval watch` refuses, and for waiting while others compute."""
        if self._config.watch is None:
            return
        if not self._config.background and world.ranks > 1:
            raise UsageError(
                f"schedule.background=false makes {world.ranks - 1} other processes wait for each evaluation; leave it "
                "out, or train in one process."
            )
        if world.first:
            words = [*self._words(self._config.watch), "--status"]
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603 - ours, as a list
            if done.returncode:
                raise UsageError(f"schedule.watch: {done.stderr.strip() or done.stdout.strip()}")

    def ask(self) -> None:
        """Score what is new: now, or after what is being scored."""
        self._wanted = self._config.watch is not None
        self.look()
        if not self._config.background:
            self.wait()

    def look(self) -> None:
        """Take in how an evaluation ended, and start the next one."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            self._ended(code)
        if self._process is None and self._wanted and self._config.watch is not None:
            self._wanted = False
            self._start([*self._words(self._config.watch), "--once"])

    def wait(self) -> bool:
        """Until everything is scored, or the run is asked to stop; whether it was the former."""
        while (busy := self._process is not None or self._wanted) and not self._stop.asked:
            time.sleep(0.1)
            self.look()
        return not busy

    def close(self) -> None:
        """End an evaluation that still runs; what it was at is free for another."""
        process, self._process, self._wanted = self._process, None, False
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _words(self, watch: Mapping[str, Any]) -> list[str]:
        exports = self._folder / export.FOLDER
        exports.mkdir(parents=True, exist_ok=True)
        # An export is renamed into place when it is whole: there is nothing to let settle.
        options = {"results": str(self._folder / "results"), "settle": 0, **_given(watch)}
        return [*self._command, "watch", str(exports), *(word for item in options.items() for word in _option(*item))]

    def _start(self, words: Sequence[str]) -> None:
        try:
            with (self._folder / LOG).open("ab") as log:
                # A session of its own: Ctrl-C at the terminal is for the training, which ends it itself.
                self._process = subprocess.Popen(  # noqa: S603 - ours, as a list
                    words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
        except OSError as error:
            self._tell(f"exports cannot be scored: {error}. The training goes on.")

    def _ended(self, code: int) -> None:
        path = self._folder / LOG
        if code:
            self._tell(f"exports of {self._folder}: {_CODES.get(code, f'exit code {code}')}; see {path}.")
        try:
            with path.open("a") as log:
                log.write(f"=== {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} ended with exit code {code}\n")
        except OSError as error:
            self._tell(f"{path} cannot be written: {error}")


def after_step(run: Run, scores: Scores, tell: Tell) -> None:
    """Export every student where the schedule says so, and look after the scores. Every process must call it.

    An export that cannot be written is told: the training goes on, and its checkpoints are what matters.
    """
    every = run.stage.schedule.every
    if every and run.done % every == 0 and run.done < run.stage.rate.steps:
        try:
            export_missing(run, scores)
        except ResultsError as error:
            tell(f"after {run.done} steps: {error}")
    if run.world.first:
        scores.look()


def export_missing(run: Run, scores: Scores) -> list[Path]:
    """Export every student as it is now, where that is not there yet, and have it scored; where they lie.

    Every process must call it. Raises as `export.write` does.
    """
    folders = {name: export.place(run.folder, name, run.done, run.stage.rate.steps) for name in run.pupils}
    for name, folder in folders.items():
        if not _first_says(run.world, folder.exists()):
            export_student(run, name, folder)
    if run.world.first:
        scores.ask()
    return list(folders.values())


def _first_says(world: World, answer: bool) -> bool:
    """The answer of the first process, for all: a look at a folder that it is about to write must not differ."""
    if world.ranks == 1:
        return answer
    said = torch.tensor(int(answer))
    distributed.broadcast(said, 0)
    return bool(said)


def _given(watch: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in watch.items() if value is not None and value != []}


def _option(key: str, value: Any) -> list[str]:
    """Words of the command line; of a list one option for each."""
    if isinstance(value, bool):
        return [f"--{key}"] if value else []
    return [f"--{key}={each}" for each in (value if isinstance(value, list | tuple) else [value])]
