"""What the project knows of an encoder before it is built: its entry, its card and the identity of its weights.

An entry is one YAML file, `configs/encoder/<name>.yaml`; `<source>:<model>` needs none. Nothing here imports torch.
"""

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from evals.encoders import keys
from evals.encoders.hub import HubFile
from evals.encoders.keys import Triple
from evals.errors import UnavailableError, UsageError, unknown
from evals.files import DigestMemo
from evals.record import EncoderCard

Normalisation = tuple[Triple, Triple]
GlobalFeature = Literal["cls", "attn_pool", "gap_norm", "pixels", "none"]

NORMALISATIONS: Mapping[str, Normalisation] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "raw": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Channel means and deviations of RGB in [0, 1] that many encoders share, by the name that `normalise` takes."""
WORDS = ("hub", "random", "none")
"""Values of `weights` that are no path."""
_HELPERS = frozenset({"entry", "hub", "keys", "layouts", "load", "tokens", "weights"})
"""Modules of this package that are no source of weights."""
_TEXT_SOURCES = ("open_clip",)
"""Adapters whose encoders have a text tower unless the entry says otherwise."""
_EXTRA_LIBRARIES = {"open_clip": ("open_clip_torch",)}
"""Packages beside torch and timm whose version moves a random initialisation, by source."""


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """One encoder: where it comes from, what it wants of an image, and which weights it gets."""

    name: str
    """As typed on the command line; the name of the YAML file."""
    source: str
    """The adapter: a module of `evals.encoders`."""
    model: str
    """The architecture, as its library calls it."""
    global_feature: GlobalFeature
    """`cls`: token 0 after the final norm; `attn_pool`: the attention pool; `gap_norm`: the final norm of the mean of
    the map (convolutional); `pixels`: the image at 16 x 16; `none`: there is no documented one."""
    licence: str
    """Licence of the released weights."""
    size: int
    """Native side in pixels."""
    patch: int
    """Pixels a token, along each axis."""
    text: bool = False
    """There is a text tower in the same space."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    antialias: bool = True
    resize: Literal["crop", "squash"] = "crop"
    mean: Triple = NORMALISATIONS["imagenet"][0]
    std: Triple = NORMALISATIONS["imagenet"][1]
    rope_periods: Literal["fp32", "bf16"] = "fp32"
    """Rounding of the rotary periods in training, restored where the file of the weights does not hold them."""
    dim: int | None = None
    """Channels of a patch feature, where it is to be listed before the model is built."""
    depth: int | None = None
    hub: str | None = None
    """`owner/repository` or `owner/repository/file` on the Hugging Face hub; None: not published there."""
    weights: str = "hub"
    """`hub`, `random`, `none` (nothing to load), or the path of a file."""
    seed: int = 0
    """Of a random initialisation; the run's, not a key of the file."""


def config_folder() -> Path:
    """The folder `configs`: inside this package in an installed wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def names(extra: Path | None = None) -> list[str]:
    """Encoders that have an entry, in the project's folder and in `extra`. Raises UsageError if that is no folder."""
    return sorted(_files(extra))


def sources() -> list[str]:
    """The adapters: the modules of this package are the registry."""
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(module.name for module in found if module.name not in _HELPERS)


def resolve(name: str, *, weights: str | None = None, seed: int = 0, extra: Path | None = None) -> EncoderEntry:
    """The entry of `name`, or of `<source>:<model>` as its library describes it, with the weights that were asked for.

    An encoder that has nothing to load stays so under `hub` and `random`. `<source>:<model>` imports that library.
    Raises UsageError for an unknown name, an entry that does not fit, weights that are neither a word nor a file, or
    an `extra` that is no folder.
    """
    known = _files(extra)
    source, colon, model = name.partition(":")
    if colon:
        entry = _derive(name, source, model)
    else:
        if name not in known:
            raise unknown("encoder", name, list(known))
        entry = read_entry(name, _read_yaml(known[name]))
    if weights is None or (entry.weights == "none" and weights in WORDS):
        return replace(entry, seed=seed)
    return replace(entry, seed=seed, weights=_known_weights(entry, weights))


def read_entry(name: str, values: Mapping[str, object]) -> EncoderEntry:
    """The entry that a mapping describes. Raises UsageError naming the key and what it takes."""
    where = f"entry of encoder {name!r}"
    for key in values:
        if key not in _READERS:
            raise unknown(f"key in the {where}", str(key), list(_READERS))
    missing = [key for key in _REQUIRED if key not in values]
    if missing:
        raise UsageError(f"the {where} lacks {', '.join(missing)}. Keys: {', '.join(_READERS)}.")
    read: dict[str, Any] = {key: _READERS[key](f"{key} in the {where}", value) for key, value in values.items()}
    if (normalise := read.pop("normalise", None)) is not None:
        if "mean" in read or "std" in read:
            raise UsageError(f"the {where} has normalise beside mean or std; give one or the other.")
        read["mean"], read["std"] = NORMALISATIONS[normalise]
    entry = EncoderEntry(name=name, **{"text": read["source"] in _TEXT_SOURCES, **read})
    if entry.source not in sources():
        raise unknown(f"source in the {where}", entry.source, sources())
    return entry


def weights_file(entry: EncoderEntry) -> Path | None:
    """The local file of the weights; None where none is needed (`random`, `none`).

    Raises UnavailableError saying what to get, from where, and how to point to it. Never touches the network.
    """
    if entry.weights in ("random", "none"):
        return None
    if entry.weights == "hub":
        return _hub_file(entry).cached()
    path = Path(entry.weights).expanduser()
    if not path.is_file():
        raise UnavailableError("weights", f"the weights of {entry.name} are not at {path}: there is no such file.")
    return path


def fetch(entry: EncoderEntry) -> None:
    """Download hub weights that are not here yet; nothing to do for anything else.

    Raises UnavailableError when they cannot be had: no network, HF_HUB_OFFLINE, a gate, a repository that is gone.
    """
    if entry.weights == "hub":
        _hub_file(entry).download()


def identity(entry: EncoderEntry, digests: DigestMemo) -> str:
    """The sha256 that stands for the weights: of their file, or of what a random initialisation depends on.

    Raises UnavailableError when the file is not here, or the library of the adapter is not.
    """
    path = weights_file(entry)
    if path is not None:
        return digests.digest(path)
    recipe: list[object] = [entry.weights, entry.source, entry.model]
    recipe += [entry.patch] if entry.weights == "none" else [entry.seed, _versions(entry)]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


def card(entry: EncoderEntry, digests: DigestMemo) -> EncoderCard:
    """The card as far as it is known before the encoder is built. Raises as `identity` does."""
    return EncoderCard(
        name=entry.name,
        source=entry.source,
        model=entry.model,
        weights=entry.weights if entry.weights in WORDS else Path(entry.weights).name,
        weights_sha256=identity(entry, digests),
        licence=entry.licence,
        patch=entry.patch,
        size=entry.size,
        global_feature=entry.global_feature,
        text=entry.text,
        random=entry.weights == "random",
        dim=entry.dim,
        depth=entry.depth,
        spec={
            "interpolation": entry.interpolation,
            "antialias": entry.antialias,
            "resize": entry.resize,
            "mean": list(entry.mean),
            "std": list(entry.std),
            "rope_periods": entry.rope_periods,
        },
    )


def _hub_file(entry: EncoderEntry) -> HubFile:
    return HubFile.of(entry.name, entry.licence, entry.hub)


def _files(extra: Path | None) -> dict[str, Path]:
    if extra is not None and not extra.is_dir():
        raise UsageError(
            f"the folder of encoder entries {str(extra)!r} does not exist. Give --config-dir a folder of YAML files, "
            "<name>.yaml for each encoder."
        )
    folders = [config_folder() / "encoder", *([extra] if extra is not None else [])]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def _read_yaml(path: Path) -> Mapping[str, object]:
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold `key: value` lines. Keys: {', '.join(_READERS)}.")
    return cast("dict[str, object]", values)


def _derive(name: str, source: str, model: str) -> EncoderEntry:
    if source not in sources():
        raise unknown(f"source of {name!r}", source, sources())
    derive = getattr(_adapter(source), "derive", None)
    if derive is None:
        raise UsageError(f"models of {source!r} need an entry: write configs/encoder/<name>.yaml for {model!r}.")
    return cast("Callable[[str, str], EncoderEntry]", derive)(name, model)


def _adapter(source: str) -> Any:
    return importlib.import_module(f"evals.encoders.{source}")


def _known_weights(entry: EncoderEntry, weights: str) -> str:
    if weights not in WORDS and not Path(weights).expanduser().is_file():
        raise UsageError(
            f"weights {weights!r} of {entry.name}: no such file. Give a .safetensors, .pt or .pth file, "
            "`hub`, or `random` (with a seed)."
        )
    if (weights == "none") != (entry.weights == "none"):
        raise UsageError(f"{entry.name} has weights {entry.weights!r}; {weights!r} does not fit its adapter.")
    return weights


def _versions(entry: EncoderEntry) -> dict[str, str]:
    packages = ("torch", "timm", *_EXTRA_LIBRARIES.get(entry.source, ()))
    try:
        return {package: version(package) for package in packages}
    except PackageNotFoundError as error:
        raise UnavailableError("package", f"{entry.name} needs {error.name}: pip install 'eupe-eval[text]'") from error


_READERS: Mapping[str, Callable[[str, object], Any]] = {
    "source": keys.text,
    "model": keys.text,
    "global_feature": keys.one_of("cls", "attn_pool", "gap_norm", "pixels", "none"),
    "licence": keys.text,
    "size": keys.side,
    "patch": keys.side,
    "text": keys.flag,
    "interpolation": keys.one_of("bilinear", "bicubic"),
    "antialias": keys.flag,
    "resize": keys.one_of("crop", "squash"),
    "normalise": keys.one_of(*NORMALISATIONS),
    "mean": keys.triple,
    "std": keys.deviations,
    "rope_periods": keys.one_of("fp32", "bf16"),
    "dim": keys.or_null(keys.side),
    "depth": keys.or_null(keys.whole),
    "hub": keys.or_null(keys.text),
    "weights": keys.text,
}
_REQUIRED = [f.name for f in fields(EncoderEntry) if f.default is MISSING and f.name != "name"]
