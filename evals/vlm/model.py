"""A language model that is shown pictures: tokens of a frozen encoder, a projector, and the splice between words.

The encoder is no part of the model: it is never trained, sharded or saved with it.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from evals.device import autocast
from evals.errors import DataError, UsageError
from evals.types import ConvEncoder, Encoder
from evals.vlm.recipe import Layer
from evals.vlm.tokens import IGNORED, IMAGE_SLOT


def see(
    encoder: Encoder, images_B3YX: Float[Tensor, "B 3 Y X"], layer: Layer, grid: int, dtype: str = "fp32"
) -> Float[Tensor, "B K D"]:
    """Visual tokens of images in [0, 1]: the grid x grid patch tokens row by row, no prefix tokens, in fp32.

    A convolutional encoder brings its last map to the grid before its final norm. Raises UsageError for a layer that
    the encoder does not offer, DataError where images of this side give another grid.
    """
    with torch.no_grad(), autocast(images_B3YX.device, dtype):
        if isinstance(encoder, ConvEncoder):
            if layer != "final":
                raise UsageError(
                    f"layer {layer} of {encoder.card.name} has another width than its last: it is convolutional. "
                    "Use layer: final."
                )
            map_BHWD = encoder.on_grid(images_B3YX, (grid, grid)).patches_BHWD
        elif layer == "final":
            map_BHWD = encoder(images_B3YX).patches_BHWD
        else:
            map_BHWD = encoder(images_B3YX, layers=(layer,), norm=False).layers[0]
    rows, columns = map_BHWD.shape[1:3]
    if (rows, columns) != (grid, grid):
        raise DataError(
            f"{encoder.card.name} gives {rows} x {columns} tokens for images of {images_B3YX.shape[-1]} px; "
            f"the recipe has {grid} x {grid}. Use a side of {grid * encoder.spec.patch} px."
        )
    return map_BHWD.flatten(1, 2).float()


class Projector(nn.Module):
    """Visual tokens -> embeddings of words: Linear, exact GELU, Linear, with bias (LLaVA-1.5, `mlp2x_gelu`)."""

    def __init__(self, d_vis: int, d_lm: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(d_vis, d_lm), nn.Linear(d_lm, d_lm)

    def forward(self, visual_BKD: Float[Tensor, "B K D"]) -> Float[Tensor, "B K _"]:
        """Token by token."""
        projected_BKD: Tensor = self.outer(functional.gelu(self.inner(visual_BKD)))
        return projected_BKD


class VisionLanguage(nn.Module):
    """A causal language model of transformers and a projector. Calling it gives the loss of a micro-batch."""

    def __init__(self, language: nn.Module, projector: Projector) -> None:
        super().__init__()
        self.language, self.projector = language, projector
        # What accelerate asks of a model that it shards: the class of its blocks.
        self._no_split_modules = getattr(language, "_no_split_modules", None)

    def train_only(self, part: Literal["projector", "all"]) -> None:
        """From now on this part learns: the projector, or the projector and every weight of the language model."""
        self.projector.requires_grad_(True)
        self.language.requires_grad_(part == "all")

    def rows(
        self, ids_BT: Int[Tensor, "B T"], visual_BKD: Float[Tensor, "B K D"]
    ) -> list[tuple[Float[Tensor, "_ D2"], Int[Tensor, "_"]]]:
        """Each row with the visual tokens in its slot, and where each place comes from: its index in the row, or -1.

        A row without a slot takes none of its visual tokens, but keeps the projector in the graph, so that every
        process has gradients for it. Raises DataError for a row with more than one slot.
        """
        language: Any = self.language
        is_slot_BT = ids_BT == IMAGE_SLOT
        words_BTD: Tensor = language.get_input_embeddings()(ids_BT.masked_fill(is_slot_BT, 0))
        projected_BKD = self.projector(visual_BKD.to(self.projector.inner.weight.dtype)).to(words_BTD.dtype)
        spliced = []
        for words_TD, projected_KD, is_slot_T in zip(words_BTD, projected_BKD, is_slot_BT, strict=True):
            slots = is_slot_T.nonzero().flatten().tolist()
            if len(slots) > 1:
                raise DataError(f"a sample has {len(slots)} pictures in its text; one at most can be shown.")
            start, stop = (slots[0], slots[0] + 1) if slots else (0, 0)
            shown_KD = projected_KD if slots else projected_KD[:0]
            origin_T = torch.arange(len(words_TD), device=ids_BT.device)
            nowhere_K = origin_T.new_full((len(shown_KD),), -1)
            spliced.append(
                (
                    torch.cat([words_TD[:start], shown_KD, words_TD[stop:]]),
                    torch.cat([origin_T[:start], nowhere_K, origin_T[stop:]]),
                )
            )
        return spliced

    def embed(
        self, ids_BT: Int[Tensor, "B T"], labels_BT: Int[Tensor, "B T"], visual_BKD: Float[Tensor, "B K D"]
    ) -> tuple[Float[Tensor, "B T2 D2"], Int[Tensor, "B T2"]]:
        """(embeddings, labels) with visual tokens in their slots, labelled IGNORED; short rows are padded at the right.

        Padding is 0 and IGNORED: causal attention never looks at it from a place before.
        """
        spliced = self.rows(ids_BT, visual_BKD)
        labels = [
            torch.where(origin_T < 0, IGNORED, labels_T[origin_T.clamp(min=0)])
            for (_, origin_T), labels_T in zip(spliced, labels_BT, strict=True)
        ]
        embeddings = nn.utils.rnn.pad_sequence([words_TD for words_TD, _ in spliced], batch_first=True)
        return embeddings, nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)

    def forward(
        self, ids_BT: Int[Tensor, "B T"], labels_BT: Int[Tensor, "B T"], visual_BKD: Float[Tensor, "B K D"]
    ) -> Float[Tensor, ""]:
        """The mean of cross entropy over the supervised tokens of a micro-batch, in fp32; 0 where there is none.

        Positions count from 0 in each row. Padding at the right needs no mask under causal attention, and without one
        the fastest kernels apply. Raises DataError as `rows` does.
        """
        embeddings_BTD, spliced_BT = self.embed(ids_BT, labels_BT, visual_BKD)
        return next_token_loss(self.language, spliced_BT, inputs_embeds=embeddings_BTD)


def next_token_loss(language: nn.Module, labels_BT: Int[Tensor, "B T"], **inputs: Tensor) -> Float[Tensor, ""]:
    """Mean cross entropy in fp32 of each label given what stands before it; 0, with a graph, where all are IGNORED.

    Logits are computed only where some row of the micro-batch is supervised: most places are pictures and questions.
    """
    targets_BT = labels_BT[:, 1:]
    asked = (targets_BT != IGNORED).any(0).nonzero().flatten()
    if not len(asked):
        unasked: Tensor = language(**inputs, use_cache=False, logits_to_keep=1).logits
        return unasked.float().sum() * 0.0
    logits = language(**inputs, use_cache=False, logits_to_keep=asked).logits.float()
    return functional.cross_entropy(logits.flatten(0, 1), targets_BT[:, asked].flatten(), ignore_index=IGNORED)
