"""Tiny encoders without a fault, in parts that a subclass can get wrong one at a time."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evals.record import EncoderCard
from evals.types import Ask, ConvEncoder, Features, ImageSpec, Prefix, Structure, TextAlignedEncoder

PATCH, DIM, DEPTH, SIDE = 8, 24, 3, 4
"""Pixels a token, channels, blocks, patches along the native side."""
SPEC = ImageSpec(PATCH * SIDE, PATCH, "bicubic", True, "crop", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
PREFIX = (Prefix("cls"), Prefix("reg"), Prefix("reg"))
CONTEXT = 40


def card(**changes: Any) -> EncoderCard:
    """The card of an encoder that was trained, as far as anybody knows."""
    values = {"global_feature": "cls", "text": False, "dim": DIM, "depth": DEPTH, **changes}
    return EncoderCard("toy", "tests", "toy", "none", "0" * 64, "Apache-2.0", PATCH, SPEC.size, **values)


def draw(module: nn.Module) -> None:
    """Put every parameter and statistic at a place that training could have led to, and freeze."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and name not in ("mean", "std"):
            noise = torch.randn(tensor.shape, generator=generator)
            scale = 1 / math.sqrt(tensor[0].numel()) if tensor.ndim > 1 and "table" not in name else 0.3
            around_one = tensor.ndim == 1 and name.endswith(("weight", "running_var"))
            tensor.data = (1 + 0.2 * noise.clamp(-3, 3)) if around_one else scale * noise
    module.requires_grad_(False).eval()


class Block(nn.Module):
    """Attention, then a matrix; `places` are added to what attention compares."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix, self.out = nn.LayerNorm(DIM), nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, tokens_BTD: Tensor, places_TD: Tensor) -> Tensor:
        """Tokens after the block."""
        query, key, value = self.mix(self.norm(tokens_BTD)).chunk(3, dim=-1)
        attended = functional.scaled_dot_product_attention(query + places_TD, key + places_TD, value)
        moved: Tensor = self.out(functional.gelu(attended))
        return tokens_BTD + moved


class Sound(TextAlignedEncoder):
    """A transformer: a class token, two registers, learnt and rescalable positions, a final norm, and text.

    Images and prompts meet by how red or green they are.
    """

    structure_of = Structure(PREFIX, "final", "learnt", ("cls", "colour"))
    first = len(PREFIX)

    def __init__(self) -> None:
        super().__init__(card(text=True), SPEC, dim=DIM, depth=DEPTH, rope_blocks=DEPTH, structure=self.structure_of)
        self.embed, self.stem = nn.Conv2d(3, DIM, PATCH, stride=PATCH), nn.BatchNorm2d(DIM)
        self.prefix = nn.Parameter(torch.zeros(1, len(PREFIX), DIM))
        self.table = nn.Parameter(torch.zeros(1, DIM, SIDE, SIDE))
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(DIM)
        draw(self)

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """One pass."""
        rows, columns = (side // PATCH for side in images_B3YX.shape[2:])
        x_BDHW = self.stem(self.embed(self.pixels(images_B3YX))) + self.positions(rows, columns)
        tokens_BTD = self.start(torch.cat([self.prefix.expand(len(x_BDHW), -1, -1), x_BDHW.flatten(2).mT], dim=1))
        left, count = [], tokens_BTD.shape[1]
        for block, scale in zip(self.blocks, self.scales(ask), strict=True):
            tokens_BTD = block(tokens_BTD, (torch.arange(count)[:, None] * scale / 7).cos())
            left.append(tokens_BTD)
        final_BTD = self.normed(left[-1])
        shown = [self.normed(x) if ask.norm else x for x in left]
        maps = [self.as_map(x[:, self.first :], rows, columns) for x in shown]
        others = self.others(final_BTD, images_B3YX)
        layers = tuple(maps[self.place(layer)] for layer in ask.layers)
        return Features(self.pooled(maps[-1], others), maps[-1], layers, others)

    def pixels(self, images_B3YX: Tensor) -> Tensor:
        """What the first layer takes."""
        return images_B3YX

    def positions(self, rows: int, columns: int) -> Tensor:
        """The table for a grid."""
        return functional.interpolate(self.table, size=(rows, columns), mode="bilinear")

    def scales(self, ask: Ask) -> Tensor:
        """A factor a block."""
        return torch.ones(DEPTH) if ask.rope_scales_L is None else ask.rope_scales_L

    def start(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens before the first block."""
        return tokens_BTD

    def normed(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens after the final norm."""
        return self.norm(tokens_BTD)

    def as_map(self, tokens_BND: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens on their grid."""
        return tokens_BND.reshape(len(tokens_BND), rows, columns, DIM)

    def place(self, layer: int) -> int:
        """Where a layer stands among the blocks."""
        return layer

    def others(self, final_BTD: Tensor, images_B3YX: Tensor) -> dict[str, Tensor]:
        """The class token, and the mean colour."""
        return {"cls": final_BTD[:, 0], "colour": (images_B3YX * self.std + self.mean).mean((2, 3))}

    def pooled(self, patches_BHWD: Tensor, others: dict[str, Tensor]) -> Tensor | None:
        """The global feature."""
        return others["cls"]

    def encode_image(self, features: Features) -> Tensor:
        """Unit vectors: more red than green, the reverse, and nothing that letters have."""
        red, green, none = (*features.others["colour"].unbind(1)[:2], torch.zeros(len(features.patches_BHWD)))
        return functional.normalize(torch.stack([red - green, green - red, none, none], 1), dim=1)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors: red, green, and something of the letters."""
        rows = []
        for prompt in map(self.canonical, prompts):
            angle = sum(ord(letter) * (place + 1) for place, letter in enumerate(prompt)) / 1000
            rows.append([float("red" in prompt), float("green" in prompt), math.cos(angle), math.sin(angle)])
        return functional.normalize(torch.tensor(rows), dim=1)

    def canonical(self, prompt: str) -> str:
        """Small letters, cut to the context."""
        return prompt.lower()[:CONTEXT]


class Around(nn.Module):
    """Looks over the edge of a cell, and keeps what is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.over = nn.Conv2d(DIM, DIM, 3, padding=1)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        """The map after the stage."""
        moved: Tensor = self.over(functional.gelu(x_BDHW))
        return x_BDHW + moved / 2


class SoundConv(ConvEncoder):
    """A convolutional encoder of two stages with a norm over channels; the global feature is the norm of the mean."""

    def __init__(self) -> None:
        structure = Structure(norm="final")
        super().__init__(card(global_feature="gap_norm", depth=2), SPEC, dim=DIM, depth=2, structure=structure)
        self.stages = nn.Sequential(nn.Conv2d(3, DIM, PATCH, stride=PATCH), Around())
        self.norm = nn.LayerNorm(DIM)
        draw(self)

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """One pass."""
        maps = []
        for stage in self.stages:
            images_B3YX = stage(images_B3YX)
            maps.append(self.as_map(images_B3YX))
        pooled_BD = self.normed(maps[-1].mean((1, 2)))
        maps[-1] = self.normed(maps[-1]) if ask.norm else maps[-1]
        return Features(pooled_BD, maps[-1], tuple(maps[layer] for layer in ask.layers))

    def encode_on_grid(self, images_B3YX: Tensor, grid: tuple[int, int]) -> Features:
        """One pass whose raw map is resized before the norm."""
        raw = self.as_map(self.stages(images_B3YX))
        return Features(self.normed(raw.mean((1, 2))), self.normed(self.resized(raw, grid)))

    def as_map(self, x_BDHW: Tensor) -> Tensor:
        """Channels last, in fp32."""
        return x_BDHW.permute(0, 2, 3, 1).float()

    def normed(self, x: Tensor) -> Tensor:
        """After the final norm."""
        return self.norm(x)

    def resized(self, x_BHWD: Tensor, grid: tuple[int, int]) -> Tensor:
        """A map on another grid."""
        x_BDHW = functional.interpolate(x_BHWD.permute(0, 3, 1, 2), size=grid, mode="bilinear", antialias=True)
        return x_BDHW.permute(0, 2, 3, 1)
