"""Small exports, orders and watchers whose evaluations are a stand-in."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evals.encoders.exports.manifest import BACKBONE, MANIFEST, Manifest, Stamp
from evals.watch.cascade import stages
from evals.watch.ledger import Entry, Ledger
from evals.watch.order import Order
from evals.watch.regression import Tolerance
from evals.watch.watch import Round, Watcher

HERE = Path(__file__).parent
STUB = (sys.executable, str(HERE / "stub.py"))
PLAIN = Manifest(
    name="student",
    model="vit_tiny_patch16_dinov3_qkvb",
    entry={
        "size": 64,
        "patch": 16,
        "dim": 48,
        "global_feature": "cls",
        "licence": "Apache-2.0",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bilinear",
        "antialias": True,
        "resize": "squash",
    },
)


def export(folder: Path, name: str = "student", **notes: Any) -> str:
    """An export that is whole but for the sense of its tensors; `notes` tell the stand-in what to do. Its identity."""
    folder.mkdir(parents=True)
    data = b"tensors of " + folder.name.encode()
    (folder / BACKBONE).write_bytes(data)
    files = {BACKBONE: Stamp(hashlib.sha256(data).hexdigest(), len(data))}
    text = replace(PLAIN, name=name, training=notes, files=files).to_json()
    (folder / MANIFEST).write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def scored(**scores: float) -> dict[str, dict[str, float]]:
    """What `quick` gives, for `notes`: `knn`, `depth`."""
    names = {"knn": "in1k-knn", "depth": "nyuv2-linear", "pck": "spair-pck"}
    return {"quick": {names[key]: value for key, value in scores.items()}}


@dataclass
class Scene:
    """A watched folder, its results, and what the watcher said."""

    root: Path
    changes: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def exports(self) -> Path:
        """The watched folder."""
        return self.root / "exports"

    @property
    def order(self) -> Order:
        """Without waits, unless `changes` say otherwise."""
        plain: dict[str, Any] = {"stages": stages("quick", [], []), "tolerance": Tolerance(0, relative=False)}
        folders = {"folder": self.exports, "results": self.root / "results"}
        return Order(**{**plain, **folders, "settle": 0.0, "interval": 0.0, **self.changes})

    @property
    def ledger(self) -> Ledger:
        """Its ledger."""
        return Ledger(self.order.ledger)

    def watcher(self) -> Watcher:
        """A watcher whose evaluations are the stand-in."""

        def tell(message: str, *, always: bool = False) -> None:
            self.said.append(f"! {message}" if always else message)

        return Watcher(self.order, tell, lambda: None, STUB)

    def round(self) -> Round:
        """One round of a new watcher."""
        return self.watcher().round()

    def calls(self) -> list[str]:
        """`<candidate> <suite>` of each evaluation that was started."""
        path = self.order.results / "calls.txt"
        return [line.rsplit(" ", 1)[0] for line in path.read_text().splitlines()] if path.is_file() else []

    def states(self) -> dict[str, str]:
        """Candidate -> where it stands."""
        return {item.name: item.state for item in self.watcher().survey(self.ledger.now(), wait=False)}

    def entry(self, name: str) -> Entry:
        """What the ledger has under a name."""
        (found,) = (entry for entry in self.ledger.entries() if entry.name == name)
        return found


def start(*words: str, folder: Path) -> "subprocess.Popen[str]":
    """The command line as a process, with the stand-in."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EUPE_EVAL_")}
    environment |= {"EUPE_EVAL_RESULTS": str(folder / "results"), "EUPE_EVAL_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, str(HERE / "cli.py"), *words],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
