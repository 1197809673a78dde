"""What the proxy kept of its experts, measured before anything learns from it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eupe.gate import RETENTION
from eupe.miniature import skills
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.files import DigestMemo, write_atomic


def measure_retention(root: Path, experts: Mapping[str, Path], proxy: Path, tell: Callable[[str], None]) -> Path:
    """What the proxy kept of each skill, measured once and written beside its export."""
    path = proxy.parent / RETENTION
    if path.is_file():
        return path
    scores = {name: skills_of(folder, root) for name, folder in {**experts, "proxy": proxy}.items()}
    best = {skill: max((scores[name][skill], name) for name in experts) for skill in scores["proxy"]}
    kept: dict[str, dict[str, Any]] = {
        skill: {"expert": score, "by": name, "proxy": scores["proxy"][skill], "kept": scores["proxy"][skill] / score}
        for skill, (score, name) in best.items()
    }
    write_atomic(path, json.dumps(kept, indent=1).encode())
    tell(retention_table(kept))
    return path


def retention_table(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The measurement in lines."""
    lines = [f"{'skill':<12}{'best expert':>22}{'proxy':>8}{'kept':>8}"]
    for skill, row in kept.items():
        expert = f"{row['expert']:.3f} ({row['by']})"
        lines.append(f"{skill:<12}{expert:>22}{row['proxy']:>8.3f}{row['kept']:>8.1%}")
    return "\n".join(lines)


def skills_of(export: Path, root: Path) -> dict[str, float]:
    """The skills of an export, on pictures of the lessons that nothing learnt from."""
    encoder = load(resolve(str(export)), DigestMemo(None))
    return skills.measure(skills.look_of(encoder), root)
