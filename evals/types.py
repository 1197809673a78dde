"""The contract between encoders and everything that uses them.

Legend of shape letters, one for the whole project:
B batch, N items (images, samples), H W token grid (rows, columns), D channels of a feature, Y X pixels (rows, columns),
C classes, K neighbours or key points, T prompts, L layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evals.errors import DataError, UsageError
from evals.record import EncoderCard

Triple = tuple[float, float, float]
Filter = Literal["bilinear", "bicubic"]
Norm = Literal["final", "untrained", "none_exists", "prenorm"]
"""What was applied to patch features: the trained final norm; one that was never trained; nothing, because the model
has none; nothing, because the caller wanted none."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What an encoder wants of an image: it fills in what the protocol leaves open (geometry is the protocol's)."""

    size: int
    """Native side in pixels: what the weights were published at."""
    patch: int
    """Pixels a token, along each axis (the stride of a convolutional encoder); inputs must be multiples of it."""
    interpolation: Filter
    antialias: bool
    resize: Literal["crop", "squash"]
    """How the encoder's own pipeline makes a square: short side and centre crop, or both sides at once."""
    mean: Triple
    """Channel means of RGB in [0, 1]; subtracted inside the encoder and nowhere else."""
    std: Triple


@dataclass(frozen=True, slots=True)
class Prefix:
    """A token before the patches."""

    name: str
    """`cls`, `reg`, or the name of what a class token was trained for (`clip`, `siglip`, ...)."""
    trained: bool = True
    """False: it is in the sequence, but nothing ever asked it for an output."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What an adapter found in the model that it built: data about the encoder, no switches."""

    prefix: tuple[Prefix, ...] = ()
    """Tokens before the patches, in the order of the sequence; none of them is ever among the patches."""
    norm: Norm = "none_exists"
    """What the patch features go through at the end."""
    positions: str = "none"
    """How positions are told, and by which rule for a grid that is not the native one."""
    alternatives: tuple[str, ...] = ()
    """Keys of `Features.others`."""

    def describe(self) -> dict[str, str]:
        """Words for cards and tables; a token in parentheses was never trained as an output."""
        words = [token.name if token.trained else f"({token.name})" for token in self.prefix]
        return {
            "prefix": " ".join(words) or "none",
            "norm": self.norm,
            "positions": self.positions,
            "alternatives": " ".join(self.alternatives) or "none",
        }


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller wants of a pass beside the features of the last layer."""

    layers: tuple[int, ...] = ()
    """Blocks (stages), 0 to depth - 1, in any order."""
    norm: bool = True
    """The final norm on patch features and layers; the global feature keeps its own definition."""
    rope_scales_L: Float[Tensor, " L"] | None = None
    """Factors of the rotary coordinates, one a block."""


@dataclass(frozen=True, slots=True)
class Features:
    """One forward pass."""

    pooled_BD: Float[Tensor, "B D"] | None
    """The documented global feature of the encoder; None where it has none ("no cls")."""
    patches_BHWD: Float[Tensor, "B H W D"]
    """Patch tokens of the last layer after the final norm where one exists, prefix tokens removed, row-major."""
    layers: tuple[Float[Tensor, "B H W D"], ...] = ()
    """Maps of the layers that were asked for, in the order asked, with the final norm applied."""
    others: Mapping[str, Float[Tensor, "B _"]] = field(default_factory=dict)
    """Named alternatives to the global feature (class tokens, the pool after its projection, ...)."""


class Encoder(nn.Module, ABC):
    """A frozen vision encoder: always in eval mode, without gradients, in fp32 weights.

    A subclass implements `encode` and nothing else of the call; normalisation and every check live here, so that no
    adapter can forget them.
    """

    card: EncoderCard
    spec: ImageSpec
    mean: Tensor
    std: Tensor
    dim: int
    """Channels of a patch feature."""
    depth: int
    """Number of blocks (stages for a convolutional encoder); layers are indexed 0 .. depth - 1."""
    rope_blocks: int
    """Blocks that rotate their keys and queries by coordinates, so that their scale can be drawn at random; 0: none."""
    structure: Structure

    def __init__(
        self,
        card: EncoderCard,
        spec: ImageSpec,
        *,
        dim: int,
        depth: int,
        rope_blocks: int = 0,
        structure: Structure = Structure(),
    ) -> None:
        super().__init__()
        self.card, self.spec = replace(card, structure=structure.describe()), spec
        self.structure = structure
        self.dim, self.depth, self.rope_blocks = dim, depth, rope_blocks
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    @abstractmethod
    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """Features of normalised images whose sides are multiples of the patch, for layers that exist."""

    @final
    def train(self, mode: bool = True) -> "Encoder":
        """Frozen means eval mode, always: asking for train mode changes nothing."""
        return super().train(False)

    @final  # type: ignore[misc] # torch declares forward as an attribute
    @torch.no_grad()
    def forward(
        self,
        images_B3YX: Float[Tensor, "B 3 Y X"],
        *,
        layers: Sequence[int] = (),
        norm: bool = True,
        rope_scales_L: Float[Tensor, " L"] | None = None,
    ) -> Features:
        """Features of RGB images in [0, 1].

        `layers` are blocks 0 .. depth - 1, or counted from the end (-1 is the last). Without `norm`, patch features
        and layers come as they are before the final norm.
        `rope_scales_L` multiplies the rotary coordinates, one factor a block (the `official` head training draws them
        at random); encoders without rotary positions take none.
        Raises DataError for another range, dtype, or a side that is no multiple of the patch, UsageError for a layer
        that does not exist.
        """
        self._check(images_B3YX, rope_scales_L)
        wrong = [layer for layer in layers if not -self.depth <= layer < self.depth]
        if wrong:
            raise UsageError(
                f"layers {wrong} of {self.card.name} do not exist: "
                + (f"it has layers 0 to {self.depth - 1}." if self.depth else "it has none.")
            )
        ask = Ask(tuple(layer % self.depth for layer in layers), norm, rope_scales_L)
        return self.encode((images_B3YX - self.mean) / self.std, ask)

    def _check(self, images_B3YX: Tensor, rope_scales_L: Tensor | None) -> None:
        name, patch = self.card.name, self.spec.patch
        if images_B3YX.dtype != torch.float32 or images_B3YX.ndim != 4 or images_B3YX.shape[1] != 3:
            raise DataError(
                f"{name} takes float32 RGB of shape [B, 3, Y, X]; got {images_B3YX.dtype} {tuple(images_B3YX.shape)}."
            )
        low, high = images_B3YX.aminmax()
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise DataError(f"{name} takes RGB in [0, 1] (it normalises itself); got values {low:.3g} to {high:.3g}.")
        rows, columns = images_B3YX.shape[2:]
        if rows % patch or columns % patch:
            raise DataError(
                f"{name} has patches of {patch} px and got an image of {rows} x {columns}; "
                f"nearest: {nearest_multiple(rows, patch)} x {nearest_multiple(columns, patch)}."
            )
        if rope_scales_L is not None and len(rope_scales_L) != self.rope_blocks:
            raise DataError(f"{name} has {self.rope_blocks} rotary blocks; got {len(rope_scales_L)} scales.")


class ConvEncoder(Encoder):
    """An encoder whose last map can be brought to another grid before its final norm."""

    @abstractmethod
    def encode_on_grid(self, images_B3YX: Float[Tensor, "B 3 Y X"], grid: tuple[int, int]) -> Features:
        """Features of normalised images with `patches_BHWD` on the grid; the global feature is that of `encode`."""

    @final
    @torch.no_grad()
    def on_grid(self, images_B3YX: Float[Tensor, "B 3 Y X"], grid: tuple[int, int]) -> Features:
        """Features of RGB images in [0, 1] on a grid of (rows, columns). Raises DataError as `forward` does."""
        self._check(images_B3YX, None)
        return self.encode_on_grid((images_B3YX - self.mean) / self.std, grid)


class TextAlignedEncoder(Encoder):
    """An encoder whose images can be compared with text."""

    @abstractmethod
    def encode_text(self, prompts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit text vectors; owns tokenizer, canonicalisation, padding and context length."""

    @abstractmethod
    def encode_image(self, features: Features) -> Float[Tensor, "B D"]:
        """Unit image vectors in the text space; owns projections and adapter heads."""


def nearest_multiple(side: int, patch: int) -> int:
    """The multiple of `patch` nearest to `side` (the smaller one at a tie, at least one patch): 512 -> 518 for 14."""
    below = side // patch * patch
    return max(patch, below if side - below <= below + patch - side else below + patch)
