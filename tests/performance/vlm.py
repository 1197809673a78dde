"""Answers in batches against one by one, and how much of a step is padding, grouped as published and at random.

    python tests/performance/vlm.py [--questions 32] [--tokens 32] [--batch 32] [--repeats 3]

Prints times and ratios; ends with 1 when an answer in a batch differs from the one given alone. Weights are random, so
answers run to the full length, which is what is to be measured; lengths of conversations are those of the embedded
world's, and log-normal ones of the published set's mean.
"""

import argparse
import sys
import time

import numpy as np
import torch
from torch import Tensor

from evals.vlm.generate import Answerer, Request
from evals.vlm.language import small_llama, width_of
from evals.vlm.model import Projector, VisionLanguage
from evals.vlm.order import grouped, padding_waste, shuffled
from evals.vlm.tokens import IMAGE_SLOT

VOCABULARY, VISUAL, DIM = 512, 64, 256


class Numbers:
    """A tokenizer whose words are numbers; nothing ever ends an answer."""

    bos_token_id, eos_token_id, pad_token_id = 1, VOCABULARY + 1, 0

    def __len__(self) -> int:
        return VOCABULARY

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        """The numbers."""
        return " ".join(map(str, ids))


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("questions", 32), ("tokens", 32), ("batch", 32), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    same = answers(size.questions, size.tokens, size.batch, size.repeats)
    padding()
    return 0 if same else 1


def answers(questions: int, tokens: int, batch: int, repeats: int) -> bool:
    """Times of both ways, in turns; whether the answers are the same."""
    generator = torch.Generator().manual_seed(0)
    language = small_llama("small", Numbers(), 512, 0)
    model = VisionLanguage(language, Projector(DIM, width_of(language))).eval()
    pictures = torch.randn(questions, VISUAL, DIM, generator=generator)
    requests = []
    for number in range(questions):
        words = torch.randint(
            2, VOCABULARY, (int(torch.randint(20, 60, (1,), generator=generator)),), generator=generator
        )
        requests.append(Request(torch.cat([words[:8], torch.tensor([IMAGE_SLOT]), words[8:]]), str(number)))

    def look(keys: list[str]) -> Tensor:
        return torch.stack([pictures[int(key)] for key in keys])

    ways = {"one by one": 1, f"in batches of {batch}": batch}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    said: dict[str, list[str]] = {}
    for _ in range(repeats):
        for name, at_once in ways.items():
            started = time.perf_counter()
            said[name] = Answerer(model, Numbers(), look, at_once).answers(requests, tokens)  # type: ignore[arg-type]
            seconds[name].append(time.perf_counter() - started)
    slow, fast = (min(times) for times in seconds.values())
    first, second = said.values()
    print(f"{questions} questions, {tokens} new tokens, {torch.get_num_threads()} threads")
    print(f"one by one {slow:.2f} s, in batches {fast:.2f} s: {slow / fast:.1f} times as fast")
    print("answers are the same" if first == second else "ANSWERS DIFFER")
    return first == second


def padding() -> None:
    """Share of a step's places that are padding."""
    draws = np.random.default_rng(0)
    lengths = np.maximum(8, draws.lognormal(4.6, 0.8, 100_000)).astype(np.int64)
    shows = draws.random(len(lengths)) < 0.94
    for ranks in (1, 8):
        group = grouped(lengths, shows, seed=0, epoch=0, batch=128, micro=16)
        plain = shuffled(len(lengths), seed=0, epoch=0, batch=128, micro=16)
        wastes = [padding_waste(lengths, order, ranks) for order in (group, plain)]
        print(f"padding with {ranks} process(es): grouped {wastes[0]:.1%}, random {wastes[1]:.1%}")


if __name__ == "__main__":
    sys.exit(main())
