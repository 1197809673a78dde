"""Writes the fingerprints of encoders, and prints what each costs.

python tests/golden/make.py             those that are missing
python tests/golden/make.py NAME ...    these, whether there or not
python tests/golden/make.py --all       all of them: only after a change that is meant to move features
"""

import argparse
import sys
import time
import types
from pathlib import Path

import torch

# Other packages install a `tests` of their own, which would be found instead of this folder.
sys.modules["tests"] = types.ModuleType("tests")
sys.modules["tests"].__path__ = [str(Path(__file__).resolve().parents[1])]

from tests.golden import fingerprint  # noqa: E402


def main() -> None:
    """Write what is asked for, and print the seconds of one core for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    if odd := set(arguments.names) - set(fingerprint.names()):
        parser.error(f"no entry: {', '.join(sorted(odd))}")
    torch.set_num_threads(1)
    kept = fingerprint.stored()
    wanted = arguments.names or [name for name in fingerprint.names() if arguments.all or name not in kept]
    for name in wanted:
        started = time.process_time()
        fingerprint.write(name, fingerprint.compute(name))
        print(f"{name:32} {time.process_time() - started:6.2f} s", flush=True)
    print(f"{len(wanted)} written, {time.process_time():.1f} s in all")


if __name__ == "__main__":
    main()
