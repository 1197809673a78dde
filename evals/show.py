"""Plain-text views for the terminal. Imports neither torch nor timm."""

import dataclasses
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals import compose
from evals.benchmarks import base
from evals.encoders.entry import EncoderEntry
from evals.encoders.registry import names, resolve
from evals.errors import ResultsError, unknown
from evals.miniature.world import Identity
from evals.record import Record

if TYPE_CHECKING:
    from evals.datasets.check import Finding
    from evals.plan import Step


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the same keys."""

    rows: Sequence[Mapping[str, str]]
    empty: str = "nothing here"

    def text(self) -> str:
        """Aligned columns under a header."""
        if not self.rows:
            return self.empty
        heads = list(self.rows[0])
        widths = {head: max(len(head), *(len(row[head]) for row in self.rows)) for head in heads}
        lines = ["  ".join(head.ljust(widths[head]) for head in heads).rstrip()]
        lines += ["  ".join(row[head].ljust(widths[head]) for head in heads).rstrip() for row in self.rows]
        return "\n".join(lines)


def encoders(config_dir: Path | None) -> Table:
    """Every entry."""
    rows = []
    for name in names(config_dir):
        entry = resolve(name, extra=config_dir)
        text = "yes" if entry.text else "no txt"
        pooled = "no cls" if entry.global_feature == "none" else entry.global_feature
        rows.append(
            {
                "encoder": name,
                "source": entry.source,
                "patch": str(entry.patch),
                "native": str(entry.size),
                "global": pooled,
                "text": text,
                "licence": entry.licence,
            }
        )
    return Table(rows)


def benchmarks() -> Table:
    """Every benchmark with its protocols, the default first."""
    rows = []
    for name in base.names():
        kind = base.find(name)
        rows.append(
            {
                "benchmark": name,
                "family": kind.family,
                "data": kind.folder or "none",
                "protocols": ", ".join(kind.protocols),
                "what": _first_line(kind),
            }
        )
    return Table(rows)


def suites() -> Table:
    """Every suite with its benchmarks."""
    return Table([{"suite": name, "benchmarks": ", ".join(members)} for name, members in compose.suites().items()])


def info(name: str, config_dir: Path | None) -> str:
    """Everything about one encoder, benchmark or suite."""
    if name in base.names():
        return _benchmark(name)
    if name in (known := compose.suites()):
        return f"suite {name}: {', '.join(known[name])}"
    if name in names(config_dir) or ":" in name:
        return _encoder(resolve(name, extra=config_dir))
    raise unknown("name", name, names(config_dir) + base.names() + list(known))


def status(results: Path, found: Sequence[tuple[Path, Record | ResultsError]]) -> Table:
    """One row a file; what cannot be read is known by its place alone."""
    rows = []
    for path, record in found:
        folder = path.parent
        row = {"encoder": folder.parent.name, "weights": folder.name, "benchmark": path.stem, "status": "unreadable"}
        row |= {"standard": "", "score": "", "when": "", "record": path.name}
        if isinstance(record, Record):
            score, error = record.primary, record.error or {}
            row |= {
                "encoder": record.encoder.name,
                "weights": record.encoder.weights_sha256[:12],
                "benchmark": f"{record.task.name}@{record.task.protocol}",
                "status": record.status,
                "standard": "yes" if record.standard else "no",
                "score": f"{score.value:.4g} {score.unit}" if score and score.value is not None else "",
                "when": record.created,
            }
            why = record.reason or str(error.get("message") or "")
        else:
            why = str(record)
        rows.append({**row, "why": next(iter(why.splitlines()), "")})
    return Table(rows, f"no records in {results}: `eupe-eval run` writes them.")


def unreadable(found: Sequence[tuple[Path, Record | ResultsError]]) -> list[ResultsError]:
    """What could not be read."""
    return [record for _, record in found if isinstance(record, ResultsError)]


def plan(steps: "Sequence[Step]") -> Table:
    """What a run would do."""
    rows = []
    for item in steps:
        counts = item.dataset.n_effective if item.dataset else {}
        rows.append(
            {
                "encoder": item.entry.name,
                "benchmark": f"{item.benchmark.id}@{item.protocol}",
                "state": item.state,
                "standard": "yes" if item.standard else "no",
                "data": ", ".join(f"{split} {number:,}" for split, number in counts.items()) or "-",
                "why": item.message.splitlines()[0] if item.message else "",
            }
        )
    return Table(rows)


def step(item: "Step") -> dict[str, object]:
    """A step for the launch record of `--json`."""
    return {"step": item.title, "state": item.state, "standard": item.standard, "path": str(item.path or "")}


def findings(found: "Sequence[Finding]") -> str:
    """Findings of a data check, a paragraph each."""
    blocks = []
    for item in found:
        lines = [f"[{item.severity}] {item.dataset}: {item.where}: {item.what}"]
        lines += [_hanging("    effect: ", item.effect)] if item.effect else []
        lines += [_hanging("    mend:   ", item.mend)] if item.mend else []
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def cache(folder: Path) -> Table:
    """Size of each part of the cache."""
    from evals.cache import parts

    rows = [
        {"part": part.name, "files": f"{part.files:,}", "size": size(part.bytes), "path": str(part.path)}
        for part in parts(folder)
    ]
    return Table(rows, f"{folder} is empty." if folder.is_dir() else f"{folder} does not exist yet.")


def world_id(identity: Identity) -> str:
    """Identity of an embedded world in one word: version, size and seed."""
    from evals.miniature.world import world_name

    return world_name(identity.size, identity.seed)


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _hanging(head: str, text: str) -> str:
    """A head, and the further lines of the text under its first one."""
    return head + textwrap.indent(text, " " * len(head)).lstrip()


def _benchmark(name: str) -> str:
    kind = base.find(name)
    protocols = list(kind.protocols)
    made = [kind.of(protocol)[1] for protocol in protocols]
    notes = _field_notes(kind)
    lines = [f"{name} ({kind.family}): {_first_line(kind)}", ""]
    rows = []
    for item in dataclasses.fields(kind):
        values = {protocol: str(getattr(one, item.name)) for protocol, one in zip(protocols, made, strict=True)}
        rows.append({"constant": item.name, **values, "meaning": notes.get(item.name, "")})
    return "\n".join([*lines, Table(rows).text()])


def _encoder(entry: EncoderEntry) -> str:
    rows = [{"key": item.name, "value": str(getattr(entry, item.name))} for item in dataclasses.fields(entry)]
    return Table(rows).text()


def _first_line(kind: type[Any]) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]


def _field_notes(kind: type[base.Benchmark]) -> dict[str, str]:
    """The docstring under each field: first sentence, read from the source, where the constants are documented."""
    import ast

    notes: dict[str, str] = {}
    for owner in (base.Benchmark, kind):
        tree = ast.parse(inspect.cleandoc(inspect.getsource(owner)))
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for declaration, text in pairwise(body):
            if not (isinstance(declaration, ast.AnnAssign) and isinstance(declaration.target, ast.Name)):
                continue
            value = text.value if isinstance(text, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                notes[declaration.target.id] = " ".join(value.value.split())
    return notes
