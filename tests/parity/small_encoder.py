"""A small encoder of the tests: 1.5 million parameters behind the contract, cheap enough to train on one core."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.weights import seeded
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, ImageSpec

PATCH, DIM = 16, 192
SPEC = ImageSpec(128, PATCH, "bicubic", True, "crop", (0.5,) * 3, (0.25,) * 3)


class Network(nn.Module):
    """Convolutions down to a stride of 16, attention among the tokens, and a projection of their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _convolution(3, 48, 4, stride=4),
            _convolution(48, 48, 3),
            _convolution(48, 96, 3, stride=2),
            _Residual(96),
            _convolution(96, DIM, 3, stride=2),
            _Residual(DIM),
        )
        self.context = _Attention(DIM, heads=4)
        self.norm = nn.BatchNorm1d(DIM)
        self.project = nn.Linear(DIM, DIM)

    def forward(self, images_B3YX: Tensor) -> tuple[Tensor, Tensor]:
        """Global features [B, D] and token maps [B, H, W, D] of normalised images."""
        maps = self.stem(images_B3YX).permute(0, 2, 3, 1)
        shape = maps.shape
        tokens_BND = self.context(maps.flatten(1, 2))
        tokens_BND = self.norm(tokens_BND.flatten(0, 1)).view_as(tokens_BND)
        return self.project(functional.gelu(tokens_BND).mean(1)), tokens_BND.view(shape)


class SmallEncoder(Encoder):
    """The network behind the contract of an encoder."""

    def __init__(self, name: str, network: Network) -> None:
        card = EncoderCard(name, "tests", "small", "none", "0" * 64, "Apache-2.0", PATCH, SPEC.size, "cls", text=False)
        super().__init__(card, SPEC, dim=DIM, depth=1)
        self.network = network
        self.requires_grad_(False).eval()

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """Both features of one pass."""
        pooled_BD, patches_BHWD = self.network(images_B3YX)
        return Features(pooled_BD, patches_BHWD)


def untrained(seed: int) -> Network:
    """The network as it starts."""
    with seeded(seed):
        return Network()


def _convolution(inputs: int, outputs: int, side: int, *, stride: int = 1) -> nn.Sequential:
    padding = 0 if side == stride else side // 2
    layer = nn.Conv2d(inputs, outputs, side, stride, padding, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, 3)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.second(self.first(maps)))


class _Attention(nn.Module):
    """One transformer block."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(channels), nn.LayerNorm(channels)])
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 3 * channels), nn.GELU(), nn.Linear(3 * channels, channels))

    def forward(self, tokens_BND: Tensor) -> Tensor:
        query, key, value = (
            self.qkv(self.norms[0](tokens_BND)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens_BND = tokens_BND + self.out(mixed.transpose(1, 2).flatten(2))
        moved: Tensor = self.mlp(self.norms[1](tokens_BND))
        return tokens_BND + moved
