"""Hub weights: which commit is used, what is said where they are not here, and what a changed repository can do."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError

from evals.encoders.card import card, identity
from evals.encoders.entry import EncoderEntry, read_entry
from evals.encoders.hub import HubFile
from evals.encoders.locate import fetch
from evals.encoders.locks import lock_file, locks
from evals.errors import ResultsError, UnavailableError, UsageError, WeightsError
from evals.files import DigestMemo

FIRST, SECOND = "1" * 40, "2" * 40
VALUES = {
    "source": "timm",
    "model": "vit_tiny_patch16_224",
    "global_feature": "cls",
    "licence": "Apache-2.0",
    "size": 224,
    "patch": 16,
    "hub": "owner/name",
}


def entry_of(**changes: object) -> EncoderEntry:
    """An entry with weights on the hub."""
    return read_entry("mine", {**VALUES, **changes})


def digest(text: bytes) -> str:
    """sha256."""
    return hashlib.sha256(text).hexdigest()


def identity_of(**changes: object) -> str:
    """The identity, with no memory of digests."""
    return identity(entry_of(**changes), DigestMemo(None))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, HF_HUB_OFFLINE, and a cache of ours."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("EUPE_EVAL_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def publish(offline: Path) -> Callable[..., Path]:
    """Put a file into the hub's cache, as a download of `main` at a commit leaves it."""

    def put(commit: str, content: bytes, file: str = "model.safetensors", *, main: bool = True) -> Path:
        folder = offline / "hub" / "models--owner--name"
        path = folder / "snapshots" / commit / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        (folder / "refs").mkdir(exist_ok=True)
        if main:
            (folder / "refs" / "main").write_text(commit)
        return path

    return put


def test_weights_that_are_not_here(offline: Path) -> None:
    """The message says which file of which repository goes where, and what else can be done."""
    entry = entry_of()
    for ask in (lambda: identity(entry, DigestMemo(None)), lambda: fetch(entry)):
        with pytest.raises(UnavailableError) as caught:
            ask()
        assert caught.value.missing == "weights"
        for word in ("model.safetensors", "owner/name", "Apache-2.0", str(offline / "hub"), "--weights PATH"):
            assert word in str(caught.value)


def test_a_gate_is_told_before_anything_is_tried() -> None:
    """Where access is granted on request, the message says where to ask; elsewhere it only mentions the login."""
    with pytest.raises(UnavailableError, match=r"access is granted on request at \S+/owner/name; then `hf auth login`"):
        identity_of(gated=True)
    with pytest.raises(UnavailableError, match="where access is gated"):
        identity_of()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("owner", "must be owner/repository"),
        ("owner//x", "must be owner/repository"),
        ("owner/name@main", "all its 40"),
        ("owner/name@" + FIRST[:12], "all its 40"),
        ("owner/name/file.pt@", "all its 40"),
    ],
)
def test_an_address_that_cannot_be_kept_to(address: str, words: str) -> None:
    """Half an address, a branch and a short commit are refused by name."""
    with pytest.raises(UsageError, match=words):
        identity_of(hub=address)


def test_no_address_is_unavailable() -> None:
    """An entry without a hub address asks for a file."""
    with pytest.raises(UnavailableError, match="has no weights on the hub"):
        identity_of(hub=None)


def test_the_first_commit_is_kept_to(publish: Callable[..., Path]) -> None:
    """`main` moves on and its new file is here: the old one is still what is scored, and the card says so."""
    publish(FIRST, b"old")
    assert identity_of() == digest(b"old")
    publish(SECOND, b"new")
    assert identity_of() == digest(b"old")
    assert card(entry_of(), DigestMemo(None)).revision == FIRST
    assert json.loads(lock_file().read_text()) == {
        "owner/name/model.safetensors": {"commit": FIRST, "sha256": digest(b"old")}
    }
    lock_file().unlink()
    assert identity_of() == digest(b"new")
    assert locks()["owner/name/model.safetensors"].commit == SECOND


def test_a_pin_needs_no_memory(publish: Callable[..., Path]) -> None:
    """A commit in the entry goes before `main` and before what was used first, and nothing is written down."""
    publish(FIRST, b"old")
    publish(SECOND, b"new")
    pinned = entry_of(hub=f"owner/name@{FIRST}")
    assert identity(pinned, DigestMemo(None)) == digest(b"old")
    assert card(pinned, DigestMemo(None)).revision == FIRST
    assert not lock_file().exists()
    assert identity_of() == digest(b"new")
    assert identity(pinned, DigestMemo(None)) == digest(b"old")


def test_a_pinned_commit_that_is_not_here(publish: Callable[..., Path]) -> None:
    """Another commit of the same file does not stand in; the command names the one that is needed."""
    publish(SECOND, b"new")
    with pytest.raises(UnavailableError, match=f"at commit {FIRST} .*--revision {FIRST}"):
        identity_of(hub=f"owner/name@{FIRST}")


def test_a_commit_that_is_gone_from_the_cache(publish: Callable[..., Path]) -> None:
    """After its first use a commit is asked for again by name, with the place where that is written down."""
    path = publish(FIRST, b"old")
    identity_of()
    path.unlink()
    publish(SECOND, b"new")
    with pytest.raises(UnavailableError, match=rf"{FIRST}, first used on this machine \(.*hub\.lock\.json\)"):
        identity_of()


def test_other_bytes_under_the_same_commit_are_refused(publish: Callable[..., Path]) -> None:
    """A file that was changed in the cache is no silent change of a score."""
    publish(FIRST, b"old")
    identity_of()
    publish(FIRST, b"tampered")
    with pytest.raises(WeightsError, match=f"{digest(b'tampered')}.*{digest(b'old')}"):
        identity_of()


def test_files_of_one_repository_are_kept_apart(publish: Callable[..., Path]) -> None:
    """Each file has the commit at which it was first used, and a folder inside the repository is no commit."""
    publish(FIRST, b"one")
    identity_of()
    publish(SECOND, b"two", "sub/other.pt")
    assert identity_of(hub="owner/name/sub/other.pt") == digest(b"two")
    assert card(entry_of(hub="owner/name/sub/other.pt"), DigestMemo(None)).revision == SECOND
    assert identity_of() == digest(b"one")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"commit": 1}}'])
def test_a_broken_memory_of_commits_is_no_empty_one(text: str, publish: Callable[..., Path]) -> None:
    """A lock file that cannot be read is named, not passed over."""
    publish(FIRST, b"old")
    lock_file().parent.mkdir(parents=True)
    lock_file().write_text(text)
    with pytest.raises(ResultsError, match=r"hub\.lock\.json cannot be read"):
        identity_of()


def test_what_info_tells(publish: Callable[..., Path]) -> None:
    """Not here, here, kept to, pinned; and that `main` has moved on."""
    file = HubFile.of("mine", "MIT", "owner/name")
    (state, command) = file.state()
    assert state.startswith("not here: model.safetensors of owner/name at `main`")
    assert command == "to get it: hf download owner/name model.safetensors"
    path = publish(FIRST, b"old")
    assert file.state() == [
        f"here: model.safetensors of owner/name at commit {FIRST} (`main`, which is kept to from its first use on)",
        str(path),
    ]
    identity_of()
    assert "kept to since its first use here" in file.state()[0]
    publish(SECOND, b"new")
    assert file.state()[1:] == [str(path), f"`main` of owner/name has moved on, to {SECOND}"]
    pinned = HubFile.of("mine", "MIT", f"owner/name@{SECOND}")
    assert [FIRST in line for line in pinned.state()] == [False, False]
    assert "pinned by the entry" in pinned.state()[0]


def test_the_hub_is_asked_for_main_within_seconds(
    publish: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a network the hub's word counts; where it cannot be reached, what was last seen."""
    publish(FIRST, b"old")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    file = HubFile.of("mine", "MIT", "owner/name")
    asked: list[tuple[str, float]] = []

    def answer(address: str, timeout: float) -> io.BytesIO:
        asked.append((address, timeout))
        return io.BytesIO(json.dumps({"sha": SECOND}).encode())

    monkeypatch.setattr("urllib.request.urlopen", answer)
    assert file.main() == SECOND
    assert asked == [(f"{constants.ENDPOINT}/api/models/owner/name/revision/main", 5.0)]

    def refuse(address: str, timeout: float) -> io.BytesIO:
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert file.main() == FIRST


@pytest.mark.parametrize("pin", [None, FIRST])
def test_the_download_is_of_that_commit(
    pin: str | None, publish: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is pinned is what is asked for; without a pin or a first use it is `main`."""
    asked: list[str | None] = []

    def download(repository: str, file: str, revision: str | None) -> str:
        asked.append(revision)
        return str(publish(FIRST, b"x", file))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("evals.encoders.hub.HubFile._reach", lambda self, endpoint: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    fetch(entry_of(hub="owner/name" + (f"@{pin}" if pin else "")))
    assert asked == [pin]


def test_without_a_network_the_download_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable hub is an unavailable error naming it, not half a minute of retries."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UnavailableError, match=r"cannot be reached .*Name or service not known"):
        fetch(entry_of())


def test_what_the_hub_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words are in the message."""

    def gone(*args: object, **kwargs: object) -> str:
        raise EntryNotFoundError("404: no such entry")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("evals.encoders.hub.HubFile._reach", lambda self, endpoint: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", gone)
    with pytest.raises(UnavailableError, match=r"could not be downloaded \(404: no such entry"):
        fetch(entry_of())
