"""The verdict card: who was examined, one line a check, and what a failure does and how to mend it."""

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evals.doctor.check import Check
from evals.doctor.visit import Visit
from evals.record import EncoderCard

_WIDTH = 118
_MARKS = {"pass": "pass", "fail": "FAIL", "note": "note", "skip": "skip"}
_DIGITS = 12
"""Of a digest."""


def as_text(visit: Visit) -> str:
    """The card for people."""
    column = max(len(check.name) for check in visit.checks)
    lines, before = [*_header(visit.card, visit.device), ""], ""
    for check in visit.checks:
        measured = "likewise" if check.measured == before else check.measured
        limit = "" if check.verdict == "skip" else f" [limit: {check.limit}]"
        lines += _line(_MARKS[check.verdict], check.name.ljust(column), measured + limit)
        if check.verdict == "fail":
            told = (("pitfall", check.pitfall), ("effect", check.effect), ("mend", check.mend))
            lines += [line for what, text in told for line in _line("    ", f"  {what}:".ljust(column), text)]
        before = check.measured
    return "\n".join([*lines, "", _sum(visit.checks)])


def as_values(visit: Visit) -> Mapping[str, Any]:
    """The card for programs."""
    counts = Counter(check.verdict for check in visit.checks)
    return {
        "encoder": dataclasses.asdict(visit.card),
        "device": visit.device,
        "checks": [dataclasses.asdict(check) for check in visit.checks],
        "passed": counts["pass"],
        "failed": counts["fail"],
    }


def _header(card: EncoderCard, device: str) -> list[str]:
    trained = ", never trained" if card.random else ""
    rows = {
        "encoder": f"{card.name} ({card.source}: {card.model})",
        "weights": f"{card.weights}{trained}, sha256 {card.weights_sha256[:_DIGITS]}",
        "licence": card.licence + (" (gated)" if card.gated else ""),
        "size": f"{(card.params or 0) / 1e6:.1f} M parameters, {card.dim} channels, {card.depth} layers",
        "images": f"patches of {card.patch} px, {card.size} px native",
        "global": "none (no cls)" if card.global_feature == "none" else card.global_feature,
        **{key: str(value) for key, value in card.structure.items()},
        "text": "yes" if card.text else "none (no txt)",
        "device": device,
    }
    width = max(map(len, rows))
    return [f"{key.ljust(width)}  {value}" for key, value in rows.items()]


def _line(mark: str, head: str, text: str) -> list[str]:
    start = f"{mark}  {head}  "
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False)


def _sum(checks: Sequence[Check]) -> str:
    counts = Counter(check.verdict for check in checks)
    return f"{counts['pass']} passed, {counts['fail']} failed ({counts['note']} noted, {counts['skip']} skipped)"
