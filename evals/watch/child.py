"""One evaluation as a process of its own: its output in a log, an end when it takes too long or nobody waits for it."""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from evals.errors import ResultsError

_GRACE = 20.0
"""Seconds between asking a process to end and ending it."""
_TAIL_LINES, _TAIL_CHARACTERS = 3, 600
_OURS = "EUPE_EVAL_WEIGHTS"
"""The setting that is not the user's here: every candidate has its own weights."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended."""

    code: int | None
    """As `subprocess` says it, negative for a signal; None: it was ended, because time was up or it was not wanted."""
    said: str
    """The last lines that it printed."""


def run(words: Sequence[str], log: Path, timeout: float | None, wanted: Callable[[], bool]) -> Ended:
    """Run a command to its end, or until `timeout` seconds have passed or it is no longer `wanted`.

    What it prints is appended to `log`. It is ended when this function is left by an exception, such as Ctrl-C. Raises
    ResultsError where the log cannot be written or the command not be started.
    """
    environment = {key: value for key, value in os.environ.items() if key != _OURS}
    try:
        with log.open("ab") as out:
            out.write(f"=== {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {shlex.join(words)}\n".encode())
            out.flush()
            start = out.tell()
            # A session of its own: Ctrl-C at the terminal is for the watcher, which ends the child itself.
            child = subprocess.Popen(  # noqa: S603 - ours, as a list
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        raise ResultsError(f"cannot start {words[0]} with its output in {log}: {error.strerror or error}.") from error
    try:
        code = _wait(child, timeout, wanted)
    finally:
        _end(child)
    return Ended(code, _said(log, start))


def _wait(child: "subprocess.Popen[bytes]", timeout: float | None, wanted: Callable[[], bool]) -> int | None:
    started = time.monotonic()
    while wanted() and (timeout is None or time.monotonic() - started < timeout):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=0.2)
    return None


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End a process that still runs: gently, then with everything that it has started."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _said(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - 100 * _TAIL_CHARACTERS))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_TAIL_LINES:])[-_TAIL_CHARACTERS:]
