"""One function on many items, in this process or in several."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_CHUNK = 64


def mapped(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """The results in the order of the items; 0 workers: in this process."""
    if not workers:
        yield from map(function, items)
        return
    # Fresh processes: forking one that runs threads can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, items, chunksize=_CHUNK)
