"""The text tower that an export may carry: a small transformer over whole words, its vocabulary in the manifest.

For encoders that were trained with texts of a small world; `text.safetensors` has its tensors.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.exports.manifest import TEXT, Text, read_manifest, whole_file
from evals.encoders.weights import load_strict, read_tensors, seeded
from evals.errors import WeightsError

_PAD, _UNKNOWN = 0, 1
_SPECIAL = 2
_PIECES = re.compile(r"\w+|[^\w\s]")


def pieces(prompt: str) -> list[str]:
    """Lower-case words and marks of a prompt."""
    return _PIECES.findall(prompt.lower())


class WordTower(nn.Module):
    """From prompts to vectors: embeddings of words and places, transformer layers, the mean over words, a projection.

    Words that it does not know share one embedding; what is beyond its context is cut off.
    """

    def __init__(self, shape: Text, dim: int) -> None:
        super().__init__()
        self.dim, self.shape = dim, shape
        self._ids = {word: at for at, word in enumerate(shape.words, start=_SPECIAL)}
        self.words = nn.Embedding(_SPECIAL + len(shape.words), shape.width, padding_idx=_PAD)
        self.places = nn.Parameter(torch.zeros(shape.context, shape.width))
        layer = nn.TransformerEncoderLayer(
            shape.width, shape.heads, 4 * shape.width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, shape.depth, nn.LayerNorm(shape.width), enable_nested_tensor=False)
        self.project = nn.Linear(shape.width, dim, bias=False)

    def tokens(self, prompts: Sequence[str]) -> Int[Tensor, "T K"]:
        """Ids of the words of prompts, padded to the longest."""
        rows = [[self._ids.get(word, _UNKNOWN) for word in pieces(prompt)][: self.shape.context] for prompt in prompts]
        longest = max(1, *(len(row) for row in rows)) if rows else 1
        return torch.tensor([row + [_PAD] * (longest - len(row)) for row in rows]).view(len(rows), longest)

    def forward(self, ids_TK: Int[Tensor, "T K"]) -> Float[Tensor, "T D"]:
        """Vectors of texts, of any length."""
        ids_TK = ids_TK.to(self.places.device)
        # A prompt without any word keeps one place to look at.
        absent_TK = (ids_TK == _PAD) & (ids_TK != _PAD).any(1, keepdim=True)
        hidden_TKD = self.layers(self.words(ids_TK) + self.places[: ids_TK.shape[1]], src_key_padding_mask=absent_TK)
        share_TK1 = (~absent_TK).float().unsqueeze(-1)
        vectors_TD: Tensor = self.project((hidden_TKD * share_TK1).sum(1) / share_TK1.sum(1))
        return vectors_TD

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit vectors."""
        return functional.normalize(self(self.tokens(prompts)).float(), dim=-1)


def fresh_tower(shape: Text, dim: int, seed: int) -> WordTower:
    """A tower with random weights that depend on the seed alone."""
    with seeded(seed):
        return WordTower(shape, dim)


def read_tower(folder: Path) -> WordTower:
    """The text tower in an export, frozen. Raises WeightsError where it has none, or its file is not whole."""
    manifest = read_manifest(folder)
    if manifest.text is None:
        raise WeightsError(f"the export in {folder} has no text tower of its own.")
    tower = fresh_tower(manifest.text, manifest.entry["dim"], 0)
    load_strict(tower, read_tensors(whole_file(folder, manifest, TEXT)), what=f"{TEXT} of {folder}")
    return tower.requires_grad_(False).eval()
