"""From the names of a checkpoint to those of timm's model, without losing what timm's own conversion would drop."""

import contextlib
import importlib
import io
from collections.abc import Mapping
from typing import Any

from timm.models.eva import Eva
from torch import Tensor

from evals.encoders.entry import EncoderEntry
from evals.encoders.locate import weights_file
from evals.errors import WeightsError

_PERIODS = "rope_embed.periods"
_RESAMPLED: Mapping[str, tuple[str, ...]] = {
    "pos_embed": ("pos_embed", "positional_embedding"),
    "patch_embed.proj.weight": ("patch_embed.proj.weight", "patchifier.proj.weight", "patch_generator.embedder.weight"),
}
"""timm's key of what its filters would make fit -> how the keys of files end that hold it."""
_RADIO = "radio_model.model."
_RADIO_KNOWN = ("patch_generator.embedder.weight", "patch_generator.pos_embed", "patch_generator.cls_token.", "blocks.")
_SUMMARY = "radio_model.summary_idxs"
_TWINS = (("norms.3.weight", "norm.weight"), ("norms.3.bias", "norm.bias"))
"""Keys of the DINOv3 layout of ConvNeXts that hold its final norm a second time; timm drops the first of each pair."""
_FILTER_FAILURES = (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError)


def to_timm(tensors: Mapping[str, Tensor], model: Any, entry: EncoderEntry) -> Mapping[str, Tensor]:
    """A file's tensors under timm's names, by timm's own filter; one that does not fit comes back as it is.

    The filter would fit patch kernels and position tables of another size by resampling them; those stay as they are,
    for they belong to another entry.
    """
    tensors = _fold_masks(tensors, model, entry)
    _check_twins(tensors, entry)
    convert = getattr(importlib.import_module(type(model).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return tensors
    beyond = _beyond_radio(tensors, model, entry)
    # The filter prints when it drops what a model has no place for.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(*_FILTER_FAILURES):
        converted: dict[str, Tensor] = convert(dict(tensors), model)
        return {**converted, **_resampled(tensors, converted, model), **beyond}
    return tensors


def restore_periods(model: Any, tensors: Mapping[str, Tensor], entry: EncoderEntry) -> None:
    """Use the rotary periods of the checkpoint where it has them: timm makes its own, and files may hold rounded ones.

    Where the file lacks them (timm's hub files dropped them), they are rounded as the entry says they were in training.
    Raises WeightsError when their number is another.
    """
    own = getattr(getattr(model, "rope", None), "periods", None)
    if _PERIODS not in tensors:
        if own is not None and entry.rope_periods == "bf16":
            own.copy_(own.bfloat16().float())
        return
    given = tensors[_PERIODS].float()
    if given.is_meta and own is not None and own.shape == given.shape:
        return
    if own is None or own.shape != given.shape or not bool(((given > 0) & given.isfinite()).all()):
        wanted = "none" if own is None else f"{own.numel()} positive numbers"
        raise WeightsError(
            f"{weights_file(entry)}: {_PERIODS} holds {given.tolist()}; the architecture takes {wanted}."
        )
    own.copy_(given)


def classifier_keys(model: Any) -> list[str]:
    """Prefixes of the keys of a classifier, which is not built."""
    names = model.pretrained_cfg.get("classifier") or ()
    return [f"{name}." for name in ([names] if isinstance(names, str) else names)]


def _resampled(tensors: Mapping[str, Tensor], converted: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """What the filter made fit by resampling, as the file has it."""
    found = {}
    for key, made in converted.items():
        givens = [value for name, value in tensors.items() if name.endswith(_RESAMPLED.get(key, key))]
        if key not in _RESAMPLED or not givens:
            continue
        # A table may lose the rows of the prefix: timm keeps these in the tokens themselves.
        rows = range(model.num_prefix_tokens + 1) if key == "pos_embed" else range(1)
        if not any(made.numel() + lost * made.shape[-1] == given.numel() for given in givens for lost in rows):
            found[key] = givens[0]
    return found


def _beyond_radio(tensors: Mapping[str, Tensor], model: Any, entry: EncoderEntry) -> dict[str, Tensor]:
    """What timm's filter would leave out of a RADIO's file though it belongs to the encoder.

    Raises WeightsError for a file whose summary is of other class tokens than the entry's.
    """
    summary = tensors.get(_SUMMARY)
    if summary is not None and not summary.is_meta:
        words = [word for word in entry.prefix or () if word != "reg"]
        trained = [index for index, word in enumerate(words) if not word.startswith("(")]
        if sorted(summary.tolist()) != trained:
            raise WeightsError(
                f"{weights_file(entry)}: the summary is of class tokens {summary.tolist()}; the prefix of the entry "
                f"{entry.name!r}, {' '.join(words)!r}, says {trained}."
            )
    inside = {key: value for key, value in tensors.items() if key.startswith(_RADIO)}
    return {key: value for key, value in inside.items() if not key.removeprefix(_RADIO).startswith(_RADIO_KNOWN)}


def _fold_masks(tensors: Mapping[str, Tensor], model: Any, entry: EncoderEntry) -> Mapping[str, Tensor]:
    """Biases of the DINOv3 layout times their 0/1 masks. Raises WeightsError where that leaves what timm would drop."""
    if "storage_tokens" not in tensors or not isinstance(model, Eva):
        return tensors
    folded, file = dict(tensors), weights_file(entry)
    first: Any = model.blocks[0]
    biased = first.attn.q_bias is not None
    for key in [key for key in tensors if key.endswith("attn.qkv.bias")]:
        mask = tensors.get(f"{key}_mask")
        if mask is not None and mask.shape != tensors[key].shape:
            raise WeightsError(f"{file}: {key}_mask has another shape than its bias: {tuple(mask.shape)}.")
        folded[key] = tensors[key] if mask is None else tensors[key] * mask
        query, keys, value = folded[key].chunk(3)
        if mask is not None and not _zero(keys):
            raise WeightsError(f"{file}: {key}: the mask leaves a bias on the keys, which {entry.model} lacks.")
        if not biased and not (_zero(query) and _zero(value)):
            raise WeightsError(
                f"{file}: {key} is not zero, and {entry.model} has no such bias: use timm's *_qkvb model."
            )
    return folded


def _check_twins(tensors: Mapping[str, Tensor], entry: EncoderEntry) -> None:
    """Raises WeightsError where a file holds the final norm twice and differently."""
    for twin, key in _TWINS:
        if twin in tensors and key in tensors and not _equal(tensors[twin], tensors[key]):
            raise WeightsError(
                f"{weights_file(entry)}: {twin} is not {key}, though both are the final norm: the file is "
                "damaged, or of another model."
            )


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether every value is the same, as far as there are values."""
    return one.shape == other.shape and (one.is_meta or other.is_meta or bool((one == other).all()))


def _zero(tensor: Tensor) -> bool:
    """Whether every value is 0, as far as there are values."""
    return tensor.is_meta or not bool(tensor.any())
