"""Encoders that the code of a repository builds (`torch.hub`): only where the user trusts it, only at a pinned commit.

The model's `forward_features` gives a dictionary with `x_norm_patchtokens`, `x_norm_clstoken` and `x_prenorm` (all
tokens before the norm, prefix first), as DINOv2 and its kin do, or all tokens, prefix first.
"""

import contextlib
import io
import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from evals.encoders.entry import EncoderEntry
from evals.encoders.hub import COMMIT
from evals.encoders.locate import weights_file
from evals.encoders.routes import require_trust, untold
from evals.encoders.structure import prefixes
from evals.encoders.tokens import as_map
from evals.encoders.weights import complete, image_spec, load_strict, read_tensors, seeded
from evals.errors import UnavailableError, UsageError
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, Structure

_MODEL = re.compile(rf"([\w.-]+/[\w.-]+)@({COMMIT.pattern}):(\w+)")
_TOLD = {
    "patch": ("patch", "16"),
    "size": ("size", "224"),
    "mean": ("normalise", "imagenet"),
    "std": ("normalise", "imagenet"),
    "global_feature": ("global_feature", "cls"),
    "prefix": ("prefix", "cls"),
    "norm": ("norm", "final"),
}
"""What no repository tells: the key that says it, with an example."""


class HubTokens(Encoder):
    """Patches and class token as the repository's own code hands them out; layers where it has
    `get_intermediate_layers`.
    """

    def __init__(self, entry: EncoderEntry, card: EncoderCard, model: Any) -> None:
        assert entry.prefix is not None and entry.norm is not None, "build asks for them"
        depth = len(model.blocks) if callable(getattr(model, "get_intermediate_layers", None)) else 0
        dim = int(model.embed_dim)
        prefix = prefixes(entry.prefix)
        alternatives = ("cls",) if any(token.name == "cls" and token.trained for token in prefix) else ()
        structure = Structure(prefix, entry.norm, "as the repository's code tells them", alternatives)
        super().__init__(
            complete(entry, card, model, dim=dim, depth=depth),
            image_spec(entry),
            dim=dim,
            depth=depth,
            structure=structure,
        )
        self.model = model

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass, and another for layers."""
        grid = [side // self.spec.patch for side in images_B3YX.shape[2:]]
        cls_BD, patches_BND = self._read(self.model.forward_features(images_B3YX), ask)
        others = {} if cls_BD is None else {"cls": cls_BD.float()}
        maps: Mapping[int, Tensor] = {}
        if ask.layers:
            wanted = sorted({*ask.layers})
            found = self.model.get_intermediate_layers(images_B3YX, n=wanted, norm=ask.norm)
            maps = dict(zip(wanted, found, strict=True))
        pooled_BD = others.get("cls") if self.card.global_feature == "cls" else None
        layers = tuple(as_map(maps[layer], *grid) for layer in ask.layers)
        return Features(pooled_BD, as_map(patches_BND, *grid), layers, others)

    def _read(self, out: Any, ask: Ask) -> tuple[Tensor | None, Tensor]:
        """Class token and patches of what `forward_features` gave. Raises UsageError for what is not among it."""
        count, names = len(self.structure.prefix), [token.name for token in self.structure.prefix]
        if isinstance(out, Tensor) and out.ndim == 3 and (ask.norm or self.structure.norm == "none_exists"):
            cls_BD, patches_BND = out[:, names.index("cls")] if "cls" in names else None, out[:, count:]
        elif isinstance(out, Mapping) and "x_norm_patchtokens" in out and (ask.norm or "x_prenorm" in out):
            cls_BD = out.get("x_norm_clstoken")
            patches_BND = out["x_norm_patchtokens"] if ask.norm else out["x_prenorm"][:, count:]
        else:
            what = f"a dictionary of {', '.join(map(str, out))}" if isinstance(out, Mapping) else type(out).__name__
            raise UsageError(
                f"forward_features of {self.card.model} gave {what}; needed: x_norm_patchtokens, x_norm_clstoken and, "
                "for features before the norm, x_prenorm; or one tensor of all tokens."
            )
        return (cls_BD if "cls" in self.structure.alternatives else None), patches_BND


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry whose model is `<owner>/<repository>@<commit>:<entry point>`.

    `hub` weights are those that the entry point loads when called with `pretrained=True`; a file is loaded strictly
    into what `pretrained=False` builds. Raises UsageError without the user's trust or for an entry point that does
    not fit, UnavailableError where the repository or its weights cannot be had.
    """
    require_trust(entry.model)
    repository, commit, point = _parts(entry.model)
    possible = ("cls", "none") if "cls" in (entry.prefix or ()) else ("none",)
    if entry.prefix is None or entry.norm is None or entry.global_feature not in possible:
        raise UsageError(
            f"the entry of encoder {entry.name!r} needs prefix, norm, and a global_feature that is none, or cls where "
            "the prefix has a trained one."
        )
    with seeded(entry.seed):
        model = _load(entry, repository, commit, point)
    path = weights_file(entry)
    if path is not None:
        load_strict(model, read_tensors(path), what=str(path), ignore=entry.ignore)
    return HubTokens(entry, card, model)


def derive(name: str, model: str, given: Mapping[str, Any]) -> EncoderEntry:
    """The entry of an entry point, for which everything but its width and depth must be given.

    Raises UsageError for what was not, for a commit that is not whole, and without the user's trust.
    """
    _parts(model)
    require_trust(model)
    if missing := [key for key in _TOLD if key not in given]:
        examples = {_TOLD[key][0]: _TOLD[key][1] for key in missing}
        raise untold(name, f"a repository's code does not tell {', '.join(examples)}", **examples)
    told: dict[str, Any] = {"licence": "unknown", **given}
    return EncoderEntry(name=name, source="torch_hub", model=model, **told)


def _parts(model: str) -> tuple[str, str, str]:
    parts = _MODEL.fullmatch(model)
    if parts is None:
        raise UsageError(
            f"hub:{model} must be hub:<owner>/<repository>@<commit>:<entry point>, the commit in all its 40 "
            "hexadecimal digits: a branch or a tag may come to mean other code."
        )
    return parts[1], parts[2], parts[3]


def _load(entry: EncoderEntry, repository: str, commit: str, point: str) -> Any:
    # Builders of other people's repositories compute with small tensors as they go, which the meta device refuses.
    blueprint, load = torch.get_default_device().type == "meta", cast("Any", torch.hub.load)
    try:
        with torch.device("cpu"), contextlib.redirect_stdout(io.StringIO()):
            model = load(
                f"{repository}:{commit}", point, trust_repo=True, verbose=False, pretrained=entry.weights == "hub"
            )
    # Somebody else's code may fail in ways that nobody foresaw; whose it is must be told.
    except Exception as error:
        raise UnavailableError(
            "weights",
            f"{entry.name}: {point} of {repository} at {commit} cannot be called with `pretrained` "
            f"({type(error).__name__}: {error}). torch.hub keeps repositories in {torch.hub.get_dir()} and fetches "
            "what is not there; with --weights PATH only the code is needed.",
        ) from error
    if missing := [name for name in ("forward_features", "embed_dim") if getattr(model, name, None) is None]:
        raise UsageError(f"{entry.name}: what {point} of {repository} builds has no {' and no '.join(missing)}.")
    return model.to("meta") if blueprint else model
