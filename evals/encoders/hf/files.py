"""What lies beside the weights of a model of transformers: its configuration and that of its image processor.

Both come from a local folder, or from the hub's cache; nothing is downloaded here. Imports no torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from evals.encoders.hub import DEFAULT_FILE, HubFile
from evals.errors import UnavailableError, UsageError

CONFIG = "config.json"
PROCESSOR = "preprocessor_config.json"
_JOINT = "processor_config.json"
"""Where newer repositories keep the image processor's part, beside the tokenizer's."""
_FILTERS = {2: "bilinear", 3: "bicubic"}
"""Numbers of the filters, as image processors write them."""


def read_config(name: str, model: str) -> dict[str, Any]:
    """The configuration of a hub id or local folder.

    Raises as `config_file` does, and UsageError for a file that cannot be used.
    """
    return _read(config_file(name, model))


def config_file(name: str, model: str) -> Path:
    """Where the configuration of a hub id or local folder lies.

    Raises UsageError for a folder without one, UnavailableError saying what to get where it is absent.
    """
    path = _find(name, model, CONFIG)
    if path is None and folder(model) is not None:
        raise UsageError(f"{name}: there is no {CONFIG} in {model}. Save the model there with save_pretrained.")
    if path is None:
        repository, _, commit = model.partition("@")
        revision = f" --revision {commit}" if commit else ""
        raise UnavailableError(
            "weights",
            f"{name} is described by {CONFIG} and {PROCESSOR} of the hub's {repository}, which are not on this "
            f"machine. With a network: `hf download {repository} {CONFIG} {PROCESSOR} {DEFAULT_FILE}{revision}`. "
            "Without: copy these files into a folder and name it hf:<folder>.",
        )
    return path


def read_processor(name: str, model: str) -> dict[str, Any]:
    """What the image processor is set to; empty where no file tells."""
    path = _find(name, model, PROCESSOR)
    if path is not None:
        return _read(path)
    joint = _find(name, model, _JOINT)
    settings = {} if joint is None else _read(joint).get("image_processor")
    return cast("dict[str, Any]", settings) if isinstance(settings, dict) else {}


def folder(model: str) -> Path | None:
    """The local folder that `model` names; None for a hub id. Raises UsageError for a path where no folder is."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if model.startswith((".", "/", "~")):
        raise UsageError(f"there is no folder {model!r}: give one with {CONFIG} and {DEFAULT_FILE}, or a hub id.")
    return None


def image_settings(name: str, processor: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an entry that an image processor tells: mean, std, interpolation, resize.

    What it does not tell is left out. Raises UsageError for one that feeds its model other values than RGB in [0, 1].
    """
    factor = processor.get("rescale_factor", 1 / 255)
    if processor.get("do_rescale", True) is not True or abs(factor * 255 - 1) > 1e-6:
        raise UsageError(f"{name}: its image processor does not scale pixels to [0, 1] (rescale_factor {factor}).")
    told: dict[str, Any] = {}
    if processor.get("do_normalize") is False:
        told |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    elif "image_mean" in processor and "image_std" in processor:
        told |= {"mean": tuple(processor["image_mean"]), "std": tuple(processor["image_std"])}
    if processor.get("resample") in _FILTERS:
        told["interpolation"] = _FILTERS[processor["resample"]]
    size = processor.get("size")
    if size is not None:
        by_short_side = isinstance(size, dict) and "shortest_edge" in size
        told["resize"] = "crop" if by_short_side or processor.get("do_center_crop") else "squash"
    return told


def processed_side(processor: Mapping[str, Any]) -> int | None:
    """The side of the square that an image processor makes; None where it makes none, or does not tell."""
    size = processor.get("crop_size" if processor.get("do_center_crop") else "size")
    if isinstance(size, dict):
        sides = {size.get("height"), size.get("width")} if "height" in size else {size.get("shortest_edge")}
        size = sides.pop() if len(sides) == 1 else None
    return size if isinstance(size, int) else None


def _find(name: str, model: str, file: str) -> Path | None:
    here = folder(model)
    if here is not None:
        return here / file if (here / file).is_file() else None
    # Of the commit that the weights are of, where one is settled.
    weights = HubFile.of(name, "unknown", model)
    commit = f"@{weights.commit}" if weights.commit else ""
    try:
        return HubFile.of(name, "unknown", f"{weights.repository}/{file}{commit}").cached()
    except UnavailableError:
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold a JSON object; got {type(values).__name__}.")
    return values
