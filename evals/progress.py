"""Progress on stderr: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from evals import show
from evals.context import Bar


def bar(title: str, total: int) -> AbstractContextManager[Bar]:
    """A bar on a terminal; on anything else a line now and then."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        shown: AbstractContextManager[Bar] = tqdm(total=total, desc=title, unit="", dynamic_ncols=True, leave=False)
        return shown
    return _Lines(title, total)


class _Lines:
    """Progress for logs: a line every half minute, none for what is quickly done."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self._done = title, total, 0
        self._started = self._last = time.monotonic()

    def __enter__(self) -> "_Lines":
        return self

    def update(self, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._last > 30:
            self._last = now
            print(f"{self.title}: {self._done}/{self.total}", file=sys.stderr, flush=True)

    def __exit__(self, kind: object, *rest: object) -> None:
        elapsed = time.monotonic() - self._started
        if kind is None and elapsed > 10:
            end = "done in" if self._done >= self.total else f"stopped at {self._done}/{self.total} after"
            print(f"{self.title}: {end} {show.duration(elapsed)}", file=sys.stderr, flush=True)


def follow(progress: Bar) -> Callable[[int, int], None]:
    """The renderer says (done, total); a bar wants steps."""
    seen = [0]

    def advance(done: int, total: int) -> None:
        progress.total = total  # type: ignore[attr-defined]
        progress.update(done - seen[0])
        seen[0] = done

    return advance
