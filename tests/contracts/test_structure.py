"""The rules of the code base, counted from its sources."""

import ast
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for package in ("evals", "leaderboard", "eupe") for path in (ROOT / package).rglob("*.py"))
MODULE_LINES, FUNCTION_LINES = 300, 60


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_sizes(path: Path) -> None:
    """A module is one job, a function one thought."""
    text = path.read_text()
    assert len(text.splitlines()) <= MODULE_LINES
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno >= FUNCTION_LINES}
    assert long == {}


def test_suites_name_benchmarks_that_exist() -> None:
    """Suites are lists of benchmark ids, and `all` has every one."""
    from evals.benchmarks import base

    suites = {path.stem: yaml.safe_load(path.read_text())["benchmarks"] for path in (ROOT / "configs/suite").glob("*")}
    assert {name for members in suites.values() for name in members} <= set(base.names())
    assert sorted(suites["all"]) == base.names()
    assert suites["quick"] == ["in1k-knn", "spair-pck", "cost"]


def test_nothing_names_a_machine() -> None:
    """No path of a machine stands in a tracked file."""
    command = ["git", "grep", "-nIE", r"(^|[^A-Za-z0-9_.~-])/(home|Users|work|opt|root)/[a-z]", "--", ":!*.lock"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert found == "", found
