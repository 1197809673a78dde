"""Encoders of our own training, each from its export (see `manifest`): `--encoder <folder>`.

Text is met by the path of the paper's section 8.1: class token, class head of the student, de-standardised with the
statistics of its teacher; where that was a proxy, the proxy's own class head, de-standardised likewise; the projection
of the text-aligned teacher where its target was before it; then the cosine with that teacher's text tower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.clip import text
from evals.encoders.conv import TimmConv, TimmResNet
from evals.encoders.entry import EncoderEntry
from evals.encoders.exports.entry import ExportEntry, backbone_entry, text_route
from evals.encoders.exports.files import read_heads
from evals.encoders.exports.heads import Adapter, Statistics, fold
from evals.encoders.exports.manifest import BACKBONE, Teacher, check_whole, read_manifest
from evals.encoders.exports.text import read_tower
from evals.encoders.sources.eupe import convert
from evals.encoders.sources.timm import TimmTokens, assemble
from evals.errors import UsageError, WeightsError
from evals.files import DigestMemo
from evals.record import EncoderCard
from evals.types import Encoder, Features, TextAlignedEncoder


@dataclass(frozen=True, slots=True)
class TextSide:
    """What the lineage of an export adds to it."""

    path: nn.Module
    """From its class token to the text space."""
    tower: text.TextTower


class Aligned(TextAlignedEncoder):
    """The half of an export that meets text; heads and tower are read when they are first needed."""

    lineage: Tensor
    """The digest of the export, as bytes."""

    def align(self, folder: Path) -> None:
        """Take the text side from the lineage of the export in `folder`."""
        # Not modules of the encoder: its tensors must not become more while it is scored. What stands for them is
        # known from the start, so that vectors kept from one lineage never serve another.
        self._side = cache(lambda: text_side(folder))
        digest = torch.tensor(list(bytes.fromhex(self.card.weights_sha256)), dtype=torch.uint8)
        self.register_buffer("lineage", digest, persistent=False)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit text vectors. Raises as `text_side` does."""
        tower = self._side().tower
        if isinstance(tower, nn.Module):
            tower.to(self.lineage.device)
        return tower.encode(prompts)

    @torch.no_grad()
    def encode_image(self, features: Features) -> Float[Tensor, "B D"]:
        """Unit image vectors. Raises as `text_side` does."""
        assert features.pooled_BD is not None, "class heads have a class token to read"
        path = self._side().path.to(self.lineage.device)
        return functional.normalize(path(features.pooled_BD).float(), dim=-1)


class ExportTokens(TimmTokens, Aligned):
    """A vision transformer whose lineage reaches a text tower."""


class ExportConv(TimmConv, Aligned):
    """A ConvNeXt whose lineage reaches a text tower."""


class ExportResNet(TimmResNet, Aligned):
    """A ResNet whose lineage reaches a text tower."""


_KINDS: Mapping[type[Encoder], Any] = {TimmConv: ExportConv, TimmResNet: ExportResNet}


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an export.

    Raises UsageError for an entry that is no export's, WeightsError for files that are not whole or do not fit.
    """
    if not isinstance(entry, ExportEntry):
        raise UsageError(f"encoder {entry.name!r} has the source export: give the folder of the export as its name.")
    folder, random = Path(entry.folder), entry.weights == "random"
    manifest = read_manifest(folder) if random else check_whole(folder)
    backbone = backbone_entry(entry, manifest, "random" if random else str(folder / BACKBONE))
    made = assemble(backbone, card, convert, **manifest.options)
    if not entry.text:
        return made
    aligned: Aligned = _KINDS.get(type(made), ExportTokens)(backbone, card, cast("Any", made).model)
    aligned.align(folder)
    return aligned


def text_side(folder: Path) -> TextSide:
    """Heads and tower on the way from an export to text.

    Raises UnavailableError for an export or a text tower that is not here, WeightsError where one is another than the
    lineage says.
    """
    manifest = read_manifest(folder)
    route = text_route(folder, manifest)
    if route.why_not:
        raise WeightsError(f"the export in {folder} has no way to text: {route.why_not}.")
    steps = [step for link in route.links for step in _steps(link.folder, link.teacher.name)]
    path = nn.Sequential(*steps).requires_grad_(False).eval()
    if route.inside is not None:
        return TextSide(path, read_tower(route.inside))
    return TextSide(path, _outer_tower(folder, route.links[-1].teacher))


def _outer_tower(folder: Path, last: Teacher) -> text.TextTower:
    """The text tower of the encoder at the end of a lineage. Raises as `text_side` does."""
    assert last.tower is not None, "a route ends at a tower"
    digests = DigestMemo(None)
    found = text.tower_identity(last.tower.encoder, digests)
    if found != last.tower.digest:
        raise WeightsError(
            f"{folder}: its lineage ends at the text tower of {last.tower.encoder} with weights "
            f"{last.tower.digest[:12]}; the weights here are {found[:12]}. Get the ones it was trained with."
        )
    tower = text.load_tower(last.tower.encoder, digests)
    width = last.cls if last.projection is None else last.projection
    if tower.dim != width:
        raise WeightsError(f"{folder} ends at {width} numbers; the text tower of {last.tower.encoder} has {tower.dim}.")
    return tower


def _steps(folder: Path, teacher: str) -> list[nn.Module]:
    """The class head of an export for one teacher, folded, and that teacher's projection."""
    heads, statistics = read_heads(folder)
    adapter, measured = cast("Adapter", heads[teacher]), cast("nn.ModuleDict", statistics[teacher])
    assert adapter.cls is not None, "a route goes through class heads"
    folded = fold(adapter.cls, cast("Statistics", measured["cls"]))
    return [folded] if adapter.projection is None else [folded, adapter.projection]
