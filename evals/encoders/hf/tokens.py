"""Running image towers of transformers: what the blocks leave, the final norm, and the global feature."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.entry import EncoderEntry
from evals.encoders.hf.models import KINDS, Kind, part
from evals.encoders.structure import class_tokens, prefixes
from evals.encoders.tokens import as_map, last_channels
from evals.encoders.weights import complete, image_spec
from evals.errors import DataError, UsageError
from evals.record import EncoderCard
from evals.types import Ask, ConvEncoder, Encoder, Features, Structure

Norm = Callable[[Tensor], Tensor]


class HfTokens(Encoder):
    """A vision transformer. Patches: tokens after the final norm without the prefix (class and register tokens).

    The global feature is token 0 after the final norm (`cls`) or the attention pool (`attn_pool`). Nothing is taken
    from the library's outputs, whose fields differ in meaning between models (CLIP's last_hidden_state has no norm):
    the tokens are those that the blocks leave.
    """

    def __init__(self, entry: EncoderEntry, card: EncoderCard, model: Any) -> None:
        kind, config = KINDS[model.config.model_type], model.config
        blocks = part(entry.name, model, kind.blocks)
        dim, depth = config.hidden_size, len(blocks)
        card = complete(entry, card, model, dim=dim, depth=depth)
        super().__init__(card, image_spec(entry), dim=dim, depth=depth, structure=_structure(entry, kind, config))
        self.model, self._kind = model, kind
        remember(self, config)

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        rows, columns = (side // self.spec.patch for side in images_B3YX.shape[2:])
        self._check_grid(rows, columns)
        inputs = self._inputs(images_B3YX, rows, columns)
        blocks = self.model.get_submodule(self._kind.blocks)
        left = outputs_of(blocks, (*ask.layers, self.depth - 1), lambda: self.model(**inputs))
        norm: Norm = self.model.get_submodule(self._kind.norm)
        return token_features(left, norm, self._pool, self.structure, (rows, columns), ask)

    def _inputs(self, images_B3YX: Tensor, rows: int, columns: int) -> Mapping[str, object]:
        if self._kind.tower != "Siglip2VisionModel":
            return {"pixel_values": images_B3YX, **self._kind.call}
        # This one takes patches whose channels come last, and the grid of each image; without padding, no mask.
        patch = self.spec.patch
        patches = images_B3YX.reshape(-1, 3, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1)
        return {
            "pixel_values": patches.flatten(3).flatten(1, 2),
            "pixel_attention_mask": None,
            "spatial_shapes": torch.tensor([[rows, columns]] * len(images_B3YX)),
        }

    def _check_grid(self, rows: int, columns: int) -> None:
        if self._kind.positions != "aimv2" or self.model.config.is_native:
            return
        native = self.model.config.image_size // self.spec.patch
        if (rows, columns) != (native, native):
            raise DataError(
                f"{self.card.name} has positions for {native} x {native} patches and no rule for other grids; got "
                f"{rows} x {columns}."
            )

    def _pool(self, tokens_BTD: Tensor) -> Tensor | None:
        if self.card.global_feature == "cls":
            return tokens_BTD[:, 0]
        return cast("Tensor", self.model.head(tokens_BTD)) if self.card.global_feature == "attn_pool" else None


class HfConv(ConvEncoder):
    """A ConvNeXt. Patches: the last map under the final norm, location by location (stride 32).

    The global feature `gap_norm` is the final norm of the mean of the raw map. Layers are stages; those before the
    last have no norm of their own and come as they are, on their finer grids.
    """

    def __init__(self, entry: EncoderEntry, card: EncoderCard, model: Any) -> None:
        kind, config = KINDS[model.config.model_type], model.config
        stages = part(entry.name, model, kind.blocks)
        dim, depth = config.hidden_sizes[-1], len(stages)
        card = complete(entry, card, model, dim=dim, depth=depth)
        super().__init__(card, image_spec(entry), dim=dim, depth=depth, structure=_structure(entry, kind, config))
        self.model, self._kind = model, kind
        remember(self, config)

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        last = self.depth - 1
        left = self._stages(images_B3YX, (*ask.layers, last))
        maps = {stage: last_channels(map_) for stage, map_ in left.items()}
        if ask.norm:
            maps[last] = self._norm(maps[last])
        return Features(self._pooled(left[last]), maps[last], tuple(maps[layer] for layer in ask.layers))

    def encode_on_grid(self, images_B3YX: Float[Tensor, "B 3 Y X"], grid: tuple[int, int]) -> Features:
        """One pass whose raw map is resized (bilinear, antialias) before the final norm."""
        x_BDHW = self._stages(images_B3YX, (self.depth - 1,))[self.depth - 1]
        resized = functional.interpolate(x_BDHW, size=grid, mode="bilinear", antialias=True, align_corners=False)
        return Features(self._pooled(x_BDHW), self._norm(last_channels(resized)))

    def _stages(self, images_B3YX: Tensor, wanted: Sequence[int]) -> Mapping[int, Tensor]:
        stages = self.model.get_submodule(self._kind.blocks)
        return outputs_of(stages, wanted, lambda: self.model(images_B3YX))

    def _norm(self, x_BHWD: Tensor) -> Tensor:
        return cast("Tensor", self.model.get_submodule(self._kind.norm)(x_BHWD)).float()

    def _pooled(self, x_BDHW: Tensor) -> Tensor | None:
        return self._norm(x_BDHW.mean((2, 3))) if self.card.global_feature == "gap_norm" else None


def outputs_of(blocks: nn.ModuleList, wanted: Iterable[int], run: Callable[[], object]) -> dict[int, Tensor]:
    """What some blocks return during a pass, by their index; nothing else is kept."""
    kept: dict[int, Tensor] = {}

    def keep(index: int) -> Callable[[nn.Module, object, Tensor | tuple[Tensor, ...]], None]:
        def hook(block: nn.Module, given: object, output: Tensor | tuple[Tensor, ...]) -> None:
            kept[index] = output[0] if isinstance(output, tuple) else output

        return hook

    with contextlib.ExitStack() as hooks:
        for index in set(wanted):
            hooks.callback(blocks[index].register_forward_hook(keep(index)).remove)
        run()
    return kept


def token_features(
    left: Mapping[int, Tensor],
    norm: Norm,
    pool: Callable[[Tensor], Tensor | None],
    structure: Structure,
    grid: tuple[int, int],
    ask: Ask,
) -> Features:
    """Features from the tokens that the blocks left, the last of which is the greatest index."""

    def shown(tokens_BTD: Tensor) -> Tensor:
        return as_map(tokens_BTD[:, len(structure.prefix) :], *grid)

    last = max(left)
    final_BTD = norm(left[last])
    normed = {index: final_BTD if index == last else norm(left[index]) for index in left} if ask.norm else left
    pooled = pool(final_BTD)
    return Features(
        None if pooled is None else pooled.float(),
        shown(normed[last]),
        tuple(shown(normed[layer]) for layer in ask.layers),
        class_tokens(structure, final_BTD),
    )


def remember(encoder: Encoder, config: Any) -> None:
    """Make the configuration part of the encoder's digest: eps and activations stand in no tensor of the weights."""
    text = json.dumps(config.to_dict(), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).digest()
    encoder.register_buffer("configuration", torch.tensor(list(digest), dtype=torch.uint8), persistent=False)


def _structure(entry: EncoderEntry, kind: Kind, config: Any) -> Structure:
    """Raises UsageError where the entry has another number of prefix tokens, or a rule that is not for this model."""
    if entry.positions != "library":
        raise UsageError(f"positions of encoder {entry.name!r} is {entry.positions!r}; {kind.tower} has its own rule.")
    found = list(kind.prefix)
    if kind.more is not None:
        word, key = kind.more
        found += [word] * getattr(config, key)
    words = found if entry.prefix is None else entry.prefix
    if len(words) != len(found):
        raise UsageError(
            f"prefix of encoder {entry.name!r} is {' '.join(words) or 'none'!r}, {len(words)} tokens; "
            f"{entry.model} has {len(found)}: {' '.join(found) or 'none'}."
        )
    prefix = prefixes(words)
    alternatives = tuple(token.name for token in prefix if token.trained and token.name != "reg")
    return Structure(prefix, entry.norm or "final", _positions(kind, config), alternatives)


def _positions(kind: Kind, config: Any) -> str:
    if kind.positions == "aimv2":
        return "computed" if config.is_native else "learnt, for the native grid alone"
    return "learnt, library rule for other grids" if kind.positions == "learnt" else kind.positions
