"""Ids and labels are those of LLaVA-1.5, whatever the tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

from evals.datasets.llava import Talk, Turn
from evals.errors import DataError, UsageError
from evals.vlm.conversation import SYSTEM, prompt
from evals.vlm.tokens import IGNORED, IMAGE_SLOT, Codec, Encoded
from tests.evals.vlm.llama_like import CORPUS, llama_like, trained

CASES = {
    "one round": (True, "<image>\nWhat colour is the car?", "Red."),
    "three rounds": (
        True,
        *("<image>\nWhat colour is the car?", "Red."),
        *("Is it a bus?", "No.", "Where is it?", "On the left."),
    ),
    "text only": (False, "Where is the bicycle?", "On a wall."),
    "picture in the second question": (True, "Is it a bus?", "No.", "What colour is the car?\n<image>", "Red."),
}
OPENING = (
    "<s> ▁A ▁chat ▁bet ween ▁a ▁cur ious ▁user ▁and ▁an ▁art ific ial ▁inte lli gen ce ▁assistan t. ▁The ▁assistan t "
    "▁gi ves ▁he lp fu l, ▁det ai led, ▁and ▁poli te ▁answ ers ▁to ▁the ▁user 's ▁qu est ions ."
)
GOLDEN_PIECES = {
    "one round": "▁USER : ▁ <image> ▁ <0x0A> W hat ▁colo ur ▁is ▁the ▁car ? ▁ASS IS TAN T: [▁Red . </s>]",
    "three rounds": (
        "▁USER : ▁ <image> ▁ <0x0A> W hat ▁colo ur ▁is ▁the ▁car ? ▁ASS IS TAN T: [▁Red . </s>] "
        "▁USER : ▁Is ▁it ▁a ▁bus? ▁ASS IS TAN T: [▁No . </s>] "
        "▁USER : ▁Where ▁is ▁it ? ▁ASS IS TAN T: [▁On ▁the ▁left. </s>]"
    ),
    "text only": "▁USER : ▁Where ▁is ▁the ▁bic ycle ? ▁ASS IS TAN T: [▁On ▁a ▁wal l . </s>]",
    "picture in the second question": (
        "▁USER : ▁Is ▁it ▁a ▁bus? ▁ASS IS TAN T: [▁No . </s>] "
        "▁USER : ▁ <image> ▁ <0x0A> W hat ▁colo ur ▁is ▁the ▁car ? ▁ASS IS TAN T: [▁Red . </s>]"
    ),
}
GOLDEN_IDS = {
    "one round": "390 262 295 -200 295 13 273 314 406 322 328 308 405 263 416 337 346 344 388 261 2",
    "three rounds": (
        "390 262 295 -200 295 13 273 314 406 322 328 308 405 263 416 337 346 344 388 261 2 "
        "390 262 385 329 296 413 416 337 346 344 386 261 2 390 262 418 328 329 263 416 337 346 344 387 308 419 2"
    ),
    "text only": "390 262 418 328 308 412 383 263 416 337 346 344 387 296 397 283 261 2",
    "picture in the second question": (
        "390 262 385 329 296 413 416 337 346 344 386 261 2 "
        "390 262 295 -200 295 13 273 314 406 322 328 308 405 263 416 337 346 344 388 261 2"
    ),
}


@pytest.fixture(scope="module")
def model() -> models.BPE:
    """One training for all tests."""
    return trained()


@pytest.fixture(scope="module")
def codec(model: models.BPE) -> Codec:
    """For the original Llama tokenizer."""
    return Codec(llama_like(model=model), visual_tokens=16, max_length=2048, pad_token="<unk>")


def talk(image: bool, *texts: str) -> Talk:
    """Question and answer in turn."""
    turns = tuple(Turn("gpt" if index % 2 else "human", text) for index, text in enumerate(texts))
    return Talk("record-7", Path("a.jpg") if image else None, turns)


def ids_and_labels(encoded: Encoded) -> tuple[list[int], list[int]]:
    """As lists."""
    return encoded.ids_T.tolist(), encoded.labels_T.tolist()


def read_golden(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """Ids by the vocabulary and labels of what stands in brackets."""
    vocabulary = tokenizer.get_vocab() | {"<image>": IMAGE_SLOT}
    ids, labels, inside = [], [], False
    for word in text.split():
        inside = inside or word.startswith("[")
        number = vocabulary[word.strip("[]")]
        ids.append(number)
        labels.append(number if inside else IGNORED)
        inside = inside and not word.endswith("]")
    return ids, labels


def llava_way(tokenizer: Any, text: str, image: bool) -> tuple[list[int], list[int]]:
    """The published computation on the text as a whole: tokens between markers, masks by counting rounds."""

    def tokens(part: str) -> list[int]:
        chunks = [tokenizer(chunk).input_ids for chunk in (part.split("<image>") if image else [part])]
        joined = list(chunks[0])
        for chunk in chunks[1:]:
            joined += [IMAGE_SLOT, *chunk[1:]]
        return joined

    ids = tokens(text)
    labels = list(ids)
    labels[0], at = IGNORED, 1
    for round_text in text.split("</s>")[:-1]:
        # One beginning of sequence is counted in each: here for the `</s>` that follows, there against the last `▁`.
        length, asked = len(tokens(round_text)), len(tokens(round_text.split(" ASSISTANT: ")[0] + " ASSISTANT: ")) - 2
        labels[at : at + asked] = [IGNORED] * asked
        at += length
    assert at == len(ids)
    return ids, labels


def written(case: tuple[Any, ...]) -> str:
    """The text of a case, its picture in front of its question."""
    rounds = []
    for question, answer in zip(case[1::2], case[2::2], strict=True):
        moved = "<image>\n" + question.replace("<image>", "").strip() if "<image>" in question else question
        rounds.append(f"USER: {moved} ASSISTANT: {answer}</s>")
    return f"{SYSTEM} {''.join(rounds)}"


@pytest.mark.parametrize("name", CASES)
def test_golden_ids_and_masks(codec: Codec, name: str) -> None:
    """Four conversations piece by piece; what is learned stands in brackets."""
    ids, labels = ids_and_labels(codec.encode_talk(talk(*CASES[name]), "v1"))
    assert (ids, labels) == read_golden(codec.tokenizer, f"{OPENING} {GOLDEN_PIECES[name]}")
    assert ids[len(OPENING.split()) :] == [int(number) for number in GOLDEN_IDS[name].split()]


@pytest.mark.parametrize("name", CASES)
def test_golden_cases_equal_the_published_computation(codec: Codec, name: str) -> None:
    """The whole text in the original Llama tokenizer, masked by counting."""
    found = ids_and_labels(codec.encode_talk(talk(*CASES[name]), "v1"))
    assert found == llava_way(codec.tokenizer, written(CASES[name]), CASES[name][0])


@pytest.mark.parametrize(
    "answer", ["Red", " Red", "Red ", "\nRed", "Ölçü — 3 € 4", "a\n\nb  c", "USER: x", "<image>", "日本"]
)
def test_odd_answers_equal_the_published_computation(codec: Codec, answer: str) -> None:
    """Blanks, new lines, letters that the vocabulary lacks, names of speakers."""
    case = (False, "Where  is\nit? ", answer, "And\tthen?", answer)
    found = ids_and_labels(codec.encode_talk(talk(*case), "v1"))
    assert found == llava_way(codec.tokenizer, written(case), image=False)
    assert codec.tokenizer.decode([label for label in found[1] if label != IGNORED]).count(answer) == 2


def test_plain_supervises_the_caption_and_its_new_line(codec: Codec) -> None:
    """Beginning, picture, caption, new line."""
    found = ids_and_labels(codec.encode_talk(talk(True, "What?\n<image>", "a red bicycle"), "plain"))
    assert found == read_golden(codec.tokenizer, "<s> <image> [▁a ▁red ▁bic ycle <0x0A>]")


@pytest.mark.parametrize("name", CASES)
def test_releases_of_the_tokenizer_do_not_matter(codec: Codec, model: models.BPE, name: str) -> None:
    """The same ids where text behind `</s>` has no marker, and from transformers' own class, legacy or not."""
    described = json.loads(Tokenizer(model).to_str())["model"]
    own = {"vocab": described["vocab"], "merges": [tuple(pair) for pair in described["merges"]]}
    later = llama_like(legacy=False, model=model)
    classes = [LlamaTokenizer(**own, legacy=legacy, add_bos_token=True) for legacy in (True, False)]
    expected = ids_and_labels(codec.encode_talk(talk(*CASES[name]), "v1"))
    for tokenizer in (later, *classes):
        assert ids_and_labels(Codec(tokenizer, 16, 2048, "<unk>").encode_talk(talk(*CASES[name]), "v1")) == expected
    assert (later(written(CASES[name])).input_ids == codec.tokenizer(written(CASES[name])).input_ids) == (
        "three" not in name and "second" not in name
    )


def test_a_byte_level_tokenizer_keeps_its_own_blanks() -> None:
    """Not of the Llama kind: the text as a whole, the blank in the answer's first token, no beginning of sequence."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|end|>", pad_token="<|end|>")
    codec = Codec(tokenizer, 16, 2048)
    ids, labels = ids_and_labels(codec.encode_talk(talk(*CASES["text only"]), "v1"))
    assert ids == tokenizer(written(CASES["text only"]).replace("</s>", "<|end|>")).input_ids
    assert (
        ids[labels.count(IGNORED) :]
        == labels[labels.count(IGNORED) :]
        == tokenizer(" On a wall.<|end|>", add_special_tokens=False).input_ids
    )
    assert codec.pad_id == codec.end_id == 0


def test_a_prompt_is_what_training_read_before_the_answer(codec: Codec) -> None:
    """Evaluation begins where labels begin."""
    ids, labels = ids_and_labels(codec.encode_talk(talk(*CASES["one round"]), "v1"))
    asked = codec.encode_prompt(prompt("What colour is the car?", image=True))
    assert asked.tolist() == ids[: labels.index(388)]


@pytest.mark.parametrize(
    ("visual", "longest", "kept", "cut_before", "cut_after"),
    [
        (16, 81, 66, 0, 0),
        (16, 80, 65, 0, 1),
        (16, 66, 51, 0, 15),
        (16, 65, 50, 1, 15),
        (16, 64, 49, 2, 15),
        (1, 66, 66, 0, 0),
        (1, 50, 50, 16, 0),
    ],
)
def test_cuts(model: models.BPE, visual: int, longest: int, kept: int, cut_before: int, cut_after: int) -> None:
    """66 tokens with the picture at 48, before it is 16 tokens or 1, and after."""
    codec = Codec(llama_like(model=model), visual, longest, "<unk>")
    whole = Codec(llama_like(model=model), visual, 2048, "<unk>").encode_talk(talk(*CASES["one round"]), "v1")
    assert (len(whole.ids_T), whole.ids_T.tolist().index(IMAGE_SLOT)) == (66, 48)
    found = codec.encode_talk(talk(*CASES["one round"]), "v1")
    assert (len(found.ids_T), found.cut_before, found.cut_after) == (kept, cut_before, cut_after)
    assert torch.equal(found.ids_T, whole.ids_T[:kept])
    assert torch.equal(found.labels_T, whole.labels_T[:kept])
    assert found.supervised == max(0, kept - 63)


@pytest.mark.parametrize(("longest", "cut_before", "cut_after"), [(76, 3, 16 + 14), (70, 9, 16 + 8), (60, 19, 0)])
def test_a_picture_that_does_not_fit_is_left_out(
    model: models.BPE, longest: int, cut_before: int, cut_after: int
) -> None:
    """79 tokens with the picture at 61: what stands before it stays and is learned."""
    encoded = Codec(llama_like(model=model), 16, longest, "<unk>").encode_talk(
        talk(*CASES["picture in the second question"]), "v1"
    )
    assert (encoded.shows, encoded.supervised) == (False, 3)
    assert (encoded.cut_before, encoded.cut_after) == (cut_before, cut_after)
    assert len(encoded.ids_T) == min(61, longest)


def test_a_sample_without_an_answer_stays(codec: Codec) -> None:
    """It says that nothing is supervised."""
    encoded = codec.encode_talk(talk(True, "<image>\nWhat colour is the car?", ""), "v1")
    assert (encoded.supervised, encoded.shows) == (0, True)
    assert set(encoded.labels_T.tolist()) == {IGNORED}


def test_wrong_conversations_name_their_record(codec: Codec) -> None:
    """The error of the template, with the record's id."""
    with pytest.raises(DataError, match=r"record record-7: the picture must be in one turn"):
        codec.encode_talk(talk(True, "What?", "Red"), "v1")


def test_a_tokenizer_without_padding_is_told(model: models.BPE) -> None:
    """Llama has no padding token; the error says how to name one, and which names do not exist."""
    with pytest.raises(UsageError, match=r"no token for padding\. Name one .* pad_token, such as <unk>"):
        Codec(llama_like(model=model), 16, 2048)
    with pytest.raises(UsageError, match=r"pad_token '<pad>' is not in the vocabulary"):
        Codec(llama_like(model=model), 16, 2048, "<pad>")
    assert Codec(llama_like(model=model, pad_token="</s>"), 16, 2048).pad_id == 2
    assert Codec(llama_like(model=model, pad_token="</s>"), 16, 2048, "<unk>").pad_id == 0


def test_a_tokenizer_without_an_end_is_told(model: models.BPE) -> None:
    """Answers could not be closed."""
    tokenizer = llama_like(model=model)
    tokenizer.eos_token = None
    with pytest.raises(UsageError, match="has no end of sequence"):
        Codec(tokenizer, 16, 2048, "<unk>")


def test_a_tokenizer_that_wraps_texts_is_told(model: models.BPE) -> None:
    """As encoders of text do: an end of sequence behind every text."""
    tokenizer = llama_like(model=model)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    with pytest.raises(UsageError, match="more than a beginning of sequence before it"):
        Codec(tokenizer, 16, 2048, "<unk>")


def test_a_tokenizer_that_joins_answer_and_question_is_told() -> None:
    """Merges across blanks leave no place for the mask to begin."""
    joining = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", "</s>"], show_progress=False)
    joining.train_from_iterator(["USER: Is it? ASSISTANT: Yes"] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=joining, eos_token="</s>", unk_token="<unk>")
    with pytest.raises(UsageError, match="joins the answer with `ASSISTANT:` before it"):
        Codec(tokenizer, 16, 2048, "<unk>")


def test_visual_tokens_must_leave_room(model: models.BPE) -> None:
    """Otherwise no sample with a picture could learn anything."""
    with pytest.raises(UsageError, match="2304 visual tokens leave no room for words among max_length 2048"):
        Codec(llama_like(model=model), 2304, 2048, "<unk>")
