"""Names that need no entry: how they are read, what they hand on, and what they come to."""

from dataclasses import replace
from pathlib import Path

import pytest

from evals.encoders import routes
from evals.encoders.registry import resolve
from evals.encoders.scaffold.template import as_yaml
from evals.errors import UsageError

DINO = "timm:vit_small_patch14_dinov2.lvd142m"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file; what is in it matters only when it is loaded."""
    path = tmp_path / "my run" / "w.pt"
    path.parent.mkdir()
    path.write_bytes(b"x")
    return path


def test_a_name_is_taken_apart() -> None:
    """Word, model and query; `+` is a space and values are YAML's."""
    route = routes.parse("timm:a/b:c?prefix=cls+reg*4&size=512&mean=[0,0.5,1]&gated=true&note=a%3Db")
    assert (route.word, route.source, route.model) == ("timm", "timm", "a/b:c")
    assert route.query == {"prefix": "cls reg*4", "size": 512, "mean": [0, 0.5, 1], "gated": True, "note": "a=b"}
    assert route.given() == {
        "prefix": ("cls", "reg", "reg", "reg", "reg"),
        "size": 512,
        "mean": (0.0, 0.5, 1.0),
        "gated": True,
        "note": "a=b",
    }


def test_the_source_of_hub_is_not_its_word() -> None:
    """`hub:` is torch.hub's; the module of that name looks after files."""
    assert routes.parse("hub:a/b@c:d").source == "torch_hub"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:", r"no name of an encoder: expected timm:<name>, hf:"),
        (":x", "no name of an encoder"),
        ("timn:x", r"unknown source 'timn' .*timm:<name>"),
        ("card:x", "unknown source 'card'"),
        ("eupe:x", "models of 'eupe' need an entry"),
        (f"{DINO}?size", r"must be key=value&key=value"),
        (f"{DINO}?mean=[0", r"must be key=value&key=value"),
        (f"{DINO}?size=1&size=2", "says a key twice"),
        (f"{DINO}?sise=224", r"unknown key .*'sise'.*Nearest: size"),
        (f"{DINO}?model=other", r"unknown key .*'model'"),
        (f"{DINO}?size=big", r"size in the name .* whole number from 1; got 'big'"),
        (f"{DINO}?normalise=half&mean=[0,0,0]", "one or the other"),
        (f"{DINO}?prefix=cls+reg", r"2 tokens; .* has 1"),
        (f"{DINO}?dim=768", r"says dim 768; .* has 384"),
        ("timm:vit_small_patch14_dinov3", "timm has no model"),
        ("file:nowhere.pt", r"does not tell the architecture: add \?arch=timm:<name>"),
        ("file:nowhere.pt?arch=file:x", "does not tell the architecture"),
        ("file:nowhere.pt?arch=eupe-vit-t", "there is no file 'nowhere.pt'"),
        ("file:nowhere.pt?arch=eupe-vit-x", "unknown encoder 'eupe-vit-x'"),
        ("file:nowhere.pt?arch=eupe-vit-t&weights=random", "names its weights by the path"),
    ],
)
def test_wrong_names_are_refused(name: str, words: str) -> None:
    """A wrong part is a usage error naming it and what fits."""
    with pytest.raises(UsageError, match=words):
        resolve(name)


def test_a_route_tells_its_structure() -> None:
    """Prefix, norm, width and depth are those of the model, which is built without weights."""
    entry = resolve(DINO)
    assert (entry.prefix, entry.norm, entry.dim, entry.depth) == (("cls",), "final", 384, 12)
    conv = resolve("timm:convnext_tiny.eupe_lvd1689m")
    assert (conv.prefix, conv.norm, conv.dim, conv.depth) == ((), "final", 768, 4)
    spatial = resolve("timm:vit_pe_spatial_tiny_patch16_512.fb")
    assert (spatial.prefix, spatial.norm, spatial.global_feature) == (("(cls)",), "none_exists", "none")


def test_what_is_given_goes_before_what_the_library_tells() -> None:
    """Each key of the query replaces a value, and nothing else changes but the name."""
    name = f"{DINO}?global_feature=none&normalise=half&size=224&positions=dinov2&licence=MIT"
    half = (0.5, 0.5, 0.5)
    changes = {"global_feature": "none", "mean": half, "std": half, "size": 224, "positions": "dinov2"}
    assert resolve(name) == replace(resolve(DINO), name=name, licence="MIT", **changes)


def test_what_the_library_does_not_tell_can_be_given() -> None:
    """A mean over patches is no global feature of its own: refused with the key that settles it, taken with it."""
    name = "timm:vit_base_patch16_siglip_gap_224.v2_webli"
    with pytest.raises(UsageError, match=rf"only a mean over patches .*'{name}\?global_feature=none'"):
        resolve(name)
    entry = resolve(f"{name}?global_feature=none")
    assert (entry.global_feature, entry.prefix, entry.norm) == ("none", (), "final")


def test_the_query_can_name_weights() -> None:
    """Weights in the query hold unless the command names others."""
    assert resolve(f"{DINO}?weights=random").weights == "random"
    assert resolve(f"{DINO}?weights=random", weights="hub").weights == "hub"


def test_a_file_brings_other_weights_to_an_architecture(checkpoint: Path) -> None:
    """Everything but the weights and their terms is the architecture's; the path is whole, whatever it was."""
    name = f"file:{checkpoint}?arch={DINO}&positions=dinov2"
    base = resolve(f"{DINO}?positions=dinov2")
    assert base.licence == "apache-2.0"
    assert resolve(name) == replace(base, name=name, weights=str(checkpoint), hub=None, licence="unknown")


def test_a_file_for_an_entry(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The architecture may be an entry; the terms of its weights are not those of the file, unless given."""
    monkeypatch.chdir(checkpoint.parent)
    name = "file:w.pt?arch=eupe-vit-t&licence=MIT&size=512"
    entry, base = resolve(name), resolve("eupe-vit-t")
    assert (entry.source, entry.model, entry.global_feature) == (base.source, base.model, base.global_feature)
    assert (entry.weights, entry.licence, entry.size, entry.hub) == (str(checkpoint), "MIT", 512, None)
    assert entry.prefix == ("cls", "reg", "reg", "reg", "reg")


@pytest.mark.parametrize("query", ["", "?normalise=half&ignore=head.+mask&note=a:b%23c", "?mean=[0.1,0.2,0.3]"])
def test_a_route_can_be_saved_as_an_entry(query: str, tmp_path: Path) -> None:
    """The text of a resolved route, saved as a file, gives the same entry under the file's name."""
    entry = resolve(DINO + query)
    (tmp_path / "mine.yaml").write_text(as_yaml(entry))
    assert resolve("mine", extra=tmp_path) == replace(entry, name="mine")


def test_the_way_out_of_what_no_library_tells() -> None:
    """The error of a source shows the name with the keys that lack, whether it has a query or not."""
    first = str(routes.untold("x:y", "it is silent", norm="final", size="224"))
    assert "'x:y?norm=final&size=224'" in first
    assert "'x:y?size=224&norm=final'" in str(routes.untold("x:y?size=224", "it is silent", norm="final"))
