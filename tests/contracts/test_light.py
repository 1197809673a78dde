"""Commands that compute nothing import nothing heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "timm", "torchvision", "faiss", "open_clip")


def heavy_after(*words: str, cwd: Path) -> tuple[int, str, list[str]]:
    """Run the command line in a new interpreter: exit code, output, and the heavy modules it loaded."""
    code = (
        "import sys\nfrom evals.__main__ import main\nsys.argv = ['eupe-eval', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    status = end.code or 0\nelse:\n    status = 0\n"
        f"print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\nsys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    heavy = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith("HEAVY")]
    assert heavy, done.stderr
    return done.returncode, done.stdout + done.stderr, heavy[-1]


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["list", "encoders"],
        ["list", "benchmarks"],
        ["list", "suites"],
        ["info", "ade20k-linear"],
        ["new-encoder", "mine"],
        ["status"],
        ["leaderboard"],
        ["cache", "stats"],
    ],
    ids=" ".join,
)
def test_light_verbs(words: list[str], tmp_path: Path) -> None:
    """Help, lists, templates, status, tables and the cache load neither torch nor timm."""
    status, output, heavy = heavy_after(*words, cwd=tmp_path)
    assert status == 0, output
    assert heavy == []
