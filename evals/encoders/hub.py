"""Weights on the Hugging Face hub: at which commit, where they lie once they are here, how to get them.

A repository may change; a score may not change with it in silence. An entry pins a commit (`hub: owner/name@<commit>`),
or the commit that was first used on this machine is kept to, in `hub.lock.json`. Imports no torch.
"""

import contextlib
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from evals.encoders.locks import Lock, lock_file, locks, remember
from evals.errors import UnavailableError, UsageError, WeightsError

DEFAULT_FILE = "model.safetensors"
COMMIT = re.compile(r"[0-9a-f]{40}")
_PATIENCE = 5.0
"""Seconds to wait for the first answer of the hub; its own client tries for half a minute."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file on the hub, and whom it is for."""

    encoder: str
    licence: str
    repository: str
    file: str
    pin: str | None = None
    """The commit that the entry names."""
    gated: bool = False

    @classmethod
    def of(cls, encoder: str, licence: str, address: str | None, *, gated: bool = False) -> "HubFile":
        """From `owner/repository[/file][@commit]`.

        Raises UnavailableError where there is no address, UsageError for one that cannot be read.
        """
        if address is None:
            raise UnavailableError(
                "weights", f"{encoder} has no weights on the hub: pass --weights PATH, or --weights random as a floor."
            )
        place, pinned, commit = address.partition("@")
        parts = place.split("/", 2)
        if len(parts) < 2 or not all(parts):
            raise UsageError(f"hub {address!r} of {encoder} must be owner/repository or owner/repository/file.")
        if pinned and not COMMIT.fullmatch(commit):
            raise UsageError(
                f"hub {address!r} of {encoder}: a branch, a tag or a short commit may come to mean other weights; "
                "name the commit in all its 40 hexadecimal digits."
            )
        file = parts[2] if len(parts) == 3 else DEFAULT_FILE
        return cls(encoder, licence, "/".join(parts[:2]), file, commit or None, gated)

    @property
    def commit(self) -> str | None:
        """The commit to use: pinned, else the one first used on this machine; None: none yet, so `main`."""
        lock = locks().get(self._key)
        return self.pin or (lock.commit if lock else None)

    def cached(self) -> Path:
        """The local copy. Raises UnavailableError telling what to download, from which id, to which path."""
        path = self._look()
        if path is None:
            raise self._unavailable("are not on this machine")
        return path

    def download(self) -> Path:
        """The local copy, downloaded first if it is not here. Raises UnavailableError when it cannot be had."""
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

        if (path := self._look()) is not None:
            return path
        if constants.HF_HUB_OFFLINE:
            raise self._unavailable("are not on this machine, and HF_HUB_OFFLINE is set")
        self._reach(constants.ENDPOINT)
        try:
            return Path(hf_hub_download(self.repository, self.file, revision=self.commit))
        except (OSError, ValueError, EntryNotFoundError, HfHubHTTPError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise self._unavailable(f"could not be downloaded ({lines[0]})") from error

    def revision(self, path: Path) -> str:
        """The commit that a local copy came from: the hub's cache has a folder for each."""
        return path.relative_to(self._folder() / "snapshots").parts[0]

    def settle(self, path: Path, sha256: str) -> None:
        """Keep to the commit of this copy from now on, unless the entry pins one.

        Raises WeightsError where the copy is not the one that was used first.
        """
        if self.pin is not None:
            return
        lock, now = locks().get(self._key), Lock(self.revision(path), sha256)
        if lock is None:
            remember(self._key, now)
        elif lock.sha256 != sha256:
            raise WeightsError(
                f"{path} has sha256 {sha256}; the file of that commit that {self.encoder} first used here had "
                f"{lock.sha256}. Fetch it again, or delete its lines from {lock_file()} to go on with this one."
            )

    def main(self) -> str | None:
        """The commit of `main` as the hub tells within seconds, else as the hub's cache on this machine last saw it."""
        from huggingface_hub import constants

        if not constants.HF_HUB_OFFLINE:
            address = f"{constants.ENDPOINT}/api/models/{self.repository}/revision/main"
            # Whatever else stands in the way: what was last seen is told instead.
            with (
                contextlib.suppress(OSError, ValueError, KeyError, TypeError),
                urllib.request.urlopen(address, timeout=_PATIENCE) as answer,  # noqa: S310 - as in _reach
            ):
                return str(json.load(answer)["sha"])
        seen = self._folder() / "refs" / "main"
        return seen.read_text().strip() if seen.is_file() else None

    def state(self) -> list[str]:
        """Lines for people: whether it is here, at which commit, and whether `main` has moved since."""
        path, known = self._look(), self.commit
        commit = known or (self.revision(path) if path else None)
        how = "pinned by the entry" if self.pin else f"kept to since its first use here, {lock_file()}"
        if known is None:
            how = "`main`, which is kept to from its first use on"
        at = f"commit {commit} ({how})" if commit else how
        lines = [f"{'here' if path else 'not here'}: {self.file} of {self.repository} at {at}"]
        lines += [str(path)] if path else [f"to get it: {self._command()}"]
        if known is not None and (main := self.main()) not in (None, known):
            lines.append(f"`main` of {self.repository} has moved on, to {main}")
        return lines

    def gate(self) -> str | None:
        """Where to ask for access, if that is needed."""
        from huggingface_hub import constants

        place = f"{constants.ENDPOINT}/{self.repository}"
        return f"access is granted on request at {place}; then `hf auth login`" if self.gated else None

    @property
    def _key(self) -> str:
        return f"{self.repository}/{self.file}"

    def _folder(self) -> Path:
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{self.repository.replace('/', '--')}"

    def _look(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, self.file, revision=self.commit)
        return Path(found) if isinstance(found, str) else None

    def _command(self) -> str:
        revision = f" --revision {self.commit}" if self.commit else ""
        return f"hf download {self.repository} {self.file}{revision}"

    def _reach(self, endpoint: str) -> None:
        """Fail within seconds where there is no network: any answer at all means that there is one."""
        try:
            # The address is the hub's own, or the user's HF_ENDPOINT.
            request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310
            urllib.request.urlopen(request, timeout=_PATIENCE).close()  # noqa: S310
        except urllib.error.HTTPError:
            return
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise self._unavailable(f"are not on this machine, and {endpoint} cannot be reached ({reason})") from error

    def _unavailable(self, what: str) -> UnavailableError:
        gate = self.gate()
        at = f" at commit {self.commit}" if self.commit else ""
        at += f", first used on this machine ({lock_file()})" if at and not self.pin else ""
        return UnavailableError(
            "weights",
            f"the weights of {self.encoder} {what}. Needed: {self.file} of the hub's {self.repository}{at} "
            f"(licence: {self.licence}), to lie below {self._folder()}. With a network: `{self._command()}`"
            f"{f' ({gate})' if gate else ', after `hf auth login` where access is gated'}. Without: copy the file here "
            "and pass --weights PATH. --weights random scores the untrained architecture, as a floor.",
        )
