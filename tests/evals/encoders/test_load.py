"""Reading weights safely, loading them strictly, and telling trained from fresh."""

import dataclasses
import os
import pickle
import re
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from evals.encoders.card import card
from evals.encoders.load import FreshWeightsWarning, blueprint, digest, load
from evals.encoders.registry import adapter, resolve
from evals.encoders.weights import load_strict, looks_fresh, read_tensors, seeded, sketching
from evals.errors import WeightsError
from evals.files import DigestMemo
from evals.types import Encoder

TENSORS = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("file", ["w.safetensors", "w.pt", "wrapped.pth"])
def test_tensors_by_name(tmp_path: Path, file: str) -> None:
    """safetensors, a bare state dict, and one under the key `model` beside other things read alike."""
    path = tmp_path / file
    if path.suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save({"model": TENSORS, "epoch": 3} if "wrapped" in file else TENSORS, path)
    read = read_tensors(path)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[key], TENSORS[key]) for key in TENSORS)


@pytest.mark.parametrize("raw", [False, True])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, raw: bool) -> None:
    """A checkpoint that would run code is refused, the safe way is named, and the code has not run."""
    trap, path = tmp_path / "trap", tmp_path / "w.pt"
    if raw:
        path.write_bytes(pickle.dumps({"a": Evil(trap)}, protocol=2))
    else:
        torch.save({"model": TENSORS, "args": Evil(trap)}, path)
    with pytest.raises(
        WeightsError, match=r"w\.pt is refused.*GLOBAL (posix|nt)\.mkdir\).*safetensors\.torch\.save_file"
    ):
        read_tensors(path)
    assert not trap.exists()


@pytest.mark.parametrize("file", ["w.safetensors", "w.pt"])
def test_a_file_cut_short_is_named(tmp_path: Path, file: str) -> None:
    """Half a file is no weights."""
    path = tmp_path / file
    if path.suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match=rf"{file} (cannot be read|is refused)"):
        read_tensors(path)


@pytest.mark.parametrize("content", [b"hello world", b"<html>not found</html>", b"{}", b""])
def test_a_file_of_another_kind_is_told_in_words(tmp_path: Path, content: bytes) -> None:
    """What the file is not stands in the message, no opcode of a pickle."""
    for file, words in (
        ("w.pt", "neither a safetensors file nor a state dict|it is damaged"),
        ("w.safetensors", "no whole"),
    ):
        (tmp_path / file).write_bytes(content)
        with pytest.raises(WeightsError, match=words) as caught:
            read_tensors(tmp_path / file)
        assert not re.search(r"\(\W*\d+\W*\)", str(caught.value))


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_refusal_is_the_only_word(tmp_path: Path, protocol: int) -> None:
    """Torch remarks on pickles of other protocols; a refusal comes without the remark."""
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": Evil(tmp_path / "trap")}, protocol=protocol))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(WeightsError, match="is refused"):
            read_tensors(tmp_path / "w.pt")
    assert told == []
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(1)], {}])
def test_no_state_dict_is_named(tmp_path: Path, content: object) -> None:
    """A file of tensors without names, or of no tensors, is refused."""
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds no state dict"):
        read_tensors(tmp_path / "w.pt")


def test_strict_loading_lists_what_differs() -> None:
    """Missing, unexpected and misshapen keys are listed; ignored prefixes are left out; half precision is cast."""
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    good = {key: torch.full_like(value, 0.5).half() for key, value in model.state_dict().items()}
    load_strict(model, {**good, "head.weight": torch.ones(1)}, what="file", ignore=("head.",))
    assert all(parameter.dtype == torch.float32 and bool((parameter == 0.5).all()) for parameter in model.parameters())
    bad = {**good, "0.weight": torch.ones(3, 2), "other": torch.ones(1)}
    del bad["1.bias"]
    with pytest.raises(
        WeightsError,
        match=r"missing: 1\.bias; unexpected: other; of another shape: 0\.weight \(3, 2\) instead of \(2, 2\)",
    ):
        load_strict(model, bad, what="file")


def test_what_an_entry_ignores_is_not_read(tmp_path: Path) -> None:
    """Keys that begin as the entry says are left out, whatever the file."""
    save_file(TENSORS, tmp_path / "w.safetensors")
    torch.save(TENSORS, tmp_path / "w.pt")
    for path in tmp_path.iterdir():
        assert read_tensors(path, ("b",)).keys() == {"a"}


@pytest.mark.parametrize("file", ["w.safetensors", "w.pt", "legacy.pt"])
def test_on_the_meta_device_only_names_and_shapes_are_read(tmp_path: Path, file: str) -> None:
    """A file is known by its shapes without its values."""
    path = tmp_path / file
    if path.suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=file == "w.pt")
    with torch.device("meta"):
        read = read_tensors(path)
    assert all(value.is_meta for value in read.values())
    assert {key: value.shape for key, value in read.items()} == {key: value.shape for key, value in TENSORS.items()}


@pytest.mark.parametrize("name", ["eupe-vit-t", "fastvit-t8", "radiov2.5-b", "clip-b32"])
def test_a_sketch_has_the_names_and_shapes_of_the_encoder(name: str) -> None:
    """Passing over initialisations leaves out no tensor, and changes none that has values."""
    entry = resolve(name, weights="random")
    sketch = blueprint(entry)
    with torch.device("meta"):
        slow = cast("Encoder", adapter(entry.source).build(entry, card(entry, DigestMemo(None))))
    described = [{key: (x.shape, x.dtype) for key, x in made.state_dict().items()} for made in (sketch, slow)]
    assert described[0] == described[1]
    assert sketch.card == slow.card
    assert all(tensor.is_meta for tensor in (*sketch.parameters(), *sketch.buffers()))
    with sketching():
        assert torch.ones(2, device="cpu").mul_(3).add_(1).clamp_(max=3.5).tolist() == [3.5, 3.5]
        assert nn.init.constant_(torch.empty(2, device="cpu"), 5).tolist() == [5, 5]


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        ("vit_tiny_patch16_224", "vit_tiny_patch16_384", r"pos_embed \(1, 197, 192\) instead of \(1, 577, 192\)"),
        ("vit_small_patch16_224", "vit_small_patch32_224", r"weight \(384, 3, 16, 16\) instead of \(384, 3, 32, 32\)"),
    ],
)
def test_a_file_of_another_size_is_not_made_to_fit(tmp_path: Path, theirs: str, ours: str, words: str) -> None:
    """The filter of timm would resample patch kernels and position tables of another size; here that is an error."""
    model = timm.create_model(theirs, num_classes=0)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=words):
        load(resolve(f"timm:{ours}", weights=str(tmp_path / "w.safetensors")), DigestMemo(None))


def test_weights_of_another_family_list_their_keys(tmp_path: Path) -> None:
    """A file of something else under a timm entry names what lacks and what is too much."""
    save_file({"encoder.weight": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"missing: cls_token.*more; unexpected: encoder\.weight"):
        load(resolve("dinov3-vit-s", weights=str(tmp_path / "w.safetensors")), DigestMemo(None))


@pytest.mark.parametrize("name", ["eupe-vit-t", "eupe-convnext-t"])
def test_a_fresh_checkpoint_is_stamped_random(tmp_path: Path, name: str) -> None:
    """A file saved before training warns and carries the stamp; after one small step of every tensor it does not."""
    path = tmp_path / "w.safetensors"
    model = load(resolve(name, weights="random"), DigestMemo(None)).get_submodule("model")
    save_file(model.state_dict(), path)
    with pytest.warns(FreshWeightsWarning, match="never been trained"):
        fresh = load(resolve(name, weights=str(path)), DigestMemo(None))
    assert fresh.card.random
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(1e-4 * torch.randn(parameter.shape, generator=generator))
    save_file(model.state_dict(), path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not load(resolve(name, weights=str(path)), DigestMemo(None)).card.random


def test_either_sign_of_freshness_is_enough() -> None:
    """Untouched norms or untouched layer scales; a model with neither is never called fresh."""
    norm = nn.LayerNorm(4)
    assert looks_fresh(norm) is not None
    norm.bias.data[0] = 0.1
    assert looks_fresh(norm) is None
    scaled: Any = nn.Module()
    scaled.register_parameter("gamma_1", nn.Parameter(torch.full((4,), 1e-5)))
    assert looks_fresh(scaled) is not None
    scaled.gamma_1.data[0] = 0.0
    assert looks_fresh(scaled) is None
    assert looks_fresh(nn.Linear(2, 2)) is None


def test_signs_of_freshness_without_layer_norm() -> None:
    """Root-mean-square norms count like others; batch norms have seen nothing; tables and tokens are exactly 0."""
    assert looks_fresh(nn.RMSNorm(4)) is not None
    tower = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    assert looks_fresh(tower) == "no batch norm has seen a batch"
    tower[3].running_var[1] = 0.9
    assert looks_fresh(tower) is None
    tower[3].running_var[1] = 1
    tower[1].num_batches_tracked += 1
    assert looks_fresh(tower) is None
    tables: Any = nn.Module()
    for name in ("pos_embed", "cls_token"):
        tables.register_parameter(name, nn.Parameter(torch.zeros(1, 2, 4)))
    assert looks_fresh(tables) == "every position table and class token is exactly 0"
    tables.cls_token.data[0, 0, 0] = 1e-6
    assert looks_fresh(tables) is None


def test_the_digest_sees_everything() -> None:
    """A parameter, a buffer that no state dict holds, a name, a dtype: each moves the digest; a copy does not."""

    def build() -> Any:
        module = nn.Module()
        module.register_parameter("weight", nn.Parameter(torch.arange(6.0).reshape(2, 3)))
        module.register_buffer("hidden", torch.tensor(1.0), persistent=False)
        return module

    seen = {digest(build())}
    assert digest(build()) in seen
    changed = build()
    changed.weight.data[1, 2] = -0.0
    seen.add(digest(changed))
    changed = build()
    changed.hidden.add_(1)
    seen.add(digest(changed))
    changed = build()
    changed.weight.data = changed.weight.data.reshape(3, 2)
    seen.add(digest(changed))
    seen.add(digest(build().double()))
    changed = build()
    changed.register_buffer("other", torch.empty(0), persistent=False)
    seen.add(digest(changed))
    assert len(seen) == 6


def test_the_digest_does_not_depend_on_the_layout() -> None:
    """A transposed view has the bytes of its values in order, not of its memory."""
    one, other = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
    other.weight.data = one.weight.data.t().contiguous().t()
    assert digest(one) == digest(other)


def test_a_seed_fixes_modules_and_leaves_the_stream_alone() -> None:
    """Two builds under one seed agree; the surrounding stream goes on as if nothing had been drawn."""
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    with seeded(4):
        one = nn.Linear(3, 3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(4):
        other = nn.Linear(3, 3)
    assert torch.equal(one.weight, other.weight)


def test_the_encoder_is_frozen_and_its_card_complete() -> None:
    """`load` gives eval mode, no gradients, fp32, and a card with the number of parameters."""
    encoder = load(resolve("eupe-vit-t", weights="random"), DigestMemo(None))
    assert not encoder.training
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert encoder.card == dataclasses.replace(encoder.card, dim=192, depth=12, params=5_489_664, random=True)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files_never_end_in_a_traceback(tmp_path: Path, kind: str) -> None:
    """Bytes changed or cut off at random places are reported as weights that cannot be read, or read all the same."""
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=kind == "zip")
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for index in range(60):
        damaged = bytearray(whole)
        place = int(draw.integers(len(whole)))
        if index % 2:
            del damaged[place:]
        else:
            damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read_tensors(path)
            except WeightsError:
                refused += 1
    assert refused >= 30
