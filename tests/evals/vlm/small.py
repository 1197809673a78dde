"""A vision-language model small enough to be trained in a test: its encoder, words, pictures and conversations."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from evals.datasets.llava import Talk, Talks, Turn
from evals.encoders.weights import seeded
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, ImageSpec
from evals.vlm.language import small_llama
from evals.vlm.model import Projector, VisionLanguage
from evals.vlm.recipe import ALIGNMENT, INSTRUCTION, Recipe, SideRule

PATCH, GRID, DIM = 8, 2, 12
SIDE = PATCH * GRID
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 210), "white": (250, 250, 250)}
WORDS = ("<unk>", "<s>", "</s>", "<pad>", "what", "colour", "is", "it", "the", "picture", "shows", *COLOURS, "\n")
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant . The assistant gives helpful , detailed "
    "polite answers to user ' s questions USER : ASSISTANT"
)

RECIPE = Recipe(
    name="test",
    alignment=replace(ALIGNMENT, rate=1e-2, batch=4, micro=2, epochs=3, max_length=128),
    instruction=replace(INSTRUCTION, rate=1e-2, batch=4, micro=2, epochs=3, max_length=128),
    pad_token=None,
    sides=SideRule(side=SIDE, grid=GRID),
    dtype="fp32",
)

STEPS = 20
STAGE = replace(RECIPE.alignment, template="v1", trained="all", batch=6, micro=2, epochs=STEPS, rate=3e-3)
"""Three micro-batches a step, which two processes cannot share evenly."""
TWO = replace(RECIPE, alignment=STAGE)


class SmallEncoder(Encoder):
    """Patches under three linear blocks and a norm."""

    def __init__(self, seed: int = 0) -> None:
        card = EncoderCard(f"small-{seed}", "test", "small", "random", str(seed), "", PATCH, SIDE, "none", False)
        spec = ImageSpec(SIDE, PATCH, "bicubic", True, "crop", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        super().__init__(card, spec, dim=DIM, depth=3)
        with seeded(seed):
            self.blocks = nn.ModuleList([nn.Linear(3 * PATCH**2, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)])
            self.norm = nn.LayerNorm(DIM)
        self.requires_grad_(False)

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        x = functional.pixel_unshuffle(images_B3YX, PATCH).permute(0, 2, 3, 1)
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        norm = self.norm if ask.norm else nn.Identity()
        return Features(None, norm(x), tuple(norm(maps[layer]) for layer in ask.layers))


def tokenizer() -> Any:
    """Words of the conversations below, one token each."""
    words = [*WORDS, *dict.fromkeys(word for word in SYSTEM.split() if word not in WORDS)]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    lines = pre_tokenizers.Split("\n", "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.Split(" ", "removed")])
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def model(words: Any, seed: int = 0) -> VisionLanguage:
    """A tiny Llama behind a projector."""
    language: Any = small_llama("tiny", words, positions=256, seed=seed)
    with seeded(seed):
        return VisionLanguage(language, Projector(DIM, language.config.hidden_size))


def images(count: int, seed: int = 0) -> Float[Tensor, "B 3 Y X"]:
    """Noise in [0, 1]."""
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def talks(folder: Path, stage: Any, count: int = 12) -> Talks:
    """Conversations on squares of one colour, written below the folder; each fourth of `instruction` has no picture."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        colour = list(COLOURS)[number % len(COLOURS)]
        path = folder / f"{number}.png"
        Image.fromarray(np.full((20, 24, 3), COLOURS[colour], dtype=np.uint8)).save(path)
        alone = stage == "instruction" and number % 4 == 3
        question = "what colour is white ?" if alone else "<image>\nwhat colour is it ?"
        made.append(Talk(str(number), None if alone else path, (Turn("human", question), Turn("gpt", colour))))
    return Talks(stage, tuple(made), "0" * 64, ())


def after(calls: int) -> Callable[[], bool]:
    """Asks to stop after so many steps."""
    told = iter(range(1, 1000))
    return lambda: next(told) >= calls
