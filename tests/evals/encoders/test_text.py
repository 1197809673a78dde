"""Text towers: what becomes of a prompt before the tower sees it, towers alone, tokenizers that are not here."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from huggingface_hub import constants
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional

from evals.encoders.card import card
from evals.encoders.clip import text, vocabulary
from evals.encoders.clip.config import read_config
from evals.encoders.entry import EncoderEntry
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.encoders.sources.open_clip import derive
from evals.errors import UnavailableError, UsageError, WeightsError
from evals.files import DigestMemo
from evals.types import TextAlignedEncoder
from tests.evals.encoders.small_clips import TAGS, save, shrink, upstream

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SIGLIP, WORLDWIDE = "ViT-B-16-SigLIP2", "ViT-H-14-worldwide-quickgelu"
REPOSITORIES = {SIGLIP: "timm/ViT-B-16-SigLIP2", WORLDWIDE: "facebook/xlm-v-base"}
GOLDEN = {
    # 49406 opens a text, 49407 closes it; `tokenizers` gives the same ids from the same merges.
    "a cat": [49406, 320, 2368, 49407],
    "A CAT": [49406, 320, 2368, 49407],
    "a diagram": [49406, 320, 22697, 49407],
    "  a \n photo of a dog ": [49406, 320, 1125, 539, 320, 1929, 49407],
    "dogs &amp; cats": [49406, 3255, 261, 3989, 49407],
    "Tiger-Shark, (Galeocerdo)!": [49406, 6531, 268, 7980, 267, 263, 37658, 78, 1364, 818, 7805, 49407],
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Empty caches of the hub and of ours."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("EUPE_EVAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip tells of small architectures."""
    shrink(monkeypatch)


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Path]:
    """Put a tokenizer into the hub's cache, as a download leaves it."""

    def put(name: str, tokenizer: Tokenizer, settings: Mapping[str, object]) -> Path:
        folder = tmp_path / "hub" / f"models--{REPOSITORIES[name].replace('/', '--')}"
        place = folder / "snapshots" / COMMIT
        place.mkdir(parents=True, exist_ok=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(COMMIT)
        tokenizer.save(str(place / "tokenizer.json"))
        (place / "tokenizer_config.json").write_text(json.dumps(settings))
        return place

    return put


def gemma(*, opening: str = "", closing: str = "<eos>") -> Tokenizer:
    """A tokenizer made as Gemma's is: pieces with the space at their front, bytes for what has none, end token."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁aceghiklorst", "gh"]
    pieces += ["▁c", "at", "▁cat"]
    merges = [("g", "h"), ("▁", "c"), ("a", "t"), ("▁c", "at")]
    ids = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(ids, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>"])
    if closing:
        ends = [(token, ids[token]) for token in (opening, closing) if token]
        tokenizer.post_processor = processors.TemplateProcessing(f"{opening} $A {closing}".strip(), None, ends)
    return tokenizer


def xlm(*, end: int = 2) -> Tokenizer:
    """A tokenizer made as XLM-V's is: `<s>` 0, `<pad>` 1, `</s>` 2, then pieces with the space at their front."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    special[2], special[end] = special[end], special[2]
    pieces = [(piece, 0.0) for piece in special] + [
        (piece, -1.0 - index) for index, piece in enumerate(["▁a", "▁", "A", "a"])
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, special.index("<unk>"), byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>"])
    ends = [("<s>", special.index("<s>")), ("</s>", special.index("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, ends)
    return tokenizer


GEMMA = {"tokenizer_class": "GemmaTokenizer", "pad_token": "<pad>", "eos_token": "<eos>", "padding_side": "right",
         "add_bos_token": False, "add_eos_token": True}  # fmt: skip
BOS = {"bos_token": {"content": "<bos>", "special": True}}


def entry_of(name: str, **changes: Any) -> EncoderEntry:
    """The entry of an architecture, with random weights."""
    return replace(derive("mine", f"{name}/{TAGS[name]}"), weights="random", **changes)


def tokens_of(name: str, prompts: list[str]) -> list[list[int]]:
    """The ids that the tower of an architecture gets."""
    entry = entry_of(name)
    return text.tokenizer(entry, read_config("mine", entry.model))(prompts).tolist()


@pytest.mark.parametrize("prompt", GOLDEN)
@pytest.mark.parametrize(("encoder", "context"), [("clip-b16", 77), ("pe-core-t", 32), ("pe-core-g", 72)])
def test_golden_ids_of_clips_tokenizer(encoder: str, context: int, prompt: str) -> None:
    """CLIP and PE: lower case, entities and spaces cleaned, opened, closed, padded with 0 to the context."""
    entry = resolve(encoder)
    ids = text.tokenizer(entry, read_config(encoder, entry.model))([prompt]).tolist()
    assert ids == [GOLDEN[prompt] + [0] * (context - len(GOLDEN[prompt]))]


def test_a_long_prompt_is_cut_and_closed() -> None:
    """The last place of the context is the end token, whatever had to go."""
    entry = resolve("pe-core-t")
    ids = text.tokenizer(entry, read_config("pe-core-t", entry.model))(["cat " * 50]).tolist()
    assert ids == [[49406] + [2368] * 30 + [49407]]


def test_siglips_text_is_cleaned_padded_and_closed(shrunk: None, publish: Callable[..., Path]) -> None:
    """Case and punctuation go, `_` becomes a space, the end token stays, 0 pads on the right to 64."""
    publish(SIGLIP, gemma(), GEMMA)
    one, other, cat, long = tokens_of(
        SIGLIP, ["Tiger-Shark, (Galeocerdo)!", "tigershark galeocerdo", "A_cat.", "a" * 99]
    )
    vocabulary_of = gemma().get_vocab()
    assert one == other
    assert one[: one.index(1)].count(vocabulary_of["▁"]) == 1
    # "a cat" is a, then a piece with the space at its front.
    assert cat == [vocabulary_of["a"], vocabulary_of["▁cat"], 1] + [0] * 61
    assert long == [vocabulary_of["a"]] * 63 + [1]


def test_worldwide_text_keeps_case_and_punctuation(shrunk: None, publish: Callable[..., Path]) -> None:
    """MetaCLIP 2: only spaces are cleaned; `<s>` opens, `</s>` closes, `<pad>` fills 77 places without being named."""
    publish(WORLDWIDE, xlm(), {"tokenizer_class": "XLMRobertaTokenizer"})
    (ids,) = tokens_of(WORLDWIDE, [" A\n a "])
    assert ids == [0, 5, 6, 4, 2] + [1] * 72


@pytest.mark.parametrize("name", [SIGLIP, WORLDWIDE])
def test_hub_tokenizers_give_the_ids_of_transformers(shrunk: None, publish: Callable[..., Path], name: str) -> None:
    """open_clip reads the same folder through transformers, and gets the same ids."""
    made, settings = (gemma(), GEMMA) if name == SIGLIP else (xlm(), {"tokenizer_class": "PreTrainedTokenizerFast"})
    settings = {**settings, "pad_token": "<pad>"}
    place, text_config = publish(name, made, settings), read_config("mine", f"{name}/{TAGS[name]}").text
    theirs = open_clip.tokenizer.HFTokenizer(
        str(place), context_length=text_config["context_length"], **text_config.get("tokenizer_kwargs", {})
    )
    prompts = ["Tiger-Shark, (Galeocerdo)!", "a cat", "  A &amp; a ", "a" * 200, "ß"]
    assert tokens_of(name, prompts) == theirs(prompts).tolist()


@pytest.mark.parametrize("name", [SIGLIP, WORLDWIDE])
def test_the_vector_is_taken_where_the_tower_was_trained_to_give_it(
    shrunk: None, publish: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    """SigLIP 2 reads the last of its 64 places, padding and all, MetaCLIP 2 the end token, as open_clip does."""
    publish(name, gemma() if name == SIGLIP else xlm(), GEMMA if name == SIGLIP else {})
    model = upstream(name)
    path = save(model, tmp_path / "w.safetensors")
    encoder = load(replace(entry_of(name), weights=str(path)), DigestMemo(None))
    assert isinstance(encoder, TextAlignedEncoder)
    prompts = ["a cat", "a a a"]
    ids = torch.tensor(tokens_of(name, prompts))
    vectors = encoder.encode_text(prompts)
    torch.testing.assert_close(vectors, model.encode_text(ids, normalize=True), rtol=0, atol=1e-6)
    tower = model.text if name == SIGLIP else model
    x = tower.token_embedding(ids) + tower.positional_embedding
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask))
    places = [63, 63] if name == SIGLIP else [row.index(2) for row in ids.tolist()]
    pooled = x[torch.arange(2), places]
    projected = tower.text_projection(pooled) if name == SIGLIP else pooled @ tower.text_projection
    torch.testing.assert_close(vectors, functional.normalize(projected, dim=-1))


def test_without_its_tokenizer_an_encoder_still_sees(shrunk: None, tmp_path: Path) -> None:
    """Images need no tokenizer; the first prompt, or a plan, tells which files of which repository go where."""
    entry = entry_of(SIGLIP)
    encoder = load(entry, DigestMemo(None))
    assert isinstance(encoder, TextAlignedEncoder)
    image = encoder.encode_image(encoder(torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))))
    assert image.shape == (1, 96)
    told = (
        r"tokenizer of mine is not on this machine. Needed: tokenizer.json tokenizer_config.json of the hub's "
        rf"timm/ViT-B-16-SigLIP2, to lie below {tmp_path}/hub/models--timm--ViT-B-16-SigLIP2. With a network: "
        r"`hf download timm/ViT-B-16-SigLIP2 tokenizer.json tokenizer_config.json`"
    )
    for use in (lambda: encoder.encode_text(["a cat"]), lambda: vocabulary.require_text(entry)):
        with pytest.raises(UnavailableError, match=told) as caught:
            use()
        assert caught.value.missing == "tokenizer"


def test_what_text_needs_is_known_before_anything_is_built(publish: Callable[..., Path]) -> None:
    """A bundled tokenizer needs nothing; the hub's must be there; another encoder's tower needs its weights."""
    vocabulary.require_text(resolve("clip-b16"))
    publish(WORLDWIDE, xlm(), {})
    vocabulary.require_text(resolve("metaclip2-h14"))
    vocabulary.require_text(resolve("dinov3-vit-s"))
    with pytest.raises(UnavailableError, match=r"tokenizer of siglip2-gopt-384 .* timm/ViT-gopt-16-SigLIP2-384"):
        vocabulary.require_text(resolve("siglip2-gopt-384"))
    with pytest.raises(UnavailableError, match=r"weights of dfn-h14-378 .*apple/DFN5B-CLIP-ViT-H-14-378"):
        vocabulary.require_text(replace(resolve("dinov3-vit-s"), text_tower="dfn-h14-378"))


def test_a_tower_inside_an_export_needs_nothing_else() -> None:
    """It has no entry, and neither weights nor a tokenizer of another encoder are asked for; others must be known."""
    vocabulary.require_text(replace(resolve("dinov3-vit-s"), source="export", text=True, text_tower="tiny-expert"))
    with pytest.raises(UnavailableError, match="weights of dfn-h14-378"):
        vocabulary.require_text(replace(resolve("dinov3-vit-s"), source="export", text=True, text_tower="dfn-h14-378"))
    with pytest.raises(UsageError, match="unknown encoder 'tiny-expert'"):
        vocabulary.require_text(replace(resolve("radiov2.5-b-clip"), text_tower="tiny-expert"))


def test_fetching_offline_tells_what_to_do(publish: Callable[..., Path]) -> None:
    """Without a network the same files are named; what is here already, or comes with open_clip, needs no network."""
    vocabulary.fetch_text(resolve("clip-b16"))
    publish(WORLDWIDE, xlm(), {})
    vocabulary.fetch_text(resolve("metaclip2-h14"))
    needed = r"tokenizer of siglip2-b could not be downloaded. Needed: tokenizer.json"
    with pytest.raises(UnavailableError, match=needed):
        vocabulary.fetch_text(resolve("siglip2-b"))
    with pytest.raises(UnavailableError, match=r"weights of dfn-h14-378 .*HF_HUB_OFFLINE"):
        vocabulary.fetch_text(replace(resolve("dinov3-vit-s"), text_tower="dfn-h14-378"))


def test_a_tokenizer_beside_pinned_weights_is_of_their_commit(
    shrunk: None, publish: Callable[..., Path], tmp_path: Path
) -> None:
    """`main` may have moved on: the tokenizer is looked for, and asked for, at the commit that the entry names."""
    place = publish(SIGLIP, gemma(), GEMMA)
    pinned = entry_of(SIGLIP, hub=f"{REPOSITORIES[SIGLIP]}/open_clip_model.safetensors@{'f' * 40}")
    with pytest.raises(UnavailableError, match=rf"at commit {'f' * 40}, to lie .*`hf download .*json --revision f"):
        vocabulary.require_text(pinned)
    older = shutil.copytree(place, place.parent / ("f" * 40))
    (place / "tokenizer.json").write_text("{}")
    vocabulary.require_text(pinned)
    ids = text.tokenizer(pinned, read_config("mine", pinned.model))(["a"])
    assert ids[0, :2].tolist() == [gemma().get_vocab()["a"], 1]
    found = vocabulary.vocabulary(pinned)
    assert found is not None
    assert {path.parent for path in found.files()} == {older}
    # Weights of another repository say nothing of it.
    elsewhere = vocabulary.vocabulary(replace(pinned, hub=f"owner/name@{'f' * 40}"))
    assert elsewhere == vocabulary.Vocabulary("mine", REPOSITORIES[SIGLIP])
    assert resolve("siglip2-b").hub == f"{REPOSITORIES[SIGLIP]}/open_clip_model.safetensors@{found_commit()}"


def found_commit() -> str | None:
    """The commit of the tokenizer of siglip2-b."""
    found = vocabulary.vocabulary(resolve("siglip2-b"))
    assert found is not None
    return found.commit


def test_the_card_tells_the_text_side(shrunk: None, publish: Callable[..., Path]) -> None:
    """Tower, its weights and its tokenizer; another tokenizer makes another text side and the same features."""
    absent = card(entry_of(SIGLIP), DigestMemo(None))
    assert absent.text_side == {
        "tower": "mine", "model": f"{SIGLIP}/webli", "weights_sha256": absent.weights_sha256, "tokenizer": None,
    }  # fmt: skip
    place = publish(SIGLIP, gemma(), GEMMA)
    first = card(entry_of(SIGLIP), DigestMemo(None))
    assert first.same_text(absent), "what is not here is not said to differ"
    assert not absent.same_text(first)
    for file in vocabulary.FILES:
        before = (place / file).read_text()
        (place / file).write_text(before + "\n")
        other = card(entry_of(SIGLIP), DigestMemo(None))
        assert other.same_features(first)
        assert not first.same_text(other)
        (place / file).write_text(before)
    assert card(entry_of("ViT-B-16-quickgelu"), DigestMemo(None)).text_side["tokenizer"] == "open_clip"
    assert card(resolve("dinov3-vit-s", weights="random"), DigestMemo(None)).text_side == {}


def test_another_tower_is_another_text_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that borrows a tower tells whose, and its identity; a tower without an entry is known by name."""
    (tmp_path / "w.pt").write_bytes(b"weights")
    entry = replace(resolve("radiov2.5-b-clip"), weights=str(tmp_path / "w.pt"))
    side = card(entry, DigestMemo(None)).text_side
    assert (side["tower"], side["model"]) == ("dfn-h14-378", "ViT-H-14-378-quickgelu/dfn5b")
    assert (side["weights_sha256"], side["tokenizer"]) == (None, "open_clip")
    cards = []
    for weights in (b"1", b"2"):
        (tmp_path / "tower.pt").write_bytes(weights)
        tower = replace(resolve("dfn-h14-378"), weights=str(tmp_path / "tower.pt"))
        monkeypatch.setattr("evals.encoders.card.tower_of", lambda entry, tower=tower: tower)
        cards.append(card(entry, DigestMemo(None)))
    assert cards[0].same_features(cards[1])
    assert not cards[0].same_text(cards[1])
    monkeypatch.undo()
    side = card(replace(entry, text_tower="nobody"), DigestMemo(None)).text_side
    assert side == {"tower": "nobody", "model": None, "weights_sha256": None, "tokenizer": None}


def test_a_tokenizer_that_changed_is_refused(shrunk: None, publish: Callable[..., Path]) -> None:
    """The commit that was used first is kept to, and a file that is not the one it had is told."""
    place = publish(SIGLIP, gemma(), GEMMA)
    tokens_of(SIGLIP, ["a cat"])
    (place / "tokenizer_config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"tokenizer_config.json has sha256"):
        tokens_of(SIGLIP, ["a cat"])


@pytest.mark.parametrize(
    ("name", "made", "settings", "words"),
    [
        (SIGLIP, gemma(), {**GEMMA, **BOS, "add_bos_token": True}, r"\['a', '<eos>'\] .*add_bos_token: true"),
        (SIGLIP, gemma(opening="<bos>"), {**GEMMA, **BOS}, "add_bos_token: false, bos_token '<bos>'"),
        (SIGLIP, gemma(closing="<bos>"), GEMMA, "add_eos_token: true, eos_token '<eos>'"),
        (SIGLIP, gemma(), {**GEMMA, "add_eos_token": False}, "add_eos_token: false"),
        (SIGLIP, gemma(closing=""), GEMMA, r"does not close a text .*'a' becomes \['a'\]"),
        (WORLDWIDE, xlm(end=3), {}, r"does not close a text .*'<s>', '▁a', '</s>'"),
        (SIGLIP, gemma(), {"pad_token": "<mask>"}, "pad_token '<mask>' is not in tokenizer.json"),
        (SIGLIP, gemma(), [], "cannot be read as settings of a tokenizer"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(
    shrunk: None, publish: Callable[..., Path], name: str, made: Tokenizer, settings: Any, words: str
) -> None:
    """One that leaves texts open, opens or ends them otherwise than it says, or cannot pad is not the tower's."""
    publish(name, made, settings)
    with pytest.raises(WeightsError, match=words):
        tokens_of(name, ["a"])


def test_more_tokens_than_the_tower_knows(shrunk: None, publish: Callable[..., Path]) -> None:
    """Ids beyond the tower's table are told before any is looked up."""
    made = gemma()
    made.add_tokens([f"word{index}" for index in range(200)])
    publish(SIGLIP, made, GEMMA)
    with pytest.raises(WeightsError, match=r"has 477 tokens; the text tower knows 400"):
        tokens_of(SIGLIP, ["a"])


def test_a_broken_tokenizer_file(shrunk: None, publish: Callable[..., Path]) -> None:
    """A file cut short is named."""
    place = publish(SIGLIP, gemma(), GEMMA)
    (place / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(WeightsError, match=r"tokenizer.json is no tokenizer"):
        tokens_of(SIGLIP, ["a"])


def test_a_tower_alone_has_the_vectors_of_the_whole_encoder(
    shrunk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the same file, frozen, and with the identity of that file; the image side is neither built nor loaded."""
    path = save(upstream("ViT-B-16-quickgelu"), tmp_path / "w.safetensors")
    monkeypatch.setattr(text, "resolve", lambda name, **_: replace(entry_of("ViT-B-16-quickgelu"), weights=str(path)))
    tower = text.load_tower("clip-b16", DigestMemo(None))
    encoder = load(replace(entry_of("ViT-B-16-quickgelu"), weights=str(path)), DigestMemo(None))
    assert isinstance(encoder, TextAlignedEncoder)
    prompts = ["a cat", "A photo of two dogs!"]
    torch.testing.assert_close(tower.encode(prompts), encoder.encode_text(prompts), rtol=0, atol=1e-6)
    assert isinstance(tower, text.TextTower)
    assert tower.dim == 48
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert not any(module.training for module in tower.modules())
    assert sum(p.numel() for p in tower.parameters()) < sum(p.numel() for p in encoder.parameters())
    assert text.tower_identity("clip-b16", DigestMemo(None)) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_tower_needs_its_weights_whole(shrunk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key less is an error that names it, without the file it is one that tells what to get."""
    path = tmp_path / "w.pt"
    tensors = upstream("ViT-B-16-quickgelu").state_dict()
    del tensors["ln_final.bias"]
    torch.save(tensors, path)
    monkeypatch.setattr(text, "resolve", lambda name, **_: replace(entry_of("ViT-B-16-quickgelu"), weights=str(path)))
    with pytest.raises(WeightsError, match=r"missing: text\.ln_final\.bias\.$"):
        text.load_tower("clip-b16", DigestMemo(None))
    monkeypatch.undo()
    with pytest.raises(UnavailableError, match="the weights of clip-b16"):
        text.load_tower("clip-b16", DigestMemo(None))
    with pytest.raises(UsageError, match=r"dinov3-vit-s \(source: timm\) has no text tower of its own"):
        text.load_tower("dinov3-vit-s", DigestMemo(None))


def test_random_towers_follow_the_seed(shrunk: None) -> None:
    """One seed gives the same vectors again, another seed others; the caller's random stream is left alone."""
    stream = torch.get_rng_state()
    first, again, other = (
        text.load_tower("clip-b16", DigestMemo(None), weights="random", seed=seed).encode(["a cat"])
        for seed in (0, 0, 1)
    )
    assert torch.equal(stream, torch.get_rng_state())
    torch.testing.assert_close(first, again, rtol=0, atol=1e-6)
    assert not torch.allclose(first, other)
    one, two = (text.tower_identity("clip-b16", DigestMemo(None), weights="random", seed=seed) for seed in (0, 1))
    assert one != two


def test_many_prompts_are_those_of_small_batches(shrunk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """More prompts than one pass takes come out in order, as unit vectors."""
    tower = text.load_tower("pe-core-t", DigestMemo(None), weights="random")
    prompts = ["a cat", "a dog", "a house", "a tree", "a boat"]
    together = tower.encode(prompts)
    monkeypatch.setattr(text, "_PROMPTS", 2)
    torch.testing.assert_close(tower.encode(prompts), together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(5))


def test_a_tower_builds_without_memory() -> None:
    """The largest text side, 900 million numbers of tokens alone, costs nothing on the meta device."""
    with torch.device("meta"):
        tower = text.load_tower("metaclip2-h14", DigestMemo(None), weights="random")
    assert tower.dim == 1024
    assert tower.transformer.token_embedding.weight.shape == (901629, 1024)
    assert all(tensor.is_meta for tensor in tower.state_dict().values())
