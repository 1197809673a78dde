"""Who evaluates what: one claim at a time on a candidate, also between machines that share nothing but a folder.

A claim is a folder `<identity>.claim` that holds one empty file. The file is named after its owner by a token that is
never used again; its time of change is the owner's heartbeat. Two renames do everything, and both are atomic on every
file system, NFS included, where file locks are not to be trusted:

* to claim, a folder with the token inside is made aside and renamed to `<identity>.claim`: that fails while another
  one with a token in it is there, and succeeds over the empty one that a crash may leave;
* to take over a claim whose heartbeat is old, its token is refreshed, then renamed to one's own. Tokens are unique, so
  of many that saw the same old token exactly one can rename it, and nobody can hit a claim that was made since.

All times are those of the file server; the clocks of the machines do not matter.
"""

import contextlib
import errno
import os
import secrets
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from evals.errors import ResultsError

_BEATS = 10
"""Heartbeats within the time after which a claim is stale."""
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


class Claim:
    """A claim that is held until it is released; as a context, it beats."""

    def __init__(self, file: Path, stale: float) -> None:
        self._file, self._period = file, stale / _BEATS
        self._lost, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat of {file.name}", daemon=True)

    def holds(self) -> bool:
        """Nobody has taken it over, as far as the last heartbeat saw."""
        return not self._lost.is_set()

    def __enter__(self) -> "Claim":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        _drop(self._file)

    def _beat(self) -> None:
        while not self._over.wait(self._period):
            try:
                os.utime(self._file)
            except FileNotFoundError:
                self._lost.set()
                return
            except OSError:
                continue  # the file server is away: either it comes back in time, or the claim will be found gone


def take(place: Path, stale: float, now: Callable[[], float]) -> Claim | None:
    """Claim `place` (`.../<identity>.claim`); None while another one's claim has a heartbeat within `stale` seconds.

    `now` is the time of the file server. Raises ResultsError where the folder cannot be written.
    """
    token = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(6)}"
    try:
        held = owner(place)
        mine = _enter(place, token) if held is None else _inherit(place / held, token, stale, now)
    except OSError as error:
        raise ResultsError(f"cannot claim {place}: {error.strerror or error}. It must be a folder of yours.") from error
    return Claim(place / token, stale) if mine else None


def owner(place: Path) -> str | None:
    """`<host>-<process>-<random>` of the one who holds the claim; None where nobody does."""
    try:
        return next((file.name for file in place.iterdir()), None)
    except FileNotFoundError:
        return None


def beating(place: Path, stale: float, now: float) -> str | None:
    """The owner, if the claim has a heartbeat within `stale` seconds before `now`."""
    held = owner(place)
    if held is None:
        return None
    try:
        return held if now - (place / held).stat().st_mtime < stale else None
    except FileNotFoundError:
        return None


def _enter(place: Path, token: str) -> bool:
    aside = place.with_name(f".{place.name}.{token}.tmp")
    aside.mkdir(parents=True)
    (aside / token).touch()
    try:
        aside.rename(place)
    except OSError as error:
        if (place / token).exists():
            return True  # NFS may do a rename, lose the answer, and fail to do it again
        shutil.rmtree(aside, ignore_errors=True)
        if error.errno not in _TAKEN:
            raise
        return False
    return True


def _inherit(file: Path, token: str, stale: float, now: Callable[[], float]) -> bool:
    try:
        if now() - file.stat().st_mtime < stale:
            return False
        # Before the rename: the claim must be fresh from the moment that it has a new owner.
        os.utime(file)
        file.rename(file.with_name(token))
    except FileNotFoundError:
        return file.with_name(token).exists()
    return True


def _drop(file: Path) -> None:
    """Release. A claim that somebody took over is no longer ours to remove."""
    with contextlib.suppress(OSError):
        file.unlink()
        file.parent.rmdir()
