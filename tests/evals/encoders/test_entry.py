"""Entries, cards and the identity of weights, without torch."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from evals.encoders.card import card, identity
from evals.encoders.entry import read_entry
from evals.encoders.registry import resolve
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
        ({"gated": 1}, "gated .* true or false"),
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
