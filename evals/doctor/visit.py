"""From an entry to its verdict card: weights, a warning of what is large, the battery."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evals.context import BarFactory
from evals.device import exact_arithmetic, resolve_device
from evals.doctor.battery import examine
from evals.doctor.check import Check
from evals.encoders.entry import EncoderEntry
from evals.encoders.load import blueprint, load
from evals.encoders.locate import fetch, weights_file
from evals.errors import UnavailableError
from evals.files import DigestMemo
from evals.record import EncoderCard

_LARGE = 1_000_000_000
_BYTES = 4
"""Of a parameter in fp32."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What the verdict card tells."""

    card: EncoderCard
    device: str
    checks: Sequence[Check]

    @property
    def failed(self) -> bool:
        """Whether anything did."""
        return any(check.verdict == "fail" for check in self.checks)


def visit(
    entry: EncoderEntry, device: str, digests: DigestMemo, *, bar: BarFactory, say: Callable[[str], None]
) -> Visit:
    """Load the encoder of an entry and put it through the battery; `say` hears of a large one before it is loaded.

    Weights of the hub that are not here are fetched. Raises as `load` does, UsageError for a device that is not here.
    """
    exact_arithmetic()
    where = resolve_device(device)
    _obtain(entry)
    count = sum(parameter.numel() for parameter in blueprint(entry).parameters())
    if count > _LARGE:
        say(
            f"{entry.name} has {count / 1e9:.1f} billion parameters: {count * _BYTES / 1e9:.0f} GB in fp32. "
            "On a CPU, expect minutes."
        )
    encoder = load(entry, digests)
    digests.save()
    return Visit(encoder.card, str(where), examine(encoder, where, bar=bar))


def _obtain(entry: EncoderEntry) -> None:
    """Get the weights. Raises UnavailableError saying where they are to be had, if they cannot be."""
    try:
        weights_file(entry)
    except UnavailableError:
        with contextlib.suppress(UnavailableError):
            fetch(entry)
        weights_file(entry)
