"""Plain-text views for the terminal. Imports neither torch nor timm."""

import dataclasses
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals import compose
from evals.benchmarks import base
from evals.context import BarFactory, silent_bar
from evals.encoders.entry import WORDS, EncoderEntry
from evals.encoders.exports.entry import is_export
from evals.encoders.locate import hub_file
from evals.encoders.registry import names, resolve
from evals.encoders.scaffold.template import as_yaml
from evals.errors import EvalError, ResultsError, unknown
from evals.miniature.world import Identity
from evals.notes import field_notes
from evals.record import Record

if TYPE_CHECKING:
    from evals.datasets.check import Finding
    from evals.plan import Step


_SAVE = "save as <name>.yaml in a folder for --config-dir"
_PARTS = ("dim", "depth", "params", "prefix", "norm", "positions", "alternatives")
"""What the model of an encoder tells once it is built."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the same keys."""

    rows: Sequence[Mapping[str, str]]
    empty: str = "nothing here"
    left_out: Sequence[str] = ()
    """What could not be shown, and why."""

    def text(self) -> str:
        """Aligned columns under a header."""
        if not self.rows:
            return self.empty
        heads = list(self.rows[0])
        widths = {head: max(len(head), *(len(row[head]) for row in self.rows)) for head in heads}
        lines = ["  ".join(head.ljust(widths[head]) for head in heads).rstrip()]
        lines += ["  ".join(row[head].ljust(widths[head]) for head in heads).rstrip() for row in self.rows]
        return "\n".join(lines)


def encoders(config_dir: Path | None, bar: BarFactory | None = None) -> Table:
    """Every entry; with a progress bar each is built without weights, and its parts are shown as well."""
    rows, left_out = [], []
    known = names(config_dir)
    with (bar or silent_bar)("building without weights", len(known)) as progress:
        for name in known:
            row = {}
            try:
                entry = resolve(name, extra=config_dir)
                row = _row(entry) | (dict.fromkeys(_PARTS, "-") if bar else {})
                row |= _built(entry) if bar else {}
            except EvalError as error:
                left_out.append(f"{name}: {error}")
            rows += [row] if row else []
            progress.update()
    return Table(rows, left_out=left_out)


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
    if name in names(config_dir) or ":" in name or is_export(name):
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
    notes = field_notes(base.Benchmark, kind)
    lines = [f"{name} ({kind.family}): {_first_line(kind)}", ""]
    rows = []
    for item in dataclasses.fields(kind):
        values = {protocol: str(getattr(one, item.name)) for protocol, one in zip(protocols, made, strict=True)}
        rows.append({"constant": item.name, **values, "meaning": notes.get(item.name, "")})
    return "\n".join([*lines, Table(rows).text()])


def resolved(entry: EncoderEntry) -> str:
    """What a route came to, and how to keep it."""
    return f"{entry.name} is taken as follows; {_SAVE}\n{textwrap.indent(as_yaml(entry), '  ').rstrip()}"


def _row(entry: EncoderEntry) -> dict[str, str]:
    """What an entry says by itself."""
    return {
        "encoder": entry.name,
        "family": entry.family or entry.source,
        "patch": str(entry.patch),
        "dim": str(entry.dim or "-"),
        "native": str(entry.size),
        "global": "no cls" if entry.global_feature == "none" else entry.global_feature,
        "text": "yes" if entry.text else "no txt",
        "licence": entry.licence + (" (gated)" if entry.gated else ""),
    }


def _built(entry: EncoderEntry) -> dict[str, str]:
    """What the model tells. Raises as `blueprint` does."""
    from evals.encoders.load import blueprint

    card = blueprint(entry).card
    sizes = (str(card.dim), str(card.depth), f"{(card.params or 0) / 1e6:.1f} M")
    return dict(zip(_PARTS, (*sizes, *(str(card.structure[key]) for key in _PARTS[3:])), strict=True))


def _encoder(entry: EncoderEntry) -> str:
    """The entry as a file to save, and as comments what is not of it: the model's parts, the weights, how to save."""
    try:
        parts = [f"{key}: {value}" for key, value in _built(entry).items()]
    except EvalError as error:
        parts = [f"not built: {error}"]
    notes = ["the model, built without weights", *_indented(parts), "weights", *_indented(_weights(entry))]
    notes += [_SAVE] if ":" in entry.name else []
    family = f", of the family {entry.family}" if entry.family else ""
    return f"# {entry.name}{family}\n{as_yaml(entry)}#\n" + "\n".join(f"# {line}" for line in notes)


def _weights(entry: EncoderEntry) -> list[str]:
    """Whether the weights are here, what to get, and on what terms."""
    if entry.weights not in WORDS:
        return [f"{'here' if Path(entry.weights).expanduser().is_file() else 'not here'}: {entry.weights}"]
    if entry.weights != "hub":
        return [{"random": "never trained", "none": "nothing to load"}[entry.weights]]
    if entry.source == "torch_hub":
        return ["fetched by the repository's own code"]
    try:
        file = hub_file(entry)
        gate = file.gate()
        return [*file.state(), *([gate] if gate else [])]
    except EvalError as error:
        return [str(error)]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for text in lines for line in text.splitlines()]


def _first_line(kind: type[Any]) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]
