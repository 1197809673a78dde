"""A small tokenizer of the Llama kind, trained on a few sentences: BPE with word markers and byte fallback."""

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from evals.vlm.conversation import SYSTEM

SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
CORPUS = [
    f"{SYSTEM} USER: ASSISTANT:",
    "What colour is the car? Red. Is it a bus? No. Where is it? On the left.",
    "a red bicycle leaning on a wall",
] * 20


def trained(vocabulary: int = 420) -> models.BPE:
    """Merges of whole words, never across a marker; what the corpus lacks falls back to bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[*SPECIAL, *BYTES], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer.model


def llama_like(*, legacy: bool = True, pad_token: str | None = None, model: models.BPE | None = None) -> Any:
    """`legacy`: text behind a special token opens with a marker, too, and not at the beginning alone."""
    tokenizer = Tokenizer(model or trained())
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=pad_token
    )
