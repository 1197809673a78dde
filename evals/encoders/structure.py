"""What a model of timm is made of, as data: its prefix tokens, its final norm, how it tells positions."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from evals.encoders.entry import EncoderEntry
from evals.encoders.positions import table_of
from evals.errors import UsageError
from evals.types import Norm, Prefix, Structure


def token_structure(entry: EncoderEntry, model: Any) -> Structure:
    """The structure of a transformer, from the model and what its entry says of it.

    Raises UsageError where the entry names another number of prefix tokens than the model has, or denies its norm.
    """
    words = entry.prefix if entry.prefix is not None else derived_prefix(model)
    if len(words) != model.num_prefix_tokens:
        raise UsageError(
            f"prefix of encoder {entry.name!r} is {' '.join(words) or 'none'!r}, {len(words)} tokens; "
            f"{entry.model} has {model.num_prefix_tokens}."
        )
    prefix = prefixes(words)
    alternatives = tuple(token.name for token in prefix if token.trained and token.name != "reg")
    return Structure(prefix, agreed_norm(entry, derived_norm(model)), _positions(entry, model), alternatives)


def prefixes(words: Sequence[str]) -> tuple[Prefix, ...]:
    """From the words of an entry; parentheses mean that nothing asked the token for an output in training."""
    return tuple(Prefix(word.strip("()"), trained=not word.startswith("(")) for word in words)


def derived_prefix(model: Any) -> tuple[str, ...]:
    """The prefix tokens of a model: an output only where there is a norm and no attention pool takes that part."""
    has_class = class_token_of(model) is not None
    trained = derived_norm(model) == "final" and getattr(model, "attn_pool", None) is None
    first = [("cls" if trained else "(cls)")] if has_class else []
    # DeiT's second token learns a teacher's labels.
    first += ["dist"] if getattr(model, "dist_token", None) is not None else []
    return (*first, *["reg"] * (model.num_prefix_tokens - len(first)))


def derived_norm(model: Any) -> Norm:
    """Whether patch tokens go through a final norm."""
    return "none_exists" if isinstance(model.norm, nn.Identity) else "final"


def agreed_norm(entry: EncoderEntry, own: Norm) -> Norm:
    """The norm of an entry, or the model's own where it says nothing.

    Raises UsageError for an entry that denies a norm which the model applies, or names one that it lacks.
    """
    if entry.norm is not None and (entry.norm == "none_exists") != (own == "none_exists"):
        raise UsageError(
            f"the entry of encoder {entry.name!r} says norm {entry.norm!r}; {entry.model} has "
            f"{'none' if own == 'none_exists' else 'one'}: leave norm out."
        )
    return entry.norm or own


def class_token_of(model: Any) -> Tensor | None:
    """The class token of a model of timm, which a NaFlexVit keeps among its embeddings; None where it has none."""
    token: Tensor | None = getattr(getattr(model, "embeds", model), "cls_token", None)
    return token


def class_tokens(structure: Structure, tokens_BTD: Float[Tensor, "B T D"]) -> Mapping[str, Float[Tensor, "B D"]]:
    """The trained class tokens by name."""
    return {
        token.name: tokens_BTD[:, index].float()
        for index, token in enumerate(structure.prefix)
        if token.name in structure.alternatives
    }


def _positions(entry: EncoderEntry, model: Any) -> str:
    learnt = table_of(model) is not None
    kinds = ["learnt"] if learnt else []
    kinds += ["rotary"] if getattr(model, "rope", None) is not None else []
    rule = f", {entry.positions} rule for other grids" if learnt else ""
    return (" and ".join(kinds) or "none") + rule
