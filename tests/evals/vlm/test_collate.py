"""Samples of different lengths, with and without pictures, make one micro-batch."""

import pytest
import torch
from torch import Tensor

from evals.vlm.collate import collate
from evals.vlm.tokens import IGNORED, IMAGE_SLOT, Encoded

SHOWS = Encoded(torch.tensor([1, IMAGE_SLOT, 7]), torch.tensor([IGNORED, IGNORED, 7]), 0, 0)
TEXT = Encoded(torch.tensor([1, 5, 0, 6, 2]), torch.tensor([IGNORED, IGNORED, 0, 6, 2]), 0, 0)
WHITE = torch.ones(3, 4, 4)


def test_rows_are_padded_on_the_right() -> None:
    """Padding is never learned, even where its id is one that is."""
    batch = collate([SHOWS, TEXT], [WHITE, None], pad_id=0)
    assert batch.ids_BT.tolist() == [[1, IMAGE_SLOT, 7, 0, 0], [1, 5, 0, 6, 2]]
    assert batch.labels_BT.tolist() == [[IGNORED, IGNORED, 7, IGNORED, IGNORED], [IGNORED, IGNORED, 0, 6, 2]]


def test_rows_without_a_picture_are_black() -> None:
    """One picture a row, as long as there is any."""
    batch = collate([TEXT, SHOWS], [None, WHITE], pad_id=0)
    assert batch.images_B3YX is not None
    assert torch.equal(batch.images_B3YX, torch.stack([torch.zeros(3, 4, 4), WHITE]))
    assert batch.has_image_B.tolist() == [False, True]


@pytest.mark.parametrize("image", [None, WHITE])
def test_without_a_slot_there_are_no_pictures(image: Tensor | None) -> None:
    """Text alone, or a picture whose slot was cut off."""
    batch = collate([TEXT], [image], pad_id=0)
    assert batch.images_B3YX is None
    assert batch.has_image_B.tolist() == [False]


def test_a_slot_needs_its_picture() -> None:
    """A sample that shows a picture never gets black in its place."""
    with pytest.raises(ValueError, match="picture"):
        collate([SHOWS, SHOWS], [WHITE, None], pad_id=0)
