"""The conformance battery of encoders: what an adapter must do, tried on the encoder at hand."""

from collections.abc import Sequence

import torch

from evals.context import BarFactory, silent_bar
from evals.doctor import conduct, images, outputs, places, text
from evals.doctor.check import Check, Trial
from evals.doctor.subject import admit
from evals.types import Encoder

BATTERY: Sequence[Trial] = (
    *images.TRIALS,
    *places.TRIALS,
    *outputs.TRIALS,
    *conduct.TRIALS,
    *text.TRIALS,
)
"""Every trial, in the order of the card."""


def examine(encoder: Encoder, device: torch.device, *, bar: BarFactory = silent_bar) -> list[Check]:
    """Put an encoder through the battery: one check a trial, in the order of the card.

    The encoder is brought to the device; nothing else of it changes unless it is at fault. Images are small (3 x 5
    patches) but for the native size. Raises UnavailableError where its first pass does.
    """
    subject = admit(encoder, device)
    checks = []
    with bar(f"doctor: {encoder.card.name}", len(BATTERY)) as progress:
        for trial in BATTERY:
            checks.append(trial.of(subject))
            progress.update()
    return checks
