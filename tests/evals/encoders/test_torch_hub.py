"""Encoders that a repository's code builds: only when trusted, only at a commit, and then like any other."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evals.compose import entries
from evals.encoders.card import card
from evals.encoders.load import FreshWeightsWarning, blueprint, load
from evals.encoders.registry import resolve
from evals.encoders.routes import TRUST
from evals.encoders.scaffold.template import as_yaml
from evals.errors import UnavailableError, UsageError, WeightsError
from evals.files import DigestMemo
from evals.types import Encoder

COMMIT = "0123456789" * 4
NAME = f"hub:someone/models@{COMMIT}"
TOLD = "patch=4&size=32&normalise=half&global_feature=cls&prefix=cls+reg&norm=final"
CODE = '''
import torch
from torch import nn


class Tiny(nn.Module):
    """Two prefix tokens, two blocks, and drop rates read off a tensor, as such builders do."""

    def __init__(self, kind="dictionary"):
        super().__init__()
        self.embed_dim, self.kind = 8, kind
        self.rates = [x.item() for x in torch.linspace(0, 1, 2)]
        self.prefix = nn.Parameter(torch.randn(1, 2, 8))
        self.proj = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.norm = nn.LayerNorm(8)

    def maps(self, x):
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), self.proj(x).flatten(2).mT], 1)
        found = []
        for block in self.blocks:
            tokens = tokens + block(tokens)
            found.append(tokens)
        return found

    def forward_features(self, x):
        last = self.maps(x)[-1]
        normed = self.norm(last)
        if self.kind == "tokens":
            return normed
        if self.kind == "names":
            return {"tokens": normed}
        return {"x_norm_clstoken": normed[:, 0], "x_norm_patchtokens": normed[:, 2:], "x_prenorm": last}

    def get_intermediate_layers(self, x, n, norm):
        found = self.maps(x)
        return tuple((self.norm(found[i]) if norm else found[i])[:, 2:] for i in n)


def tiny(pretrained=True, kind="dictionary"):
    print("building")
    model = Tiny(kind)
    if pretrained:
        torch.nn.init.uniform_(model.norm.weight)
    return model


def tokens(pretrained=True):
    return tiny(pretrained, "tokens")


def names(pretrained=True):
    return tiny(pretrained, "names")


def broken(pretrained=True):
    raise ZeroDivisionError("no")


def mute():
    return Tiny()


def linear(pretrained=True):
    return nn.Linear(1, 1)
'''


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository where torch.hub keeps what it has fetched; the user trusts it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv(TRUST, "1")
    folder = tmp_path / "hub" / f"someone_models_{COMMIT}"
    folder.mkdir(parents=True)
    (folder / "hubconf.py").write_text(CODE)
    return folder


def encoder_of(point: str = "tiny", query: str = TOLD) -> Encoder:
    """The encoder, with the weights that its code brings."""
    return load(resolve(f"{NAME}:{point}?{query}"), DigestMemo(None))


def test_what_nobody_tells_must_be_given() -> None:
    """Every key that lacks is in the message, in a name to copy; what was given is not asked for again."""
    with pytest.raises(UsageError) as caught:
        resolve(f"{NAME}:tiny?size=32&normalise=half")
    told = str(caught.value)
    assert "does not tell patch, global_feature, prefix, norm." in told
    assert f"'{NAME}:tiny?size=32&normalise=half&patch=16&global_feature=cls&prefix=cls&norm=final'" in told


@pytest.mark.parametrize("commit", ["main", COMMIT[:12], COMMIT.replace("a", "g")[:39] + "g"])
def test_a_commit_must_be_whole(commit: str) -> None:
    """A branch or a short commit may come to mean other code."""
    with pytest.raises(UsageError, match="all its 40"):
        resolve(f"hub:someone/models@{commit}:tiny?{TOLD}")


def test_without_trust_nothing_runs(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the name, nor a saved entry, nor its blueprint runs the code of a repository that nobody trusts."""
    entry = resolve(f"{NAME}:tiny?{TOLD}")
    (tmp_path / "mine.yaml").write_text(as_yaml(entry))
    (repository / "hubconf.py").write_text("raise SystemError('it ran')")
    monkeypatch.delenv(TRUST)
    for ask in (
        lambda: resolve(f"{NAME}:tiny?{TOLD}"),
        lambda: entries(["mine"], None, 0, tmp_path),
        lambda: load(entry, DigestMemo(None)),
        lambda: blueprint(resolve("mine", extra=tmp_path)),
    ):
        with pytest.raises(UsageError, match="add --trust-remote-code, or set EUPE_EVAL_TRUST_REMOTE_CODE=1"):
            ask()


def test_features_are_the_codes_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Class token, patches and layers, with and without the norm, are the bare model's; its chatter is left out."""
    encoder = encoder_of()
    images = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    model = encoder.model
    first, last = model.maps((images - 0.5) / 0.5)
    found = encoder(images, layers=(1, 0))
    assert torch.equal(found.pooled_BD, model.norm(last)[:, 0])
    assert torch.equal(found.others["cls"], found.pooled_BD)
    assert torch.equal(found.patches_BHWD, model.norm(last)[:, 2:].reshape(2, 2, 3, 8))
    assert torch.equal(found.layers[0], found.patches_BHWD)
    assert torch.equal(found.layers[1], model.norm(first)[:, 2:].reshape(2, 2, 3, 8))
    raw = encoder(images, layers=(0,), norm=False)
    assert torch.equal(raw.patches_BHWD, last[:, 2:].reshape(2, 2, 3, 8))
    assert torch.equal(raw.layers[0], first[:, 2:].reshape(2, 2, 3, 8))
    assert torch.equal(raw.pooled_BD, found.pooled_BD)
    assert capsys.readouterr().out == ""


def test_a_model_that_gives_all_its_tokens() -> None:
    """The prefix that was given is taken off; what is before the norm cannot be had."""
    encoder = encoder_of("tokens")
    images = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    tokens = encoder.model.forward_features((images - 0.5) / 0.5)
    assert torch.equal(encoder(images).patches_BHWD, tokens[:, 2:].reshape(1, 2, 3, 8))
    assert torch.equal(encoder(images).pooled_BD, tokens[:, 0])
    with pytest.raises(UsageError, match=r"gave Tensor; needed: .* before the norm, x_prenorm"):
        encoder(images, norm=False)


def test_an_untrained_class_token_is_no_global_feature() -> None:
    """In parentheses it is neither the global feature nor an alternative."""
    query = TOLD.replace("cls+reg", "(cls)+reg")
    found = encoder_of(query=query.replace("global_feature=cls", "global_feature=none"))(torch.zeros(1, 3, 8, 8))
    assert found.pooled_BD is None
    assert found.others == {}
    with pytest.raises(UsageError, match="needs prefix, norm, and a global_feature"):
        encoder_of(query=query)


@pytest.mark.parametrize(
    ("point", "error", "words"),
    [
        ("broken", UnavailableError, r"broken of someone/models .*\(ZeroDivisionError: no\)"),
        ("absent", UnavailableError, "absent"),
        ("mute", UnavailableError, "`pretrained`"),
        ("linear", UsageError, "has no forward_features and no embed_dim"),
    ],
)
def test_code_that_does_not_fit(point: str, error: type[Exception], words: str) -> None:
    """What another's code does wrong is told with its name."""
    with pytest.raises(error, match=words):
        encoder_of(point)


def test_a_dictionary_of_other_names() -> None:
    """What the code gave and what was needed are both told."""
    with pytest.raises(UsageError, match=r"gave a dictionary of tokens; needed: x_norm_patchtokens"):
        encoder_of("names")(torch.zeros(1, 3, 8, 8))


def test_a_repository_that_is_not_here() -> None:
    """Without a network the message says where it would be kept."""
    with pytest.raises(UnavailableError, match=r"torch\.hub keeps repositories in"):
        resolve(f"hub:someone/else@{COMMIT}:tiny?{TOLD}")


def test_the_card_names_the_commit() -> None:
    """The commit stands for the weights that its code brings; another one is another identity."""
    known = card(resolve(f"{NAME}:tiny?{TOLD}"), DigestMemo(None))
    assert known.revision == COMMIT
    assert encoder_of().card.weights_sha256 == known.weights_sha256
    assert card(resolve(f"{NAME}:tiny?{TOLD}", weights="random"), DigestMemo(None)).revision is None


def test_a_builder_that_brings_no_weights(repository: Path) -> None:
    """Code that calls random weights pretrained is found out."""
    (repository / "hubconf.py").write_text(CODE.replace("torch.nn.init.uniform_(model.norm.weight)", "pass"))
    with pytest.warns(FreshWeightsWarning, match="never been trained"):
        encoder = encoder_of()
    assert encoder.card.random


def test_weights_of_a_file_are_strict(tmp_path: Path) -> None:
    """A file fills what the code builds, key by key."""
    tensors = {key: value.clone() + 1 for key, value in encoder_of().model.state_dict().items()}
    save_file(tensors, tmp_path / "w.safetensors")
    entry = resolve(f"{NAME}:tiny?{TOLD}", weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(load(entry, DigestMemo(None)).model.prefix, tensors["prefix"])
    del tensors["prefix"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="missing: prefix"):
        load(entry, DigestMemo(None))


def test_a_saved_entry_is_the_same(tmp_path: Path) -> None:
    """The text of the resolved route reads back as the same entry."""
    entry = resolve(f"{NAME}:tiny?{TOLD}")
    (tmp_path / "mine.yaml").write_text(as_yaml(entry))
    (again,) = entries(["mine"], None, 0, tmp_path)
    assert as_yaml(again) == as_yaml(entry)
    assert again.model == f"someone/models@{COMMIT}:tiny"
