"""Stands in for `eupe-eval` in tests of the schedule: notes how it was called, and does what a file beside it says."""

import json
import sys
import time
from pathlib import Path


def main(words: list[str]) -> int:
    """`watch EXPORTS ... --once`."""
    run = Path(words[1]).parent
    notes = json.loads((run.parent / "notes.json").read_text())
    with (run / "calls.jsonl").open("a") as file:
        file.write(json.dumps({"words": words, "there": sorted(path.name for path in Path(words[1]).iterdir())}) + "\n")
    if "--status" in words:
        print(notes.get("refusal", ""), file=sys.stderr)
        return 2 if "refusal" in notes else 0
    print("scoring")
    time.sleep(notes.get("sleep", 0))
    return int(notes.get("exit", 0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
