"""The parts of the README that follow from the code: the tree of files and the constants of the protocols.

python tests/contracts/readme.py     writes them
"""

import ast
import dataclasses
import re
import subprocess
from pathlib import Path

from evals.benchmarks import base

ROOT = Path(__file__).resolve().parents[2]
_SHARED = {f.name for f in dataclasses.fields(base.Benchmark)}


def generate(readme: str) -> str:
    """The README with its generated parts as they must be."""
    for name, part in (("tree", tree()), ("constants", constants())):
        mark = f"<!-- {name} -->"
        before, _, after = readme.split(mark)
        readme = f"{before}{mark}\n{part}\n{mark}{after}"
    return readme


def tree() -> str:
    """Every tracked source and configuration file with the first sentence of its docstring or comment."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    command += ["evals", "leaderboard", "eupe", "configs"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    lines, seen = ["```"], set()
    # Files of a folder before its folders.
    for path in sorted(filter(_shown, listed), key=lambda path: [("." not in p, p) for p in path.split("/")]):
        parts = path.split("/")
        for depth in range(len(parts) - 1):
            folder = "/".join(parts[: depth + 1])
            if folder not in seen:
                seen.add(folder)
                lines.append(f"{'  ' * depth}{parts[depth]}/")
        label = "  " * (len(parts) - 1) + parts[-1]
        lines.append(f"{label.ljust(30)}  {_sentence(ROOT / path)}".rstrip())
    return "\n".join([*lines, "```"])


def constants() -> str:
    """One table a benchmark: constants that differ between protocols or define it."""
    blocks = []
    for name in base.names():
        kind = base.find(name)
        protocols = list(kind.protocols)
        made = [kind.of(protocol)[1] for protocol in protocols]
        rows = [f"| `{name}` | " + " | ".join(f"`{p}`" for p in protocols) + " |", "|---" * (len(protocols) + 1) + "|"]
        for item in dataclasses.fields(kind):
            if item.name not in _SHARED:
                values = " | ".join(_cell(getattr(one, item.name)) for one in made)
                rows.append(f"| {item.name} | {values} |")
        blocks.append("\n".join(rows))
    return "\n\n".join(["", *blocks, ""])


def _shown(path: str) -> bool:
    many = ("encoder", "family", "suite", "recipe", "student", "teacher")
    in_many = path.startswith(tuple(f"configs/{folder}/" for folder in many))
    return path.endswith((".py", ".yaml")) and not path.endswith("__init__.py") and not in_many


def _sentence(path: Path) -> str:
    """First sentence of the module docstring, or of the comment that a YAML file starts with."""
    text = path.read_text()
    if path.suffix == ".yaml":
        comments = (line.removeprefix("#") for line in text.splitlines() if line.startswith("#"))
        first = next(line for line in comments if "@package" not in line)
    else:
        first = " ".join((ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0].split())
    return re.split(r"\.\s+(?=[A-Z])", first.strip())[0].rstrip(".:")


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "from the data" if value is None else str(value)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(generate(path.read_text()))
