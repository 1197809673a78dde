"""Text towers of open_clip's architectures, beside their image tower or alone.

A tower owns everything between a prompt and its vector: canonicalisation, tokenizer, padding, context and pooling.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.card import identity
from evals.encoders.clip.config import ClipConfig, library, read_config
from evals.encoders.clip.files import fill
from evals.encoders.clip.vocabulary import FILES, Vocabulary
from evals.encoders.entry import EncoderEntry
from evals.encoders.registry import resolve
from evals.encoders.weights import seeded
from evals.errors import UnavailableError, UsageError, WeightsError
from evals.files import DigestMemo

_PROMPTS = 256
"""Prompts a pass."""

Tokenize = Callable[[Sequence[str]], Int[Tensor, "T _"]]
"""Prompts to token ids, padded and cut to the context of the architecture."""


@runtime_checkable
class TextTower(Protocol):
    """What meets image vectors in the space of an image-text model."""

    dim: int

    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit vectors of `dim` numbers."""


class ClipText(nn.Module):
    """A text tower of open_clip with its tokenizer, which is looked up when the first prompt comes."""

    def __init__(self, entry: EncoderEntry, config: ClipConfig) -> None:
        super().__init__()
        self.dim = config.width
        self.transformer = _transformer(entry, config)
        self._tokenizer = cache(lambda: tokenizer(entry, config))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit vectors in fp32. Raises UnavailableError for a tokenizer that is not here."""
        device, tokenize = self.transformer.positional_embedding.device, self._tokenizer()
        parts = []
        for start in range(0, len(prompts), _PROMPTS):
            vectors_TD = self.transformer(tokenize(prompts[start : start + _PROMPTS]).to(device))
            parts.append(functional.normalize(vectors_TD, dim=-1).float())
        return torch.cat(parts)


def load_tower(name: str, digests: DigestMemo, *, weights: str | None = None, seed: int = 0) -> ClipText:
    """The text side alone of the encoder `name` of open_clip, frozen, on the CPU, in fp32; `weights` as for an encoder.

    Its tensors are those of the encoder's file, whose image side is left out. Raises UsageError for an encoder that
    has no text tower of its own, UnavailableError for weights or a package that are not here, WeightsError for a file
    that does not fit or has changed since it was first used.
    """
    entry = _entry(name, weights, seed)
    config = read_config(name, entry.model)
    identity(entry, digests)
    with seeded(seed):
        tower = ClipText(entry, config)
    fill({"text": tower.transformer}, entry, ignore=("visual.",))
    return tower.float().requires_grad_(False).eval()


def tower_identity(name: str, digests: DigestMemo, *, weights: str | None = None, seed: int = 0) -> str:
    """The sha256 that stands for the weights of `load_tower`: of the encoder's file. Raises as it does."""
    return identity(_entry(name, weights, seed), digests)


def tokenizer(entry: EncoderEntry, config: ClipConfig) -> Tokenize:
    """The tokenizer of an entry: open_clip's own, or one of the hub.

    Raises UnavailableError where that, or what reads it, is not here; WeightsError for one that is not the tower's.
    """
    if repository := config.text.get("hf_tokenizer_name"):
        return _hub_tokenizer(Vocabulary.of(entry, repository), config)
    own = library(entry.name).get_tokenizer(config.architecture)

    def tokenize(prompts: Sequence[str]) -> Int[Tensor, "T _"]:
        ids_TK: Tensor = own(list(prompts))
        return ids_TK

    return tokenize


def _entry(name: str, weights: str | None, seed: int) -> EncoderEntry:
    entry = resolve(name, weights=weights, seed=seed)
    if entry.source != "open_clip":
        raise UsageError(f"{name} (source: {entry.source}) has no text tower of its own; name an encoder of open_clip.")
    return entry


def _transformer(entry: EncoderEntry, config: ClipConfig) -> Any:
    # open_clip builds no text tower by itself: it comes with an image tower of one tiny block, which is dropped.
    tiny = {"layers": 1, "width": 64, "image_size": 1, "patch_size": 1}
    clip = library(entry.name).CustomTextCLIP(
        embed_dim=config.width, vision_cfg=tiny, text_cfg=dict(config.text), quick_gelu=config.quick_gelu
    )
    return clip.text


def _hub_tokenizer(needed: Vocabulary, config: ClipConfig) -> Tokenize:
    """The pipeline that the repository's tokenizer.json describes, after open_clip's cleaning of prompts."""
    text = config.text
    options = dict(text.get("tokenizer_kwargs") or {})
    clean = importlib.import_module("open_clip.tokenizer").get_clean_fn(options.pop("clean", "whitespace"))
    if options or text.get("tokenizer_mode"):
        raise UsageError(f"{config.architecture}: its tokenizer has settings that are not known here: {options}.")
    path, beside = needed.files()
    backend, settings = _read(needed, path), _settings(beside)
    _check(backend, path, text)
    _check_ends(backend, path, settings)
    pad = _named(settings, "pad_token") or "<pad>"
    pad_id = backend.token_to_id(pad)
    if pad_id is None:
        raise WeightsError(f"{beside}: pad_token {pad!r} is not in {path.name}.")
    context = text.get("context_length", 77)
    backend.enable_truncation(max_length=context)
    backend.enable_padding(direction="right", length=context, pad_id=pad_id, pad_token=pad)

    def tokenize(prompts: Sequence[str]) -> Int[Tensor, "T _"]:
        return torch.tensor([found.ids for found in backend.encode_batch([clean(prompt) for prompt in prompts])])

    return tokenize


def _read(needed: Vocabulary, path: Path) -> Any:
    try:
        package = importlib.import_module("tokenizers")
    except ImportError as error:
        message = f"the text of {needed.encoder} needs tokenizers ({error}): pip install 'eupe-eval[hf]'"
        raise UnavailableError("package", message) from error
    try:
        return package.Tokenizer.from_file(str(path))
    # The package raises nothing narrower for a file that it cannot read.
    except Exception as error:
        raise WeightsError(f"{path} is no tokenizer: {error}. Fetch it again.") from error


def _check(backend: Any, path: Path, text: Mapping[str, Any]) -> None:
    """Raises WeightsError for a tokenizer whose ids the tower cannot take, or that leaves texts open."""
    if backend.get_vocab_size() > text["vocab_size"]:
        raise WeightsError(f"{path} has {backend.get_vocab_size()} tokens; the text tower knows {text['vocab_size']}.")
    probe = backend.encode("a")
    closed = probe.special_tokens_mask[-1] == 1
    if not closed or (text.get("pool_type") == "eos" and probe.ids[-1] != text.get("eos_id", 2)):
        raise WeightsError(
            f"{path} does not close a text with the token that the text tower was trained with: 'a' becomes "
            f"{probe.tokens}. Fetch the file again."
        )


def _check_ends(backend: Any, path: Path, settings: Mapping[str, Any]) -> None:
    """Raises WeightsError where a text is opened or closed otherwise than the settings of the tokenizer say.

    open_clip reads it by way of transformers, which goes by the settings; what these leave out is as the file has it.
    """
    probe = backend.encode("a")
    for place, name in ((0, "bos"), (-1, "eos")):
        told, token = settings.get(f"add_{name}_token"), _named(settings, f"{name}_token")
        if isinstance(told, bool) and token is not None and (probe.tokens[place] == token) != told:
            raise WeightsError(
                f"{path} makes {probe.tokens} of 'a'; {FILES[1]} beside it says add_{name}_token: {str(told).lower()}, "
                f"{name}_token {token!r}. Fetch both files again, of one commit."
            )


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read as settings of a tokenizer: {error}.") from error
    if not isinstance(settings, dict):
        raise WeightsError(f"{path} cannot be read as settings of a tokenizer: it is no JSON object.")
    return settings


def _named(settings: Mapping[str, Any], key: str) -> str | None:
    """A token as the settings write it, which may be in an object; None where they leave it to their class."""
    told = settings.get(key)
    if isinstance(told, dict):
        told = told.get("content")
    return None if told is None else str(told)
