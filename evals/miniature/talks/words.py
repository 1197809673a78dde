"""The tokenizer of the embedded world: one token a word."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from evals.errors import UnavailableError
from evals.miniature.palette import COLOURS
from evals.miniature.signs import WORDS
from evals.miniature.talks import phrases
from evals.miniature.talks.asking import LABELS
from evals.miniature.textures import TEXTURES

__all__ = ["SPECIAL", "save_tokenizer", "split", "vocabulary"]

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
"""Unknown word, beginning and end of a sequence, padding: ids 0 to 3."""

_PATTERN = r"[A-Za-z]+(?:'[a-z]+)?|[0-9]|\n|[^\sA-Za-z0-9]"
"""A word, with its apostrophe and what follows; a digit; a newline; any other sign. Blanks only part."""
_CLOSE = (".", ",", "?", "!", ":", ";", ")", "\n")
"""Before these there is no blank."""


def split(text: str) -> list[str]:
    """The words of a text, without special tokens."""
    return re.findall(_PATTERN, re.sub("|".join(map(re.escape, SPECIAL)), " ", text))


def _fixed() -> Iterator[str]:
    """Text whose words every world knows, whatever its questions turn out to be."""
    yield from (phrases.SYSTEM, phrases.SHORT, phrases.LETTER, phrases.LETTER_ONLY, phrases.WORD_ONLY)
    yield from (phrases.YES_OR_NO, phrases.REFERENCE, "USER: ASSISTANT: Context:")
    yield from ("A. B. C. D.", "0 1 2 3 4 5 6 7 8 9", "yes no Yes No", "\n")
    yield from (
        "This is a room.",
        "Describe the image.",
        "To the left of it is a mug. To the right",
        "There are only some, not both.",
        "An aeroplane is one.",
    )
    for label in LABELS:
        yield f"{phrases.said(label)} {phrases.many(label)} {phrases.a(label)}"
    yield from (*COLOURS, *TEXTURES, *phrases.USES.values(), *phrases.FLOORS.values())
    yield from (word.lower() for word in WORDS)


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Special tokens, then every word of the fixed phrases and of `texts` in the order of the alphabet."""
    found = {word for text in (*_fixed(), *texts) for word in split(text)}
    return [*SPECIAL, *sorted(found)]


def save_tokenizer(folder: Path, words: list[str]) -> None:
    """Write a folder that transformers' AutoTokenizer loads.

    Text begins with <s> unless special tokens are not wanted, as with Llama; words are the same wherever in the text
    they stand, so that pieces may be tokenised one by one; unknown words are <unk>; decoding gives the text back but
    for doubled blanks and blanks around signs. Raises UnavailableError without tokenizers.
    """
    try:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, processors
    except ImportError as error:
        raise UnavailableError(
            "package", f"the tokenizer of the embedded world needs tokenizers ({error}): pip install 'eupe-eval[vlm]'"
        ) from error
    unknown, begin, end, pad = SPECIAL
    made = tokenizers.Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(_PATTERN), behavior="removed", invert=True)
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, words.index(begin))]
    )
    close: list[Any] = [decoders.Replace(f" {sign}", sign) for sign in _CLOSE]
    made.decoder = decoders.Sequence(
        [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *close, decoders.Replace("\n ", "\n")]
    )
    made.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": unknown,
        "bos_token": begin,
        "eos_token": end,
        "pad_token": pad,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
