"""One of several that want the same claims at the same moments: `python racer.py FOLDER COUNT`; says which it got."""

import sys
import time
from pathlib import Path

from evals.watch.claim import take

if __name__ == "__main__":
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    print("ready", flush=True)
    started, got = float(sys.stdin.readline()), []
    for at in range(count):
        while time.time() < started + 0.004 * at:
            pass
        if take(folder / f"{at}.claim", 60, time.time):
            got.append(at)
    print(*got)
