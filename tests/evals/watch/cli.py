"""The command line with the stand-in in place of evaluations: `python cli.py watch DIR ...`."""

import sys
from functools import partial
from pathlib import Path

from evals.__main__ import main
from evals.watch import command
from evals.watch.watch import Watcher

if __name__ == "__main__":
    stub = [sys.executable, str(Path(__file__).with_name("stub.py"))]
    command.Watcher = partial(Watcher, command=stub)
    main()
