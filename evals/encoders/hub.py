"""Weights on the Hugging Face hub: where they lie once they are here, and how to get them. Imports no torch."""

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from evals.errors import UnavailableError, UsageError

DEFAULT_FILE = "model.safetensors"
_PATIENCE = 5.0
"""Seconds to wait for the first answer of the hub; its own client tries for half a minute."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file on the hub, and whom it is for."""

    encoder: str
    licence: str
    repository: str
    file: str

    @classmethod
    def of(cls, encoder: str, licence: str, address: str | None) -> "HubFile":
        """From `owner/repository` or `owner/repository/file`.

        Raises UnavailableError where there is no address, UsageError for one that cannot be read.
        """
        if address is None:
            raise UnavailableError(
                "weights", f"{encoder} has no weights on the hub: pass --weights PATH, or --weights random as a floor."
            )
        parts = address.split("/", 2)
        if len(parts) < 2 or not all(parts):
            raise UsageError(f"hub {address!r} of {encoder} must be owner/repository or owner/repository/file.")
        return cls(encoder, licence, "/".join(parts[:2]), parts[2] if len(parts) == 3 else DEFAULT_FILE)

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
            return Path(hf_hub_download(self.repository, self.file))
        except (OSError, ValueError, EntryNotFoundError, HfHubHTTPError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise self._unavailable(f"could not be downloaded ({lines[0]})") from error

    def _look(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, self.file)
        return Path(found) if isinstance(found, str) else None

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
        from huggingface_hub import constants

        folder = Path(constants.HF_HUB_CACHE) / f"models--{self.repository.replace('/', '--')}"
        return UnavailableError(
            "weights",
            f"the weights of {self.encoder} {what}. Needed: {self.file} of the hub's {self.repository} "
            f"(licence: {self.licence}), to lie below {folder}. With a network: `hf download {self.repository} "
            f"{self.file}`, after `hf auth login` where access is gated. Without: copy the file here and pass "
            "--weights PATH. --weights random scores the untrained architecture, as a floor.",
        )
