"""A few numbers that stand for everything an encoder computes under named weights, and where two of them part."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor

from evals.encoders.entry import EncoderEntry, config_folder
from evals.encoders.registry import resolve
from evals.types import ConvEncoder, Encoder, Features, TextAlignedEncoder
from tests.golden.named import library_name, noise, prepare, unfilled

TOLERANCE, ROUNDING = 1e-4, 2e-5
"""Of the root mean square of a tensor: what is a difference, and from where on one is traced back to its origin.

Other kernels, instruction sets and numbers of threads, and double precision, move no value by more than 7e-6; the least
of the known changes of meaning, an approximate GELU, moves the features by 2.6e-4, and the first block by 3e-5.
"""
_SMALL, _ROWS = 5, 3
"""Patches along the sides of the small image, and along the short side of the oblong one."""
_SAYS = ("name", "family", "licence", "hub", "gated", "note", "weights", "seed", "text_tower", "dim", "depth")
"""Keys of an entry that no feature depends on."""
_TAGS = {"timm": ".", "eupe": ".", "open_clip": "/"}
"""Source -> what parts the architecture from the name of its weights in `model`."""
_FOLDER = Path(__file__).parent / "fingerprints"

Values = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is stored of an encoder."""

    shapes: Mapping[str, int | str]
    """Tensors and numbers of the whole model, and the sha256 of their names and shapes."""
    values: Values
    """Place -> root mean square, sum under a fixed noise, two elements.

    In the order of computation, so that the first difference is where to look.
    """


_done: dict[tuple[object, ...], Fingerprint] = {}


def compute(name: str) -> Fingerprint:
    """The fingerprint of an entry of the project; those that differ in their weights alone are computed once."""
    entry = resolve(name)
    recipe = _recipe(entry)
    if recipe not in _done:
        encoder = unfilled(entry)
        _done[recipe] = Fingerprint(shapes(encoder), measure(prepare(encoder)))
    return _done[recipe]


def path_of(name: str) -> Path:
    """Where the fingerprint of an encoder is kept."""
    return _FOLDER / f"{name}.json"


def names() -> list[str]:
    """Encoders that the project has an entry for; installed packages may add others of theirs."""
    return sorted(path.stem for path in (config_folder() / "encoder").glob("*.yaml"))


def stored() -> set[str]:
    """Encoders whose fingerprints are kept."""
    return {path.stem for path in _FOLDER.glob("*.json")}


def read(name: str) -> Fingerprint:
    """The kept fingerprint of an encoder."""
    raw = json.loads(path_of(name).read_text())
    return Fingerprint(raw["shapes"], {place: tuple(numbers) for place, numbers in raw["values"].items()})


def write(name: str, fingerprint: Fingerprint) -> None:
    """Keep a fingerprint, one place a line."""
    lines = [f'"{place}": {list(numbers)}' for place, numbers in fingerprint.values.items()]
    values = ",\n".join(lines)
    path_of(name).write_text(f'{{"shapes": {json.dumps(fingerprint.shapes)}, "values": {{\n{values}\n}}}}\n')


def difference(found: Fingerprint, kept: Fingerprint) -> str | None:
    """The first place where two fingerprints differ, in words; None where they agree."""
    if found.shapes != kept.shapes:
        return f"other parameters: {dict(found.shapes)} instead of {dict(kept.shapes)}"
    if found.values.keys() != kept.values.keys():
        return f"other outputs: {', '.join(sorted(found.values.keys() ^ kept.values.keys()))}"
    away = {place: _distance(found.values[place], numbers) for place, numbers in kept.values.items()}
    if max(away.values()) <= TOLERANCE:
        return None
    first = next(place for place in away if away[place] > ROUNDING)
    return f"first at {first}: {list(found.values[first])} instead of {list(kept.values[first])}"


def shapes(encoder: Encoder) -> dict[str, int | str]:
    """What identifies the parameters of the whole model, cut or not, filled or not."""
    found = {library_name(name): tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    digest = hashlib.sha256("\n".join(f"{name} {found[name]}" for name in sorted(found)).encode())
    return {"tensors": len(found), "numbers": sum(map(math.prod, found.values())), "sha256": digest.hexdigest()[:16]}


def measure(encoder: Encoder) -> dict[str, tuple[float, ...]]:
    """The values of an encoder that has its weights, at a small, an oblong and its native size.

    The oblong image has fewer rows and more columns than the native grid: position tables shrink and stretch. Blocks
    and what comes before the norm are taken where they are cheap; a norm knows nothing of sizes.
    """
    native = encoder.spec.size // encoder.spec.patch
    values = {}
    for label, grid in (("small", (_SMALL, _SMALL)), ("oblong", (_ROWS, native + _ROWS)), ("native", (native, native))):
        image = 0.5 + noise("image", (1, 3, *(cells * encoder.spec.patch for cells in grid))) / math.sqrt(12)
        features = encoder(image)
        if label == "small":
            values |= _blocks(encoder, image)
        if label == "oblong":
            values["oblong patches before the norm"] = _probe(encoder(image, norm=False).patches_BHWD)
        values |= {f"{label} {place}": _probe(x) for place, x in _outputs(encoder, features)}
        if label == "small":
            values |= {f"small {name}": _probe(x) for name, x in features.others.items()}
    return values


def _blocks(encoder: Encoder, image: Tensor) -> dict[str, tuple[float, ...]]:
    """Every block (stage) before any norm."""
    kind = "stage" if isinstance(encoder, ConvEncoder) else "block"
    layers = encoder(image, layers=range(encoder.depth), norm=False).layers
    place = {0: " or what comes before it"}
    return {f"small {kind} {index}{place.get(index, '')}": _probe(layer) for index, layer in enumerate(layers)}


def _outputs(encoder: Encoder, features: Features) -> Iterator[tuple[str, Tensor]]:
    yield "patches", features.patches_BHWD
    if features.pooled_BD is not None:
        yield "global feature", features.pooled_BD
        if isinstance(encoder, TextAlignedEncoder):
            yield "image beside text", encoder.encode_image(features)


def _probe(x: Tensor) -> tuple[float, ...]:
    """Any change of any element moves the sum; the two elements tell where patches and channels stand."""
    flat = x.flatten().double()
    weights = noise("sum", (len(flat),)).double() / math.sqrt(len(flat))
    numbers = (flat.square().mean().sqrt(), flat @ weights, flat[len(flat) // 2], flat[-1])
    return tuple(float(f"{number.item():.7g}") for number in numbers)


def _distance(found: tuple[float, ...], kept: tuple[float, ...]) -> float:
    return max(abs(new - old) for new, old in zip(found, kept, strict=True)) / kept[0]


def _recipe(entry: EncoderEntry) -> tuple[object, ...]:
    """What features under named weights depend on: the architecture, and every key that says how it is run."""
    tag = _TAGS.get(entry.source)
    model = entry.model if tag is None else entry.model.partition(tag)[0]
    return (model, *(getattr(entry, field.name) for field in fields(entry) if field.name not in (*_SAYS, "model")))
