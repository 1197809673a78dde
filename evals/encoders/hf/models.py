"""The image towers of transformers: which classes there are, how each is called, and how its weights get in.

Models are made from their configuration class; transformers' own tables bring older names of tensors to those of
today. Nothing is downloaded and no code of a repository runs.
"""

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from evals.encoders.entry import EncoderEntry
from evals.encoders.weights import MisfitError, differences, seeded
from evals.errors import UnavailableError, UsageError, unknown


@dataclass(frozen=True, slots=True)
class Kind:
    """How the image tower of a model type is made and run."""

    tower: str
    """Its class in transformers."""
    blocks: str
    """Path of its list of blocks (stages)."""
    norm: str | None
    """Path of the final norm of tokens; None: there is none."""
    prefix: tuple[str, ...] = ()
    """Tokens before the patches."""
    more: tuple[str, str] | None = None
    """Those after them whose number is in the configuration: their name, and the key."""
    pool: str | None = None
    """Key of the configuration that says whether there is an attention pool, `head`; None: there never is."""
    positions: Literal["learnt", "rotary", "none", "aimv2"] = "learnt"
    """How positions are told; AIMv2 has a table for one grid, or computes them, as its configuration says."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Arguments of the class beside the configuration."""
    call: Mapping[str, object] = field(default_factory=dict)
    """Arguments of a pass beside the pixels."""
    ignore: tuple[str, ...] = ()
    """Beginnings of keys that belong to heads which are not built."""
    convolutional: bool = False


_ANY_SIZE = {"interpolate_pos_encoding": True}
_TOWERS = ("vision_model.", "vision_encoder.")
"""What the keys of the image tower begin with in the file of a model of two towers."""
_REST = (
    "text_model.", "text_encoder.", "visual_projection.", "text_projection.", "logit_scale", "logit_bias",
    "temperature",
)  # fmt: skip
"""What the keys of everything else begin with in such a file."""
_CLIP = Kind("CLIPVisionModel", "encoder.layers", "post_layernorm", ("cls",), call=_ANY_SIZE)
KINDS: Mapping[str, Kind] = {
    "aimv2_vision_model": Kind("Aimv2VisionModel", "encoder.layers", "rms_norm", pool="use_head", positions="aimv2"),
    "clip_vision_model": _CLIP,
    "deit": Kind(
        "DeiTModel",
        "layers",
        "layernorm",
        ("cls", "dist"),
        options={"add_pooling_layer": False},
        call=_ANY_SIZE,
        ignore=("pooler.", "deit.pooler.", "classifier.", "cls_classifier.", "distillation_classifier."),
    ),
    "dinov2": Kind("Dinov2Model", "encoder.layer", "layernorm", ("cls",), ignore=("classifier.",)),
    "dinov2_with_registers": Kind(
        "Dinov2WithRegistersModel",
        "encoder.layer",
        "layernorm",
        ("cls",),
        more=("reg", "num_register_tokens"),
        ignore=("classifier.",),
    ),
    "dinov3_convnext": Kind("DINOv3ConvNextModel", "model.stages", "layer_norm", positions="none", convolutional=True),
    "dinov3_vit": Kind(
        "DINOv3ViTModel", "model.layer", "norm", ("cls",), more=("reg", "num_register_tokens"), positions="rotary"
    ),
    "metaclip_2_vision_model": replace(_CLIP, tower="MetaClip2VisionModel"),
    "radio": Kind("RadioModel", "encoder.layer", None),
    "siglip_vision_model": Kind(
        "SiglipVisionModel", "encoder.layers", "post_layernorm", pool="vision_use_head", call=_ANY_SIZE
    ),
    "siglip2_vision_model": Kind("Siglip2VisionModel", "encoder.layers", "post_layernorm", pool="vision_use_head"),
    "tipsv2_vision_model": Kind(
        "Tipsv2VisionModel", "encoder.layer", "layernorm", ("cls",), more=("cls2", "num_register_tokens")
    ),
    "vit": Kind(
        "ViTModel",
        "layers",
        "layernorm",
        ("cls",),
        options={"add_pooling_layer": False},
        call=_ANY_SIZE,
        ignore=("pooler.", "vit.pooler.", "classifier."),
    ),
}
"""Image towers, by the `model_type` of their configuration."""


def library(name: str) -> Any:
    """The package. Raises UnavailableError where it is not installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise UnavailableError(
            "package", f"{name} needs transformers ({error}): pip install 'eupe-eval[hf]'"
        ) from error


def tower_config(name: str, values: Mapping[str, Any]) -> Any:
    """The configuration of the image tower, from what config.json says (of a model with two towers: its vision part).

    Raises UsageError for a model type that is not known here, or values that its class does not take.
    """
    transformers = library(name)
    kind = str(values.get("model_type"))
    joint = [type_.removesuffix("_vision_model") for type_ in KINDS if type_.endswith("_vision_model")]
    if kind not in (*KINDS, *joint):
        raise unknown(f"model_type in the configuration of {name}", kind, [*KINDS, *joint])
    if "quantization_config" in values:
        raise UsageError(f"{name} has quantised weights; this suite runs fp32. Use the model that it was made from.")
    # How attention is computed is this machine's matter, and other people's code is never run.
    own = {key: value for key, value in values.items() if "attn_implementation" not in key and key != "auto_map"}
    try:
        with _quiet():
            config = transformers.CONFIG_MAPPING[kind].from_dict(own)
    except KeyError as error:
        raise _too_old(name, transformers, kind) from error
    except (StrictDataclassError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"the configuration of {name} does not fit {kind!r}: {_line(error)}") from error
    return config.vision_config if kind in joint else config


def make(entry: EncoderEntry, config: Any, tensors: Mapping[str, Tensor] | None, what: str) -> Any:
    """The image tower, filled from the tensors of a file, or with its own initialisation from the seed of the entry.

    Every tensor of the tower must be in the file and fit, and the file holds nothing else but what the kind, the other
    tower, and `ignore` of the entry leave out. Raises MisfitError otherwise, UnavailableError for a transformers
    that lacks the class.
    """
    transformers, kind = library(entry.name), KINDS[config.model_type]
    tower = getattr(transformers, kind.tower, None)
    if tower is None:
        raise _too_old(entry.name, transformers, config.model_type)
    if kind.pool is not None:
        setattr(config, kind.pool, entry.global_feature == "attn_pool")
    try:
        with seeded(entry.seed), _quiet():
            if tensors is None:
                return tower(config, **kind.options)
            with torch.device("cpu"):
                return _filled(tower, config, kind, _own_tensors(tensors, kind, entry), what)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{entry.name}: {kind.tower} cannot be made from its configuration: {_line(error)}") from error


def part(name: str, model: Any, path: str) -> Any:
    """A module of a tower by its path. Raises UnavailableError where this transformers names it otherwise."""
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise _too_old(name, library(name), f"{type(model).__name__}.{path}") from error


def _own_tensors(tensors: Mapping[str, Tensor], kind: Kind, entry: EncoderEntry) -> dict[str, Tensor]:
    """The tensors of the image tower: without those of other towers and of heads that are not built."""
    ignore = (*kind.ignore, *entry.ignore)
    if kind.pool is not None and entry.global_feature != "attn_pool":
        ignore += ("head.", *(f"{tower}head." for tower in _TOWERS))
    if any(key.startswith(_TOWERS) for key in tensors):
        ignore += _REST
    own = {}
    for key, tensor in tensors.items():
        if not key.startswith(ignore):
            tower = next((tower for tower in _TOWERS if key.startswith(tower)), "")
            own[key.removeprefix(tower)] = tensor
    return own


def _filled(tower: Any, config: Any, kind: Kind, tensors: Mapping[str, Tensor], what: str) -> Any:
    """Names are converted by transformers, which makes up what is missing and says so; here that is an error.

    From names and shapes alone (tensors on the meta device) it makes a model without values.
    """
    sketch = any(tensor.is_meta for tensor in tensors.values())
    given = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in tensors.items()} if sketch else dict(tensors)
    try:
        model, report = tower.from_pretrained(
            None,
            config=config,
            state_dict=given,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **kind.options,
        )
    except (RuntimeError, KeyError, IndexError) as error:
        raise MisfitError(f"{what} does not fit {kind.tower}: {_line(error)}") from error
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    shapes = [f"{key} {tuple(given)} instead of {tuple(own)}" for key, given, own in sorted(report["mismatched_keys"])]
    if missing or unexpected or shapes or report["error_msgs"]:
        hint = ""
        if kind.pool is not None and any(key.startswith("head.") for key in missing):
            hint = " The file has no attention pool, which is not made up: use the entry with global_feature: none."
        raise MisfitError(f"{what} does not fit {kind.tower}: {differences(missing, unexpected, shapes)}{hint}")
    return model.to("meta") if sketch else model


def _too_old(name: str, transformers: Any, what: str) -> UnavailableError:
    return UnavailableError(
        "package",
        f"{name} needs a transformers with {what}; {transformers.__version__} has none: pip install -U 'eupe-eval[hf]'",
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back the log, the progress bar and the warnings of transformers: what matters is raised as an error."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
