"""RADIO (extra `hf`): transformers' RadioModel, the position rule of one's choice, and the head that meets text.

RADIOv2.5 is read from the hub's safetensors (keys `radio_model.*`) or from the state dict of a release of NVlabs/RADIO
(keys `base_model.*`, `input_conditioner.*`, `_heads.*`), which alone has the heads.
"""

import contextlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.clip import text
from evals.encoders.entry import EncoderEntry
from evals.encoders.hf.models import KINDS, library, make, part
from evals.encoders.hf.tokens import outputs_of, remember, token_features
from evals.encoders.locate import weights_file
from evals.encoders.structure import prefixes
from evals.encoders.weights import complete, image_spec, load_strict, read_tensors, seeded
from evals.errors import UnavailableError, UsageError, WeightsError, unknown
from evals.files import DigestMemo
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, Structure, TextAlignedEncoder

SIZES: Mapping[str, Mapping[str, int]] = {
    "radio_v2.5-b": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
}
"""Width, blocks and attention heads, by upstream's name of a version."""
_RULES = {"radio": False, "radio_aligned": True}
"""`align_corners` of the interpolation of positions, by the rule: True in training, and upstream until June 2025."""
_RELEASE = {"base_model.": "radio_model.model.", "input_conditioner.": "radio_model.input_conditioner."}
"""Beginnings of keys in a release, and in the hub's safetensors."""
_CLIP = "clip"
"""The class token, and the head, that were trained to agree with a CLIP model."""
_HEADS = (f"_heads.{_CLIP}.", "_heads.0.")
"""What the keys of that head begin with: newer releases name teachers, older ones count them."""


class TextHead(nn.Module):
    """From a class token to the space of a teacher: a linear layer, residual blocks, a projection.

    As NVlabs/RADIO documents its heads of version 2 (radio/adaptor_mlp.py); the names are those in the files.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList(_layer(hidden, hidden) for _ in range(blocks))
        self.final = _layer(hidden, outputs)

    def forward(self, token_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B D2"]:
        """The token in the space of the teacher, of any length."""
        x_BD: Tensor = self.fc1(token_BD)
        for block in self.blocks:
            x_BD = x_BD + block(x_BD)
        return cast("Tensor", self.final(x_BD))


class RadioTokens(Encoder):
    """A RADIO. Patches: the tokens that the last block leaves, for there is no final norm, without the prefix.

    The global feature `summary` is the trained class tokens side by side; each is among the others by its name.
    """

    def __init__(self, entry: EncoderEntry, card: EncoderCard, model: Any) -> None:
        structure = _settle(entry, model)
        dim, depth = model.config.hidden_size, model.config.num_hidden_layers
        card = complete(entry, card, model, dim=dim, depth=depth)
        super().__init__(card, image_spec(entry), dim=dim, depth=depth, structure=structure)
        self.model, self._aligned = model, _RULES[entry.positions]
        remember(self, model.config)

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        summary = self.card.global_feature == "summary"
        return _features(self.model, self.structure, images_B3YX, ask, aligned=self._aligned, summary=summary)


class RadioClip(TextAlignedEncoder):
    """A RADIO with the head that takes its class token `clip` to the space of a CLIP model, whose text tower it meets.

    Features are those of RadioTokens. The text tower is another encoder's, and is loaded when text first comes.
    """

    def __init__(self, entry: EncoderEntry, card: EncoderCard, model: Any, head: TextHead) -> None:
        structure = _settle(entry, model)
        dim, depth = model.config.hidden_size, model.config.num_hidden_layers
        card = complete(entry, card, nn.ModuleList([model, head]), dim=dim, depth=depth)
        super().__init__(card, image_spec(entry), dim=dim, depth=depth, structure=structure)
        self.model, self.head, self._aligned = model, head, _RULES[entry.positions]
        remember(self, model.config)
        self._place = structure.alternatives.index(_CLIP)
        # The tower is no module of the encoder, whose tensors must not become more while it is scored. What stands for
        # it is known from the start, so that vectors kept from one tower never serve another.
        self._tower = cache(lambda: text.load_tower(**_tower(entry)))
        self.register_buffer("tower", _tower_digest(entry), persistent=False)

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        return _features(self.model, self.structure, images_B3YX, ask, aligned=self._aligned, summary=True)

    @torch.no_grad()
    def encode_image(self, features: Features) -> Float[Tensor, "B D"]:
        """Unit image vectors: what the head makes of the class token `clip`, a part of the summary."""
        assert features.pooled_BD is not None, "the summary is never absent"
        token_BD = features.pooled_BD[:, self._place * self.dim : (self._place + 1) * self.dim]
        return functional.normalize(self.head(token_BD).float(), dim=-1)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit text vectors. Raises UnavailableError without the text tower, WeightsError for one of another width."""
        tower, width = self._tower(), self.head.final[-1].out_features
        if tower.dim != width:
            raise WeightsError(f"the head of {self.card.name} gives {width} numbers, its text tower {tower.dim}.")
        if isinstance(tower, nn.Module):
            tower.to(self.mean.device)
        return tower.encode(prompts)


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry whose model is a version in SIZES; with `text`, the one that has a head.

    Raises UsageError where the entry does not fit, UnavailableError without transformers or weights.
    """
    if entry.model not in SIZES:
        raise unknown(f"model of encoder {entry.name!r}", entry.model, list(SIZES))
    if entry.global_feature != "summary" and (entry.text or entry.global_feature != "none"):
        raise UsageError(f"global_feature of encoder {entry.name!r} is {entry.global_feature!r}; a RADIO has summary.")
    config, path = _config(entry), weights_file(entry)
    tensors = None if path is None else read_tensors(path)
    model = make(entry, config, None if tensors is None else _as_on_the_hub(tensors, config), str(path))
    if not entry.text:
        return RadioTokens(entry, card, model)
    if _CLIP not in (entry.prefix or ()) or entry.text_tower is None:
        raise UsageError(f"encoder {entry.name!r} has text: it needs a class token {_CLIP} in prefix, and text_tower.")
    return RadioClip(entry, card, model, _head(entry, config, tensors, str(path)))


def radio_defaults(config: Any) -> dict[str, Any]:
    """The fields of an entry that the configuration of a RadioModel tells, which normalises its images itself."""
    return {"mean": tuple(config.norm_mean), "std": tuple(config.norm_std), "positions": "radio"}


def _config(entry: EncoderEntry) -> Any:
    """The configuration that the entry describes. Raises UsageError for one without its prefix."""
    if entry.prefix is None:
        raise UsageError(f"the entry of encoder {entry.name!r} lacks prefix: a RADIO names its class tokens there.")
    classes = [word for word in entry.prefix if word != "reg"]
    return library(entry.name).RadioConfig(
        **SIZES[entry.model],
        patch_size=entry.patch,
        num_cls_tokens=len(classes),
        num_registers=len(entry.prefix) - len(classes),
        summary_idxs=[index for index, word in enumerate(classes) if not word.startswith("(")],
        norm_mean=entry.mean,
        norm_std=entry.std,
    )


def _as_on_the_hub(tensors: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """The tensors of a release under the names that the hub's file has, which keeps the indices of the summary too."""
    renamed = {}
    for key, tensor in tensors.items():
        start = next((start for start in _RELEASE if key.startswith(start)), "")
        renamed[_RELEASE.get(start, "") + key.removeprefix(start)] = tensor
    released = any(key.startswith(tuple(_RELEASE)) for key in tensors)
    return {"radio_model.summary_idxs": torch.tensor(config.summary_idxs), **renamed} if released else renamed


def _settle(entry: EncoderEntry, model: Any) -> Structure:
    """Take out of the model what is the contract's business or does nothing, and tell what it is made of.

    Raises UsageError where the entry says other colours, prefix tokens or positions than the model has.
    """
    config, conditioner = model.config, model.input_conditioner
    own = [f"cls{i}" if i in config.summary_idxs else f"(cls{i})" for i in range(config.num_cls_tokens)]
    own += ["reg"] * config.num_registers
    prefix = prefixes(own if entry.prefix is None else entry.prefix)
    classes = [token for token in prefix if token.name != "reg"]
    trained = [index for index, token in enumerate(classes) if token.trained]
    kept = list(config.summary_idxs) if model.summary_idxs.is_meta else model.summary_idxs.tolist()
    if (len(prefix), len(classes), trained) != (len(own), config.num_cls_tokens, kept):
        raise UsageError(f"prefix of encoder {entry.name!r} is not like that of its model: {' '.join(own)}.")
    if entry.positions not in _RULES:
        raise UsageError(
            f"positions of encoder {entry.name!r} is {entry.positions!r}; it is one of {', '.join(_RULES)}."
        )
    colours = torch.stack([conditioner.norm_mean.flatten(), conditioner.norm_std.flatten()])
    # Releases may hold them in half precision.
    if not colours.is_meta and not torch.allclose(colours, torch.tensor([entry.mean, entry.std]), rtol=0, atol=2e-3):
        raise UsageError(f"mean and std of encoder {entry.name!r} are not those of its model: {colours.tolist()}.")
    # Images come here normalised: once, by the contract.
    model.make_preprocessor_external()
    for block in part(entry.name, model, KINDS["radio"].blocks):
        scales = (block.layer_scale1.lambda1, block.layer_scale2.lambda1)
        if all(config.layerscale_value == 1 if scale.is_meta else bool((scale == 1).all()) for scale in scales):
            # RADIO has no layer scales; transformers multiplies by ones.
            block.layer_scale1 = block.layer_scale2 = nn.Identity()
    names = tuple(token.name for token in classes if token.trained)
    return Structure(prefix, entry.norm or "none_exists", f"learnt, {entry.positions} rule for other grids", names)


def _features(
    model: Any, structure: Structure, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask, *, aligned: bool, summary: bool
) -> Features:
    """One pass from normalised images."""
    patch, blocks = model.config.patch_size, model.encoder.layer
    grid = (images_B3YX.shape[2] // patch, images_B3YX.shape[3] // patch)
    pixels_BNP = functional.unfold(images_B3YX, patch, stride=patch).transpose(1, 2)
    stem = model.embeddings
    patches_BND = stem.patch_projection(pixels_BNP) + cropped(stem.position_embedding, grid, aligned=aligned)
    prefix_BPD = stem.cls_register_token.expand(len(images_B3YX), -1, -1)
    tokens_BTD = torch.cat([prefix_BPD, patches_BND], dim=1)
    left = outputs_of(blocks, (*ask.layers, len(blocks) - 1), lambda: model.encoder(tokens_BTD))
    trained = [index for index, token in enumerate(structure.prefix) if token.name in structure.alternatives]
    return token_features(
        left, lambda x_BTD: x_BTD, lambda x_BTD: x_BTD[:, trained].flatten(1) if summary else None, structure, grid, ask
    )


def cropped(table_1PD: Float[Tensor, "1 P D"], grid: tuple[int, int], *, aligned: bool) -> Float[Tensor, "1 N D"]:
    """RADIO's positions of a grid: the square table at the longer side (bilinear), cropped to its upper left part."""
    side, longer = int(table_1PD.shape[1] ** 0.5), max(grid)
    square = table_1PD.reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    square = functional.interpolate(square, size=(longer, longer), mode="bilinear", align_corners=aligned)
    return square[:, :, : grid[0], : grid[1]].flatten(2).transpose(1, 2)


def _head(entry: EncoderEntry, config: Any, tensors: Mapping[str, Tensor] | None, what: str) -> TextHead:
    """The head of a file, whose sizes the file tells; without one, upstream's sizes for v2.5 and random weights.

    Raises WeightsError for a file without it, or with a head of another kind.
    """
    if tensors is None:
        with seeded(entry.seed):
            return TextHead(config.hidden_size, 1520, 1024, blocks=3)
    start = next((start for start in _HEADS if any(key.startswith(start) for key in tensors)), None)
    if start is None:
        raise WeightsError(
            f"{what} has no keys {' or '.join(f'{start}*' for start in _HEADS)}: the head of {entry.name} is in the "
            "releases of NVlabs/RADIO alone (.pth.tar). Get one, and pass what `eupe-eval convert` makes of it."
        )
    own = {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
    into, out = own.get("fc1.weight"), own.get("final.2.weight")
    if into is None or out is None or into.ndim != 2 or into.shape[1] != config.hidden_size:
        found = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in sorted(own.items())[:5])
        raise WeightsError(
            f"{what}: the head {start}* is of another kind than fc1 (of {config.hidden_size} numbers), blocks, final: "
            f"it has {found}."
        )
    inner = len({key.split(".")[1] for key in own if key.startswith("blocks.")})
    head = TextHead(config.hidden_size, len(into), len(out), inner)
    load_strict(head, own, what=f"{what}: {start}*")
    return head


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(inputs), nn.GELU(), nn.Linear(inputs, outputs))


def _tower(entry: EncoderEntry) -> dict[str, Any]:
    """Which text tower: the published one, or a random one for a random encoder."""
    random = {"weights": "random", "seed": entry.seed} if entry.weights == "random" else {}
    return {"name": entry.text_tower, "digests": DigestMemo(None), **random}


def _tower_digest(entry: EncoderEntry) -> Tensor:
    """The identity of the text tower, as bytes; zeros where it is not here, so that no text can be met."""
    digest = bytes(32)
    # A blueprint has no weights to stand for.
    if torch.get_default_device().type != "meta":
        with contextlib.suppress(UnavailableError):
            digest = bytes.fromhex(text.tower_identity(**_tower(entry)))
    return torch.tensor(list(digest), dtype=torch.uint8)
