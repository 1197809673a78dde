"""What open_clip (extra `text`) says of an architecture and of weights that were released for it."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evals.errors import UnavailableError, UsageError, unknown


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """An architecture with a tag of weights."""

    architecture: str
    width: int
    """Numbers of an image or text vector in the common space."""
    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    quick_gelu: bool
    """The GELU is x * sigmoid(1.702 x), in open_clip's own towers."""
    tag: Mapping[str, Any]
    """mean, std, interpolation, resize_mode, hf_hub, ... of the weights."""


def library(name: str) -> Any:
    """The package. Raises UnavailableError where it is not installed."""
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        raise UnavailableError("package", f"{name} needs open_clip ({error}): pip install 'eupe-eval[text]'") from error


def read_config(name: str, model: str) -> ClipConfig:
    """The configuration behind `<architecture>/<tag>`, the model of the encoder `name`.

    Raises UnavailableError without the package; UsageError for what it does not know, for weights that were trained
    with another GELU, and for text towers that are models of transformers.
    """
    package = library(name)
    architecture, _, tag = model.partition("/")
    config = package.get_model_config(architecture)
    if config is None:
        raise unknown(f"open_clip architecture of {name}", architecture, package.list_models())
    told = package.get_pretrained_cfg(architecture, tag)
    if not told:
        tags = package.list_pretrained_tags_by_model(architecture)
        raise UsageError(f"model {model!r} of {name} must be <architecture>/<tag>: {', '.join(tags)}.")
    quick_gelu = bool(config.get("quick_gelu", False))
    if bool(told.get("quick_gelu", False)) != quick_gelu:
        raise UsageError(
            f"the weights of {model} were trained with another GELU than the architecture computes: use the "
            "architecture whose name ends in -quickgelu, or not in it."
        )
    if "multimodal_cfg" in config or "hf_model_name" in config["text_cfg"]:
        raise UsageError(
            f"{model}: its text tower is a captioner or a model of transformers; only open_clip's own text towers are "
            "known here."
        )
    return ClipConfig(architecture, config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu, told)
