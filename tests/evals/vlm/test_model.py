"""Visual tokens, the splice, and the loss of a micro-batch."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import DataError, UsageError
from evals.files import DigestMemo
from evals.vlm.model import Projector, VisionLanguage, see
from evals.vlm.tokens import IGNORED, IMAGE_SLOT
from tests.evals.vlm.small import DIM, GRID, SIDE, SmallEncoder, images, model, tokenizer


@pytest.fixture
def small() -> VisionLanguage:
    """The model of every test here."""
    return model(tokenizer())


def test_visual_tokens_are_the_patches_row_by_row() -> None:
    """Token 1 is what the patch at the top right gives alone; the last norm, or the block before the last without."""
    encoder, pixels = SmallEncoder(), images(2)
    visual = see(encoder, pixels, "final", GRID)
    assert visual.shape == (2, GRID**2, DIM)
    corner = pixels[:, :, : SIDE // 2, SIDE // 2 :]
    torch.testing.assert_close(see(encoder, corner, "final", 1)[:, 0], visual[:, 1])
    patches = functional.pixel_unshuffle((pixels - 0.5) / 0.5, SIDE // 2).flatten(2).mT
    torch.testing.assert_close(see(encoder, pixels, -2, GRID), encoder.blocks[1](encoder.blocks[0](patches)))
    assert not visual.requires_grad


def test_a_convolutional_encoder_comes_to_the_grid() -> None:
    """A stride of 32 at 64 px gives 2 x 2; the recipe's 4 x 4 are made before the norm. It has no layer -2."""
    encoder = load(resolve("timm:convnext_atto", weights="random"), DigestMemo(None))
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    visual = see(encoder, pixels, "final", 4)
    torch.testing.assert_close(visual.view(1, 4, 4, -1), encoder.on_grid(pixels, (4, 4)).patches_BHWD)
    with pytest.raises(UsageError, match="layer: final"):
        see(encoder, pixels, -2, 4)


def test_another_side_than_the_recipe_has_is_refused() -> None:
    """The number of tokens is part of the protocol."""
    with pytest.raises(DataError, match=r"gives 2 x 2 tokens .* Use a side of 24 px"):
        see(SmallEncoder(), images(1), "final", 3)


def test_the_projector_is_two_layers_with_an_exact_gelu() -> None:
    """Compared with the formula over the error function."""
    projector, x = Projector(3, 5), torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    hidden = x @ projector.inner.weight.mT + projector.inner.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(projector(x), hidden @ projector.outer.weight.mT + projector.outer.bias)


def test_visual_tokens_stand_in_the_slot(small: VisionLanguage) -> None:
    """Words before and after keep their embeddings and labels; a row of text alone is padded at the right."""
    ids = torch.tensor([[1, 5, IMAGE_SLOT, 6, 7], [1, 8, 9, 2, 3]])
    labels = torch.tensor([[IGNORED, 5, IGNORED, 6, IGNORED], [IGNORED, 8, 9, 2, IGNORED]])
    visual = torch.randn(2, 4, DIM, generator=torch.Generator().manual_seed(0))
    embeddings, spliced = small.embed(ids, labels, visual)
    words: Any = small.language.get_input_embeddings()  # type: ignore[operator]
    torch.testing.assert_close(embeddings[0, :2], words(ids[0, :2]))
    torch.testing.assert_close(embeddings[0, 2:6], small.projector(visual)[0])
    torch.testing.assert_close(embeddings[0, 6:], words(ids[0, 3:]))
    torch.testing.assert_close(embeddings[1, :5], words(ids[1]))
    assert not embeddings[1, 5:].any()
    i = IGNORED
    assert spliced.tolist() == [[i, 5, i, i, i, i, 6, i], [i, 8, 9, 2, i, i, i, i]]


def test_the_loss_is_the_mean_over_supervised_tokens(small: VisionLanguage) -> None:
    """Over all rows together, each token given what stands before it: computed from the logits of each row alone."""
    ids = torch.tensor([[1, IMAGE_SLOT, 6, 7, 2], [1, 8, 9, 3, 3]])
    labels = torch.tensor([[IGNORED, IGNORED, IGNORED, 7, 2], [IGNORED, IGNORED, 9, IGNORED, IGNORED]])
    visual = torch.randn(2, 4, DIM, generator=torch.Generator().manual_seed(0))
    embeddings, _ = small.embed(ids[:1], labels[:1], visual[:1])
    first = small.language(inputs_embeds=embeddings).logits[0].log_softmax(-1)
    second = small.language(input_ids=ids[1:, :3]).logits[0].log_softmax(-1)
    expected = -(first[5, 7] + first[6, 2] + second[1, 9]) / 3
    torch.testing.assert_close(small(ids, labels, visual), expected)


def test_no_supervised_token_gives_zero_with_a_graph(small: VisionLanguage) -> None:
    """Its gradients are 0, not NaN, and none is missing that another process would wait for."""
    ids = torch.tensor([[1, IMAGE_SLOT, 6]])
    loss = small(ids, torch.full_like(ids, IGNORED), torch.randn(1, 4, DIM))
    assert loss.item() == 0
    loss.backward()
    assert all(not parameter.grad.any() for parameter in small.projector.parameters() if parameter.grad is not None)
    assert all(parameter.grad is not None for parameter in small.parameters())


def test_text_alone_keeps_the_projector_in_the_graph(small: VisionLanguage) -> None:
    """Its gradients are there and 0; a mixed batch has others, and the same loss as its rows weighted by tokens."""
    ids = torch.tensor([[1, IMAGE_SLOT, 6, 7], [1, 8, 9, 2]])
    labels = torch.tensor([[IGNORED, IGNORED, 6, 7], [IGNORED, IGNORED, IGNORED, 2]])
    visual = torch.randn(2, 4, DIM, generator=torch.Generator().manual_seed(0))
    alone = small(ids[1:], labels[1:], visual[1:])
    alone.backward()
    assert all(p.grad is not None and not p.grad.any() for p in small.projector.parameters())
    with torch.no_grad():
        picture = small(ids[:1], labels[:1], visual[:1])
    mixed = small(ids, labels, visual)
    torch.testing.assert_close(mixed.detach(), (2 * picture + alone.detach()) / 3)
    mixed.backward()
    assert all(p.grad is not None and p.grad.any() for p in small.projector.parameters())


def test_more_than_one_slot_is_refused(small: VisionLanguage) -> None:
    """One picture a sample."""
    with pytest.raises(DataError, match="2 pictures"):
        small.rows(torch.tensor([[IMAGE_SLOT, 1, IMAGE_SLOT]]), torch.zeros(1, 4, DIM))


def test_what_learns_is_the_projector_or_everything(small: VisionLanguage) -> None:
    """The first stage leaves the language model alone."""
    small.train_only("projector")
    assert {name.split(".")[0] for name, p in small.named_parameters() if p.requires_grad} == {"projector"}
    small.train_only("all")
    assert all(parameter.requires_grad for parameter in small.parameters())
