"""The tokenizer and the corpus."""

import json
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from evals.miniature.talks import build, gqa, mme, pope, realworldqa, scienceqa, textvqa
from evals.miniature.talks.corpus import conversation, documents
from evals.miniature.talks.imagine import imagine, mistaken
from evals.miniature.talks.lists import checklist, inventory
from evals.miniature.talks.maps import GLANCES, SIDE, glances, word_map
from evals.miniature.talks.phrases import LETTER, LETTER_ONLY, SHORT, SYSTEM, WORD_ONLY
from evals.miniature.talks.sights import STANDING, Item, Sight
from evals.miniature.talks.words import save_tokenizer, split, vocabulary

PROMPT = f"{SYSTEM} USER: What colour is the mug?\n{SHORT} ASSISTANT:"


@pytest.fixture(scope="module")
def tokenizer(tiny_talks: Path) -> Any:
    """The tokenizer of the tiny world, as transformers loads it."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(tiny_talks / build.TOKENIZER)


def texts(root: Path) -> list[str]:
    """Every text of the world but what readers of signs made of them."""
    found = [part for line in (root / build.CORPUS).read_text().splitlines() for part in json.loads(line)["parts"]]
    for name in (build.CAPTIONS, build.TALKS):
        for record in json.loads((root / name).read_text()):
            for turn in record["conversations"]:
                lines = turn["value"].replace("<image>", "").split("\n")
                found += [line for line in lines if not line.startswith("Reference OCR token")]
    for name in (textvqa.FILE, scienceqa.FILE, realworldqa.FILE, pope.FILE, gqa.FILES[0], mme.FILE):
        for row in pq.read_table(root / name).to_pylist():
            found += [row["question"], str(row["answer"]) if "answer" in row else row["answers"][0]]
            found += [*row.get("choices", []), row.get("hint", ""), row.get("fullAnswer", "")]
    return found


def test_every_word_is_known(tokenizer: Any, tiny_talks: Path) -> None:
    """No text of the world, no template and no instruction has an unknown word."""
    everything = [*texts(tiny_talks), PROMPT, LETTER, LETTER_ONLY, WORD_ONLY, "Context: Reference OCR token: tea, bus"]
    assert len(everything) > 500
    for text in everything:
        assert tokenizer.unk_token_id not in tokenizer(text, add_special_tokens=False)["input_ids"], text


def test_special_tokens(tokenizer: Any) -> None:
    """Ids 0 to 3; text begins with <s> and does not end; unknown words are <unk>; </s> in a text is one token."""
    assert [tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id] == [
        *range(4)
    ]
    ids = tokenizer("the quokka is red</s>")["input_ids"]
    known = tokenizer.convert_tokens_to_ids
    assert ids == [1, known("the"), 0, known("is"), known("red"), 2]
    assert len(tokenizer) == len(tokenizer.get_vocab()) < 600


@pytest.mark.parametrize(
    "text",
    [
        PROMPT,
        "In the middle is a grey sign, on the right is a mug.",
        "What is it for?\nA. red\nB. yes\nAnswer with the option's letter from the given choices directly.",
    ],
)
def test_decoding_gives_the_text_back(tokenizer: Any, text: str) -> None:
    """Blanks, signs, apostrophes and newlines are as they were."""
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_pieces_are_the_whole(tokenizer: Any) -> None:
    """Ids of the pieces of a conversation, one after the other, are those of the conversation."""
    whole = conversation([("Is the mug red?", "yes"), ("What is on the table?", "ball")])
    pieces = [f"{SYSTEM} USER: Is the mug red? ASSISTANT:", " yes</s>", "USER: What is on the table? ASSISTANT:"]
    pieces.append(" ball</s>")
    ids = [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces]
    assert list(chain(*ids)) == tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_split_by_hand() -> None:
    """Words keep their apostrophes, digits and signs stand alone, blanks are gone."""
    assert split("The user's 12 mugs,\nA. red</s>USER:") == [
        *("The", "user's", "1", "2", "mugs", ",", "\n", "A", ".", "red", "USER", ":"),
    ]


def test_the_vocabulary_has_the_words_and_their_order(tmp_path: Path) -> None:
    """Special tokens, then the alphabet; a new word of a text is in it; equal words give equal bytes."""
    words = vocabulary(["zebra red zebra"])
    assert words[:4] == ["<unk>", "<s>", "</s>", "<pad>"]
    assert words[4:] == sorted(set(words[4:])) and "zebra" in words
    assert len(words) == len(vocabulary([])) + 1
    save_tokenizer(tmp_path / "a", words)
    save_tokenizer(tmp_path / "b", words)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_every_world_has_the_same_words(tokenizer: Any) -> None:
    """Much more text than that of the tiny world has no other words, so that models of one seed read another's."""
    texts = ["".join(parts) for parts in documents(3000, np.random.default_rng(11))]
    assert set(vocabulary(texts)) <= set(tokenizer.get_vocab())


def test_documents() -> None:
    """As many as wanted, the same under one seed; conversations have the template, what else maps have a newline."""
    first, again = (list(documents(60, np.random.default_rng(3))) for _ in range(2))
    assert first == again and len(first) == 60
    texts = ["".join(parts) for parts in first]
    talks = [text for text in texts if "ASSISTANT" in text]
    # 21 lists, 3 maps told again, 3 + 3 talks; then 13 talks and 10 lines about maps, and seven scenes that are told.
    assert len(talks) == 6 + 13 + 4
    assert all(text.startswith((SYSTEM, "USER: ")) for text in talks)
    assert all(text.count("ASSISTANT:") == text.count("</s>") >= 1 for text in talks)
    assert sum(text.endswith("\n") for text in texts) == 24 + 10 + 1
    assert len(set(texts)) > 55
    only_read = [[line.split() for line in parts[1].split("\n")] for parts in first if len(parts) == 3]
    assert [len(lines) for lines in only_read] == [1] * 18 + [2 * GLANCES] * (12 + 23)
    assert {len(words) for lines in only_read for words in lines} == {SIDE**2}
    told_again = [parts for parts in first[18:30] if not parts[0] and parts[1].split("\n")[0] in parts[2]]
    assert len(told_again) == 3


def test_lists_are_true_and_even() -> None:
    """What is there, and as much that is not: all of what a list says is on the map, or not."""
    rng, words = np.random.default_rng(5), 0
    for _ in range(50):
        sight = imagine(rng)
        told = word_map(sight, rng).split()
        said = [line.rsplit(": ", 1) for line in checklist(sight, rng).split(", ")]
        answers = [answer for _, answer in said]
        assert answers.count("yes") == answers.count("no") > 0
        assert not [word for word, answer in said if answer == "no" and word.split()[-1] in told]
        words += sum(word.split()[-1] in told for word, answer in said if answer == "yes") - answers.count("yes")
    assert words > -20  # a thing behind another may have no cell


def test_inventories_tell_what_is_alone() -> None:
    """Its writing, its colour if it has one, else its pattern; neither what there is two of nor what is unclear."""
    one = Item(0, "ball", "striped", ("red", "blue"), "", (0.0, 0.5, 1.0, 1.0), 3.0, 0.5, "floor", ("red", "blue"))
    mug = replace(one, id=1, label="mug", texture="plain", colours=("green",), shown=("green",))
    sign = replace(one, id=2, label="sign", texture="plain", text="exit")
    two = [
        replace(one, id=3, label="car"),
        replace(one, id=4, label="car"),
        replace(one, id=5, label="bird", clear=False),
    ]
    told = inventory(Sight("gathering", (one, mug, sign, *two)), np.random.default_rng(0))
    assert set(told.split(", ")) == {"ball: striped", "mug: green", "sign: exit"}
    assert inventory(Sight("gathering", tuple(two)), np.random.default_rng(0)) == "nothing"


def test_maps_have_a_word_for_each_visual_token() -> None:
    """Cells say what is there; what is nearer covers what is farther, and a thing that is seen has its name in one."""
    far = Item(0, "ball", "striped", ("red", "blue"), "", (0.0, 0.5, 1.0, 1.0), 3.0, 0.5, "floor", ("red", "blue"))
    near = replace(
        far, id=1, label="mug", texture="plain", colours=("green",), shown=("green",), box=(0.5, 0.5, 1.0, 1.0)
    )
    near = replace(near, depth=2.0)
    words = word_map(Sight("gathering", (near, far), "tiles"), np.random.default_rng(0)).split()
    assert len(words) == SIDE**2
    rows = [words[row * SIDE : (row + 1) * SIDE] for row in range(SIDE)]
    assert {word for row in rows[:4] for word in row} == {"wall"}
    assert {word for row in rows[4:] for word in row[:4]} <= {"ball", "striped", "red", "blue"}
    assert {word for row in rows[4:] for word in row[4:]} == {"mug", "plain", "green"}
    floor = word_map(Sight("gathering", (), "tiles"), np.random.default_rng(0)).split()
    assert floor[:32] == ["wall"] * 32 and set(floor[32:]) == {"floor", "tiled"}
    board = replace(far, label="sign", texture="plain", text="taxi", box=(0.1, 0.1, 0.9, 0.4))
    assert set(word_map(Sight("board", (board,)), np.random.default_rng(0)).split()) == {
        *("wall", "sign", "taxi", "red", "blue")
    }


def test_a_mistaken_sight_stands_where_the_true_one_does() -> None:
    """Things stay things at their places; kinds and words are others mostly, and neither of two is the likelier one."""
    rng = np.random.default_rng(8)
    sights = [imagine(rng) for _ in range(400)]
    pairs = [pair for sight in sights for pair in zip(sight.items, mistaken(sight, rng).items, strict=True)]
    assert all((item.id, item.box, item.on) == (other.id, other.box, other.on) for item, other in pairs)
    assert all((item.label in STANDING) == (other.label in STANDING) for item, other in pairs)
    assert all(item.label == other.label for item, other in pairs if item.label not in STANDING)
    signs = [(item.text, other.text) for item, other in pairs if item.text]
    assert sum(one != two for one, two in signs) > 0.8 * len(signs) > 80
    standing = [(item, other) for item, other in pairs if item.label in STANDING]
    assert 0.6 < np.mean([item.label != other.label for item, other in standing]) < 0.98
    assert 0.5 < np.mean([item.colours == other.colours for item, other in standing]) < 0.75
    before, after = (Counter(item.label for item in side) for side in zip(*standing, strict=True))
    assert all(abs(before[label] - after[label]) < 0.05 * len(standing) for label in before | after)


def test_glances_say_together_what_is_at_a_place() -> None:
    """First what is there, then what might be; places of things have several words, those of the room mostly not."""
    rng = np.random.default_rng(9)
    sight = imagine(rng)
    lines = [line.split() for line in glances(sight, mistaken(sight, rng), rng).split("\n")]
    assert len(lines) == 2 * GLANCES and {len(words) for words in lines} == {SIDE**2}
    known = [set(word_map(each, rng).split()) for each in [sight] * 20]
    there = set().union(*known)
    assert all(set(words) <= there for words in lines[:GLANCES])
    assert not all(set(words) <= there for words in lines[GLANCES:])
    assert len({tuple(words) for words in lines}) == 2 * GLANCES


def test_told_scenes_hold_the_answers() -> None:
    """A colour or word that is the answer to a question was said before it."""
    checked = 0
    for text in map("".join, documents(2000, np.random.default_rng(4))):
        if "wall" in text:  # what another thing covers is on no map
            continue
        told, _, rest = text.removeprefix(SYSTEM).partition("\n")
        for part in rest.split("</s>"):
            question, _, answer = part.partition(" ASSISTANT: ")
            if "What colour" in question and "\nA." not in question:
                checked += 1
                assert f"{answer} " in told
    assert checked > 20
