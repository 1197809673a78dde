"""The page `docs/encoders.md`: the tables that follow from the entries and their models.

python tests/contracts/encoder_page.py     writes them
"""

from collections.abc import Iterator
from pathlib import Path

from evals.encoders.entry import NORMALISATIONS, EncoderEntry
from evals.encoders.load import blueprint
from evals.encoders.registry import names, resolve
from evals.record import EncoderCard

PAGE = Path(__file__).resolve().parents[2] / "docs" / "encoders.md"
_COLUMNS = (
    "encoder",
    "patch",
    "dim",
    "depth",
    "M",
    "prefix",
    "norm",
    "global",
    "others",
    "image",
    "positions",
    "text",
    "licence",
)


def generate(text: str) -> str:
    """The page with its tables as they must be."""
    for name, part in zip(("table", "notes"), _parts(), strict=True):
        mark = f"<!-- {name} -->"
        before, _, after = text.split(mark)
        text = f"{before}{mark}\n\n{part}\n\n{mark}{after}"
    return text


def _parts() -> tuple[str, str]:
    rows = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    notes = []
    for name in names():
        entry = resolve(name)
        rows.append(f"| {' | '.join(_cells(entry, blueprint(entry).card))} |")
        notes += [f"* `{name}`: {entry.note}"] if entry.note else []
    return "\n".join(rows), "\n".join(notes)


def _cells(entry: EncoderEntry, card: EncoderCard) -> Iterator[str]:
    structure = card.structure
    colours = next((word for word, pair in NORMALISATIONS.items() if pair == (entry.mean, entry.std)), "own")
    filtered = entry.interpolation if entry.antialias else f"{entry.interpolation} without antialias"
    yield f"`{entry.name}`"
    yield str(card.patch)
    yield str(card.dim)
    yield str(card.depth)
    yield f"{(card.params or 0) / 1e6:.1f}"
    yield _short(str(structure["prefix"]))
    yield str(structure["norm"])
    yield card.global_feature
    yield str(structure["alternatives"])
    yield f"{entry.size}, {entry.resize}, {filtered}, {colours}"
    yield str(structure["positions"])
    yield "yes" if card.text else "no"
    yield card.licence + (" (gated)" if card.gated else "")


def _short(words: str) -> str:
    """`cls reg*4` for `cls reg reg reg reg`."""
    listed = words.split()
    registers = listed.count("reg")
    return words if registers < 2 else " ".join([word for word in listed if word != "reg"] + [f"reg*{registers}"])


if __name__ == "__main__":
    PAGE.write_text(generate(PAGE.read_text()))
