"""Checkpoints of work that can be resumed: whole, of the same work, or absent."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from evals.context import Context
from evals.datasets.base import Split
from evals.device import versions
from evals.files import write_atomic
from evals.types import Encoder

_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One file, valid for one piece of work."""

    path: Path
    work: str
    """Everything that the work depends on; a checkpoint of other work counts as absent."""

    def save(self, state: dict[str, Any]) -> None:
        """Write the state (tensors and plain values) whole or not at all. Raises ResultsError."""
        buffer = io.BytesIO()
        torch.save({"work": self.work, "state": state}, buffer)
        payload = buffer.getvalue()
        write_atomic(self.path, hashlib.sha256(payload).digest() + payload)

    def load(self) -> dict[str, Any] | None:
        """The state on the CPU; None when the file is absent, damaged, or of other work."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            return None
        stored: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        return stored["state"] if stored["work"] == self.work else None


def work_key(params: Mapping[str, Any], encoder: Encoder, splits: Sequence[Split], context: Context) -> str:
    """What a benchmark's numbers depend on: constants, weights, data, seed, kind of device and library versions."""
    return json.dumps(
        {
            "params": dict(params),
            "encoder": [encoder.card.source, encoder.card.model, encoder.card.weights_sha256],
            "spec": asdict(encoder.spec),
            "data": [split.fingerprint for split in splits],
            "seed": context.seed,
            "device": context.device.split(":")[0],
            "versions": versions(),
        },
        sort_keys=True,
        default=str,
    )
