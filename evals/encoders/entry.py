"""What the project knows of an encoder before it is built: one YAML file, `configs/encoder/<name>.yaml`.

What several encoders share stands once, in `configs/family/<family>.yaml`. Nothing here imports torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml

from evals.encoders import keys
from evals.encoders.keys import Triple
from evals.errors import UsageError, unknown

Normalisation = tuple[Triple, Triple]
GlobalFeature = Literal["cls", "summary", "attn_pool", "gap_norm", "avg_pool", "pixels", "none"]
Positions = Literal["library", "dinov2", "bilinear", "bilinear_antialias", "radio", "radio_aligned"]
"""How a learnt position table follows another grid than its own: as the library does, or by a rule of upstream."""

NORMALISATIONS: Mapping[str, Normalisation] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "raw": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Channel means and deviations of RGB in [0, 1] that many encoders share, by the name that `normalise` takes."""
WORDS = ("hub", "random", "none")
"""Values of `weights` that are no path."""
_TEXT_SOURCES = ("open_clip",)
"""Adapters whose encoders have a text tower unless the entry says otherwise."""


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """One encoder: where it comes from, what it wants of an image, and which weights it gets."""

    name: str
    """As typed on the command line; the name of the YAML file."""
    source: str
    """The adapter: a module of `evals.encoders.sources`, or of an installed package."""
    model: str
    """The architecture, as its library calls it."""
    global_feature: GlobalFeature
    """`cls`: token 0 after the final norm; `summary`: the trained class tokens side by side; `attn_pool`: the attention
    pool; `gap_norm`: the final norm of the mean of the map (convolutional); `avg_pool`: the mean of the last map
    (convolutional without a final norm); `pixels`: the image at 16 x 16; `none`: there is no documented one."""
    licence: str
    """Licence of the released weights."""
    size: int
    """Native side in pixels."""
    patch: int
    """Pixels a token, along each axis (the stride of a convolutional encoder)."""
    family: str | None = None
    """The file of `configs/family` that gave the keys which the entry itself does not."""
    text: bool = False
    """There is a text tower in the same space; by default as the adapter has it."""
    text_tower: str | None = None
    """The encoder whose text tower is used, where the text side is not in these weights."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """The filter that resizes images."""
    antialias: bool = True
    """Whether that filter widens where images shrink."""
    resize: Literal["crop", "squash"] = "crop"
    """How an image becomes square: short side and centre crop, or both sides at once."""
    mean: Triple = NORMALISATIONS["imagenet"][0]
    """Means of R, G and B in [0, 1]; a known pair of means and deviations has a name: `normalise`."""
    std: Triple = NORMALISATIONS["imagenet"][1]
    """Deviations of R, G and B in [0, 1]."""
    rope_periods: Literal["fp32", "bf16"] = "fp32"
    """Rounding of the rotary periods in training, restored where the file of the weights does not hold them."""
    prefix: tuple[str, ...] | None = None
    """Tokens before the patches in order, `cls reg*4`; parentheses: never trained as an output; None: as the model
    tells."""
    norm: Literal["final", "untrained", "none_exists"] | None = None
    """The final norm of patch tokens; None: as the model tells."""
    positions: Positions = "library"
    """How a learnt position table follows another grid than its own."""
    ignore: tuple[str, ...] = ()
    """Beginnings of keys of the file that belong to training and are left out; everything else must fit."""
    dim: int | None = None
    """Channels of a patch feature, where it is to be listed before the model is built."""
    depth: int | None = None
    """Blocks (stages of a convolutional encoder), likewise."""
    hub: str | None = None
    """`owner/repository[/file][@commit]` on the Hugging Face hub, the commit in all its 40 digits; None: not published
    there. Without a commit, the one that was first used on this machine is kept to."""
    gated: bool = False
    """The hub gives the weights only to those whose request was granted."""
    note: str | None = None
    """What a user must know that no other key says."""
    weights: str = "hub"
    """`hub`, `random`, `none` (nothing to load), or the path of a file."""
    seed: int = 0
    """Of a random initialisation; the run's, not a key of the file."""

    def lineage(self) -> dict[str, Any] | None:
        """Where the weights come from, for records; None for released ones, which the card names."""
        return None


def config_folder() -> Path:
    """The folder `configs`: inside this package in an installed wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def read_entry(name: str, values: Mapping[str, object]) -> EncoderEntry:
    """The entry that a mapping describes. Raises UsageError naming the key and what it takes."""
    where = f"entry of encoder {name!r}"
    family = values.get("family")
    if family is not None:
        values = {**_family(where, family), **values}
    read = read_values(where, values, KEYS)
    missing = [key for key in REQUIRED if key not in values]
    if missing:
        raise UsageError(f"the {where} lacks {', '.join(missing)}. Keys: {', '.join(KEYS)}.")
    return EncoderEntry(name=name, **{"text": read["source"] in _TEXT_SOURCES, **read})


def read_values(where: str, values: Mapping[str, object], known: Sequence[str]) -> dict[str, Any]:
    """Fields of an entry from some of its keys. Raises UsageError for one not among the known, or a value amiss."""
    for key in values:
        if key not in known:
            raise unknown(f"key in the {where}", str(key), list(known))
    read: dict[str, Any] = {key: _READERS[key](f"{key} in the {where}", value) for key, value in values.items()}
    if (normalise := read.pop("normalise", None)) is not None:
        if "mean" in read or "std" in read:
            raise UsageError(f"the {where} has normalise beside mean or std; give one or the other.")
        read["mean"], read["std"] = NORMALISATIONS[normalise]
    return read


def read_yaml(path: Path) -> Mapping[str, object]:
    """The `key: value` lines of a file. Raises UsageError where there are none."""
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold `key: value` lines. Keys: {', '.join(KEYS)}.")
    return cast("dict[str, object]", values)


def _family(where: str, name: object) -> Mapping[str, object]:
    known = {path.stem: path for path in sorted((config_folder() / "family").glob("*.yaml"))}
    if name not in known:
        raise unknown(f"family in the {where}", str(name), list(known))
    return read_yaml(known[str(name)])


_READERS: Mapping[str, Callable[[str, object], Any]] = {
    "family": keys.or_null(keys.text),
    "source": keys.text,
    "model": keys.text,
    "global_feature": keys.one_of(*get_args(GlobalFeature)),
    "licence": keys.text,
    "size": keys.side,
    "patch": keys.side,
    "text": keys.flag,
    "text_tower": keys.or_null(keys.text),
    "interpolation": keys.one_of("bilinear", "bicubic"),
    "antialias": keys.flag,
    "resize": keys.one_of("crop", "squash"),
    "normalise": keys.one_of(*NORMALISATIONS),
    "mean": keys.triple,
    "std": keys.deviations,
    "rope_periods": keys.one_of("fp32", "bf16"),
    "prefix": keys.or_null(keys.prefix),
    "norm": keys.or_null(keys.one_of("final", "untrained", "none_exists")),
    "positions": keys.one_of(*get_args(Positions)),
    "ignore": keys.words,
    "dim": keys.or_null(keys.side),
    "depth": keys.or_null(keys.whole),
    "hub": keys.or_null(keys.text),
    "gated": keys.flag,
    "note": keys.or_null(keys.text),
    "weights": keys.text,
}
KEYS = tuple(_READERS)
"""What an entry may hold."""
REQUIRED = tuple(f.name for f in fields(EncoderEntry) if f.default is MISSING and f.name != "name")
"""What it, or its family, must hold."""
