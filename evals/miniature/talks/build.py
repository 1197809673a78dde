"""What is written when all pictures are there: conversations, the six sets, the corpus and the tokenizer."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evals.miniature.sizes import Size
from evals.miniature.talks import gqa, mme, pope, realworldqa, scienceqa, textvqa
from evals.miniature.talks.conversations import about, alignment, alone
from evals.miniature.talks.corpus import documents
from evals.miniature.talks.phrases import REFERENCE
from evals.miniature.talks.shelf import Stock, stock_of
from evals.miniature.talks.shots import ALIGNMENT, INSTRUCTION, QUESTIONS, count, shot_at, write
from evals.miniature.talks.tables import Row
from evals.miniature.talks.words import save_tokenizer, vocabulary

__all__ = ["CORPUS", "FILES", "TOKENIZER", "count", "finish", "is_whole", "text_stream", "write"]

CAPTIONS = "llava/LLaVA-Pretrain/blip_laion_cc_sbu_558k.json"
TALKS = "llava/llava_v1_5_mix665k.json"
CORPUS = "talks/corpus.jsonl"
"""A document a line, in the order to be learnt in: {"parts": [...]}, in turn learnt and only read."""
TOKENIZER = "talks/tokenizer"
TABLES = (
    *(textvqa.FILE, scienceqa.FILE, realworldqa.FILE, pope.FILE, *gqa.FILES, mme.FILE),
    *(pope.FULL.format(category=category) for category in pope.CATEGORIES),
)
FILES = (CAPTIONS, TALKS, CORPUS, f"{TOKENIZER}/tokenizer.json", f"{TOKENIZER}/tokenizer_config.json", *TABLES)
"""Every file but the pictures."""

_STREAMS = {
    name: 700 + number
    for number, name in enumerate(
        ("asks", "captions", "talks", "textvqa", "scienceqa", "realworldqa", "pope", "gqa", "mme", "corpus")
    )
}
"""Streams of random numbers, apart from those of the pictures."""


def text_stream(seed: int) -> list[int]:
    """Seed of the corpus, and of any text that goes on from it (see `corpus.documents`)."""
    return [seed, _STREAMS["corpus"]]


def finish(root: Path, size: Size, seed: int, records: list[dict[str, Any]]) -> None:
    """Write everything but the pictures. Raises UnavailableError without pyarrow or tokenizers."""
    shelves: dict[str, list[Stock]] = {}
    for part in ("train", "questions"):
        rng = np.random.default_rng([seed, _STREAMS["asks"], len(shelves)])
        shelves[part] = stock_of((record for record in records if record["part"] == part), rng)
    texts = [*_write_talks(root, size, seed, shelves["train"])]
    texts += _write_sets(root, size, seed, shelves)
    told = list(documents(size.talks.documents, np.random.default_rng(text_stream(seed))))
    (root / CORPUS).parent.mkdir(parents=True, exist_ok=True)
    (root / CORPUS).write_text("".join(json.dumps({"parts": parts}) + "\n" for parts in told), encoding="utf-8")
    save_tokenizer(root / TOKENIZER, vocabulary([*texts, *(part for parts in told for part in parts)]))


def is_whole(root: Path, images: int) -> bool:
    """Whether every file is there, and as many pictures as `images`; those to learn from are there twice."""
    learnt, stored, asked = (
        sum(path.name[0] != "." for path in (root / folder).rglob("*.jpg"))
        for folder in (ALIGNMENT, INSTRUCTION, QUESTIONS)
    )
    return stored == 2 * learnt and learnt + asked == images and all((root / name).is_file() for name in FILES)


def _write_talks(root: Path, size: Size, seed: int, shelf: list[Stock]) -> Iterable[str]:
    """Write both files of LLaVA; yields the texts in them."""
    captions, talks = (np.random.default_rng([seed, _STREAMS[name]]) for name in ("captions", "talks"))
    first: list[Row] = []
    second: list[Row] = []
    for number, stock in enumerate(shelf):
        shot = shot_at(size, number)
        first += alignment(stock, shot.twin.removeprefix(f"{ALIGNMENT}/"), size.talks, captions)
        second += about(stock, shot.path.removeprefix(f"{INSTRUCTION}/"), talks)
    second += [alone(number, talks) for number in range(size.talks.alone)]
    for name, records, rng in ((CAPTIONS, first, captions), (TALKS, second, talks)):
        mixed = [records[k] for k in rng.permutation(len(records)).tolist()]
        (root / name).write_text(json.dumps(mixed, indent=1) + "\n", encoding="utf-8")
    for record in (*first, *second):
        for turn in record["conversations"]:
            # What a reader of signs made of them is known only where it read a word.
            lines = turn["value"].replace("<image>", "").split("\n")
            yield "\n".join(line for line in lines if not line.startswith(REFERENCE))


def _write_sets(root: Path, size: Size, seed: int, shelves: Mapping[str, list[Stock]]) -> Iterable[str]:
    """Write the six sets; yields the texts in them."""
    asked, talks = shelves["questions"], size.talks
    known = pope.statistics(stock.sight for shelf in shelves.values() for stock in shelf)

    def stream(name: str) -> np.random.Generator:
        return np.random.default_rng([seed, _STREAMS[name]])

    tables = (
        textvqa.write(root, asked, talks.textvqa, stream("textvqa")),
        scienceqa.write(root, asked, talks.scienceqa, stream("scienceqa")),
        realworldqa.write(root, asked, talks.realworldqa, stream("realworldqa")),
        pope.write(root, [s for s in asked if s.sight.kind != "board"], known, talks.pope, stream("pope")),
        gqa.write(root, asked, talks.gqa, stream("gqa")),
        mme.write(root, asked, talks.mme, stream("mme")),
    )
    for row in (row for rows in tables for row in rows):
        yield from (str(row.get(key, "")) for key in ("question", "hint", "answer", "fullAnswer"))
        yield from (*row.get("choices", ()), *row.get("answers", ()))
