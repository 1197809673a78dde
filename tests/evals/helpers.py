"""Running the command line as a user does, and reading records without what may differ between runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SHORT_HEADS = [
    f"--override={override}"
    for override in (
        *("ade20k-linear.steps=6", "ade20k-linear.evaluate_every=2", "ade20k-linear.warmup=2"),
        *("ade20k-linear.crop=64", "ade20k-linear.stride=42", "ade20k-linear.batch=4"),
        *("nyuv2-linear.steps=6", "nyuv2-linear.warmup=2", "nyuv2-linear.batch=4"),
    )
]
"""Head training that fits the six training images of the tiny world."""
_TIMES = ("created", "cost", "environment")


def command(*words: str) -> list[str]:
    """The command line in this interpreter."""
    return [sys.executable, "-m", "evals", *words]


def environment(folder: Path) -> dict[str, str]:
    """Cache and results below a folder, one thread, no network."""
    ours = {"EUPE_EVAL_CACHE": str(folder / "cache"), "EUPE_EVAL_RESULTS": str(folder / "results")}
    return {**os.environ, **ours, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def call(*words: str, folder: Path, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, from another folder than the checkout."""
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def records(results: Path) -> dict[str, dict[str, Any]]:
    """Every record by its path, without times: what two runs must agree on to the last digit."""
    found = {}
    for path in sorted(results.rglob("*@*.json")):
        raw = json.loads(path.read_text())
        kept = {key: value for key, value in raw.items() if key not in _TIMES}
        kept["metrics"] = [metric for metric in raw["metrics"] if metric["unit"] != "ms"]
        if raw["task"]["name"] == "cost":
            kept = {key: value for key, value in kept.items() if key not in ("notes", "artifacts")}
        found[path.relative_to(results).as_posix()] = kept
    return found
