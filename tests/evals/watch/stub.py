"""Stands in for the command line in tests: notes that it was called, does what the manifest's training notes say."""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

from evals.files import sha256_file
from evals.record import EncoderCard, Interval, Record, Score, Task, record_path, write_record


def main(words: list[str]) -> int:
    """`run --encoder PATH --suite SUITE ... --results FOLDER`, or `--encoder NAME --weights FILE`."""
    options = dict(itertools.pairwise(words))
    suite, results = options["--suite"], Path(options["--results"])
    weights = Path(options["--weights"]) if "--weights" in options else Path(options["--encoder"]) / "export.json"
    made = json.loads(weights.read_text()) if weights.suffix == ".json" else {"name": options["--encoder"]}
    notes = made.get("training", {})
    called = os.open(results / "calls.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(called, f"{options['--encoder'].rsplit('/', 1)[-1]} {suite} {os.getpid()}\n".encode())
    os.close(called)
    print("words:", *words, "weights setting:", os.environ.get("EUPE_EVAL_WEIGHTS"))
    time.sleep(notes.get("sleep", 0))
    if "touch" in notes:
        Path(notes["touch"]).write_text("changed")
    if notes.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    for benchmark, value in notes.get("scores", {}).get(suite, {}).items():
        write(results, made["name"], sha256_file(weights), benchmark, value, notes)
    code = int(notes.get(f"exit_{suite}", notes.get("exit", 0)))
    if code:
        print("it broke\n")
    return code


def write(results: Path, name: str, identity: str, benchmark: str, value: float, notes: dict[str, object]) -> None:
    """A record."""
    card = EncoderCard(name, "export", "x", "export.json", identity, "MIT", 16, 64, "cls", text=False)
    standard = bool(notes.get("standard", True))
    task = Task(benchmark, 1, "miniature", {}, {} if standard else {"limit": 5})
    half = notes.get("interval")
    ci = (
        Interval(value - half, value + half, 0.95, "bootstrap", 100, "image") if isinstance(half, int | float) else None
    )
    lower = benchmark == "nyuv2-linear"
    score = Score("rmse" if lower else "top1", value, "m" if lower else "percent", not lower, primary=True, ci=ci)
    status = "error" if notes.get("failed") else "success"
    record = Record(status, "2026-01-01T00:00:00Z", card, task, standard, metrics=(score,))
    write_record(record_path(results, card, task, standard), record)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
