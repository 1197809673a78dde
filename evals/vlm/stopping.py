"""Signals that ask a training to save and end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What schedulers send before they end a job."""


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Inside, these signals do nothing but make the function that is given true, so that the step at hand is saved.

    Outside again, a signal that came takes its usual way. To be used in the main thread.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda told, frame: came.append(told)) for number in SIGNALS}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
