"""Entries, cards and the identity of weights, without torch."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from evals.encoders.card import card, fetch, identity
from evals.encoders.entry import read_entry
from evals.encoders.registry import names, resolve
from evals.errors import UnavailableError, UsageError
from evals.files import DigestMemo

LEAST = {
    "source": "timm",
    "model": "vit_tiny_patch16_224",
    "global_feature": "cls",
    "licence": "Apache-2.0",
    "size": 224,
    "patch": 16,
}
MEMO = DigestMemo(None)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache, and HF_HUB_OFFLINE."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_what_the_entry_leaves_out_has_a_default() -> None:
    """Six keys make an entry; normalisation is ImageNet's and weights come from the hub."""
    entry = read_entry("mine", LEAST)
    assert (entry.mean, entry.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (entry.weights, entry.text, entry.resize, entry.interpolation) == ("hub", False, "crop", "bicubic")


def test_normalisation_by_name_or_by_numbers() -> None:
    """`normalise` names a known pair; `mean` and `std` give one; both at once are refused."""
    assert read_entry("mine", {**LEAST, "normalise": "half"}).std == (0.5, 0.5, 0.5)
    assert read_entry("mine", {**LEAST, "mean": [0, 0.1, 1]}).mean == (0.0, 0.1, 1.0)
    with pytest.raises(UsageError, match="one or the other"):
        read_entry("mine", {**LEAST, "mean": [0, 0, 0], "normalise": "half"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pach": 16}, "unknown key .*'pach'.*Nearest: patch.*Known: .*antialias.*size"),
        ({"patch": "16"}, "patch .* whole number from 1; got '16'"),
        ({"patch": True}, "patch .* whole number"),
        ({"size": 0}, "size .* whole number from 1"),
        ({"text": "yes"}, "text .* true or false"),
        ({"mean": [0.5, 0.5]}, "mean .* three finite numbers"),
        ({"mean": [0.5, 0.5, float("nan")]}, "mean .* three finite numbers"),
        ({"mean": [0.5, 0.5, 10**400]}, "mean .* three finite numbers"),
        ({"std": [0.5, float("inf"), 0.5]}, "std .* three finite numbers"),
        ({"std": [0.5, 0, 0.5]}, "std .* three numbers above 0"),
        ({"std": [0.5, -0.5, 0.5]}, "std .* three numbers above 0"),
        ({"resize": "pad"}, "unknown resize .*'pad'.*crop, squash"),
        ({"prefix": "cls reg*x"}, "prefix .*reg\\*x"),
        ({"positions": "dino"}, "unknown positions .*Nearest: dinov2"),
        ({"family": "dinov9"}, "unknown family .*dinov9"),
        ({"licence": ""}, "licence .* must be text"),
        ({"depth": -1}, "depth .* whole number from 0"),
    ],
)
def test_wrong_entries_are_refused(changes: dict[str, object], words: str) -> None:
    """A wrong key or value is a usage error naming the key and what it takes."""
    with pytest.raises(UsageError, match=words):
        read_entry("mine", {**LEAST, **changes})


def test_missing_keys_are_named() -> None:
    """Every required key that lacks is in the message."""
    with pytest.raises(UsageError, match="lacks licence, patch"):
        read_entry("mine", {key: value for key, value in LEAST.items() if key not in ("licence", "patch")})


def test_an_unknown_source_names_the_nearest(tmp_path: Path) -> None:
    """A source is a module; a slip in its name is answered with the name."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**LEAST, "source": "tim"}))
    with pytest.raises(UsageError, match=r"unknown source .*Nearest: timm"):
        resolve("mine", extra=tmp_path)


def test_unknown_encoder_names_the_nearest() -> None:
    """A slip in a name is answered with the name."""
    with pytest.raises(UsageError, match=r"unknown encoder 'eupe-vit-x'\. Nearest: .*eupe-vit-[tsb]"):
        resolve("eupe-vit-x")


def test_entries_of_a_folder_of_ones_own(tmp_path: Path) -> None:
    """A folder of the user's adds its entries; a broken file is named."""
    (tmp_path / "mine.yaml").write_text("\n".join(f"{key}: {value}" for key, value in LEAST.items()))
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "list.yaml").write_text("- a")
    assert {"mine", "eupe-vit-t"} <= set(names(tmp_path))
    assert resolve("mine", extra=tmp_path).model == "vit_tiny_patch16_224"
    for name in ("broken", "list"):
        with pytest.raises(UsageError, match=rf"{name}\.yaml"):
            resolve(name, extra=tmp_path)


@pytest.mark.parametrize("name", ["mine", "eupe-vit-t", "timm:vit_tiny_patch16_224"])
def test_a_folder_of_entries_that_is_none(tmp_path: Path, name: str) -> None:
    """A slip in the folder is told, whichever encoder was asked for."""
    with pytest.raises(UsageError, match=r"missing' does not exist.*--config-dir"):
        resolve(name, extra=tmp_path / "missing")
    with pytest.raises(UsageError, match="missing"):
        names(tmp_path / "missing")


def test_weights_are_a_word_or_a_file(tmp_path: Path) -> None:
    """A path must exist; an encoder with nothing to load stays so under a word and refuses a file."""
    with pytest.raises(UsageError, match="no such file"):
        resolve("eupe-vit-t", weights="randon")
    with pytest.raises(UsageError, match="does not fit"):
        resolve("eupe-vit-t", weights="none")
    assert resolve("pixels", weights="random").weights == "none"
    file = tmp_path / "w.pt"
    file.write_bytes(b"x")
    with pytest.raises(UsageError, match="does not fit"):
        resolve("pixels", weights=str(file))


def test_identity_of_a_file_is_its_digest(tmp_path: Path) -> None:
    """The sha256 of the file, whose name is on the card."""
    file = tmp_path / "mine.pt"
    file.write_bytes(b"weights")
    known = card(resolve("eupe-vit-t", weights=str(file)), MEMO)
    assert known.weights_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (known.weights, known.random) == ("mine.pt", False)


def test_identity_of_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Architecture, seed and library versions each make another identity; the entry's name does not."""
    known = card(resolve("eupe-vit-t", weights="random"), MEMO)
    assert known.random
    other = {
        identity(resolve(name, weights="random", seed=seed), MEMO)
        for name in ("eupe-vit-t", "eupe-vit-s")
        for seed in (0, 1)
    }
    assert len(other) == 4
    assert known.weights_sha256 in other
    monkeypatch.setattr("evals.encoders.card.version", lambda package: "99")
    assert identity(resolve("eupe-vit-t", weights="random"), MEMO) not in other


def test_hub_weights_that_are_not_here(offline: Path) -> None:
    """The message says which file of which repository goes where, and what else can be done."""
    entry = resolve("eupe-vit-t")
    for ask in (lambda: identity(entry, MEMO), lambda: fetch(entry)):
        with pytest.raises(UnavailableError) as caught:
            ask()
        assert caught.value.missing == "weights"
        for word in (
            "model.safetensors",
            "timm/vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m",
            "FAIR Noncommercial",
            str(offline),
            "--weights PATH",
        ):
            assert word in str(caught.value)


def test_hub_weights_that_are_here(offline: Path) -> None:
    """A cached file is found without a network, and its digest is the identity."""
    folder = offline / "models--timm--vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    (snapshot / "model.safetensors").write_bytes(b"cached")
    entry = resolve("eupe-vit-t")
    fetch(entry)
    assert identity(entry, MEMO) == hashlib.sha256(b"cached").hexdigest()


def test_without_a_network_the_download_fails_at_once(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable hub is an unavailable error naming it, not half a minute of retries."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UnavailableError, match=r"cannot be reached .*Name or service not known"):
        fetch(resolve("eupe-vit-t"))


def test_a_gate_is_told(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub answers is in the message."""
    from huggingface_hub.errors import EntryNotFoundError

    def gone(*args: object, **kwargs: object) -> str:
        raise EntryNotFoundError("404: no such entry")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("evals.encoders.hub.HubFile._reach", lambda self, endpoint: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", gone)
    with pytest.raises(UnavailableError, match=r"could not be downloaded \(404: no such entry"):
        fetch(resolve("eupe-vit-t"))


def test_no_address_is_unavailable(offline: Path) -> None:
    """An entry without a hub address asks for a file."""
    with pytest.raises(UnavailableError, match="has no weights on the hub"):
        identity(read_entry("mine", LEAST), MEMO)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without open_clip the identity of its random weights says what to install."""
    from importlib.metadata import PackageNotFoundError

    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("evals.encoders.card.version", absent)
    with pytest.raises(UnavailableError, match=r"pip install 'eupe-eval\[text\]'") as caught:
        identity(resolve("pe-core-b", weights="random"), MEMO)
    assert caught.value.missing == "package"


def test_cards_need_no_torch() -> None:
    """Resolving every entry and its random identity imports neither torch nor timm."""
    code = (
        "import sys\n"
        "from evals.encoders.card import card\nfrom evals.encoders.registry import names, resolve\n"
        "from evals.files import DigestMemo\n"
        "cards = [card(resolve(name, weights='random'), DigestMemo(None)) for name in names()]\n"
        "assert len(cards) >= 10, cards\n"
        "assert not {'torch', 'timm', 'open_clip'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
