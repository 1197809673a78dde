"""Pickled releases become safetensors without running anything of them."""

import argparse
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from evals.__main__ import app
from evals.encoders import fitting
from evals.encoders.convert import LAYOUTS, convert
from evals.encoders.weights import read_tensors
from evals.errors import EvalError, ResultsError, UsageError, WeightsError

ARGUMENTS = argparse.Namespace(
    image_size=448,
    enc_args={"arch": "vit_small"},
    lr_schedule=np.linspace(0, 1, 5),
    best=np.float64(0.5),
    count=np.int64(3),
    dtype=torch.float16,
)


class Evil:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"mkdir '{self._path}'",)


def distilled() -> dict[str, Tensor]:
    """A few tensors as DUNE and UNIC name them."""
    return {
        "module.encoder.norm.weight": torch.arange(4.0),
        "module.encoder.blocks.0.0.attn.qkv.weight": torch.arange(6.0).reshape(2, 3).half(),
        "module.projectors.mast3r.0.weight": torch.ones(2, 2),
        "module.projectors.mast3r.0.bias": torch.ones(2),
        "module.teacher_norms.mast3r.mean": torch.ones(2),
    }


@pytest.mark.parametrize("layout", ["dune", "unic"])
def test_the_encoder_is_kept_and_the_rest_named(tmp_path: Path, layout: str) -> None:
    """Values and dtypes stay, wrappers of keys go, the header tells where it comes from, the report what is missing."""
    source, target = tmp_path / "in.pth", tmp_path / "deep" / "out.safetensors"
    torch.save({"model": distilled(), "args": ARGUMENTS, "optimizer": {"state": {0: torch.ones(3)}}, "iter": 7}, source)
    report = convert(source, target, layout)
    written = load_file(target)
    assert written.keys() == {"encoder.norm.weight", "encoder.blocks.0.0.attn.qkv.weight"}
    for key, value in written.items():
        assert value.dtype == distilled()[f"module.{key}"].dtype
        assert torch.equal(value, distilled()[f"module.{key}"])
    with safe_open(target, framework="pt") as file:
        assert file.metadata() == {
            "source": "in.pth",
            "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "layout": layout,
            "format": "pt",
            "kept": "2",
            "left_out": "3",
        }
    assert report.left_out == {"projectors.*": 2, "teacher_norms.*": 1, "args": 0, "optimizer": 0, "iter": 0}
    assert "left out: projectors.* (2 tensors), teacher_norms.* (1 tensors), args, optimizer, iter" in report.lines()
    assert [path.name for path in target.parent.iterdir()] == ["out.safetensors"]


def test_radio_keeps_its_heads(tmp_path: Path) -> None:
    """Averaged weights go before others, in fp16, with every head."""
    tensors = {f"{start}weight": torch.ones(2).half() for start in ("base_model.", "input_conditioner.", "_heads.0.")}
    source, target = tmp_path / "radio_v2.5-b.pth.tar", tmp_path / "out.safetensors"
    other = {key: 2 * value for key, value in tensors.items()}
    torch.save({"state_dict": other, "state_dict_ema": tensors, "args": ARGUMENTS, "epoch": 1}, source)
    report = convert(source, target, "radio")
    written = load_file(target)
    assert written.keys() == tensors.keys()
    assert all(value.dtype == torch.float16 and torch.equal(value, torch.ones(2).half()) for value in written.values())
    assert report.left_out == {"state_dict": 0, "args": 0, "epoch": 0}


def test_a_plain_file_and_tensors_that_share_memory(tmp_path: Path) -> None:
    """A bare state dict is written whole; views and tied tensors become tensors of their own."""
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"whole": base, "tied": base, "part": base[1], "turned": base.t(), "half": torch.ones(2).bfloat16()}
    torch.save(tensors, tmp_path / "in.pt")
    report = convert(tmp_path / "in.pt", tmp_path / "out.safetensors", "plain")
    written = load_file(tmp_path / "out.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[key], value) and written[key].dtype == value.dtype for key, value in tensors.items())
    assert report.left_out == {}
    assert report.lines()[:2] == ["kept: 5 tensors, 0.0 million values, bfloat16, float32", "left out: nothing"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_code_is_refused_and_not_run(tmp_path: Path, layout: str) -> None:
    """A pickle that would call os.system is refused under every layout, named, and has not called it."""
    trap = tmp_path / "trap"
    torch.save({"model": distilled(), "state_dict": distilled(), "args": Evil(trap)}, tmp_path / "in.pth")
    with pytest.raises(WeightsError, match=r"in\.pth is refused.*GLOBAL (posix|nt)\.system.*plain is for tensors"):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors", layout)
    assert not trap.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_only_what_is_listed_is_read(tmp_path: Path) -> None:
    """Arguments are no part of a plain file, and nothing but them of a release; the refusal names the class."""
    torch.save({"model": distilled(), "args": ARGUMENTS}, tmp_path / "in.pth")
    with pytest.raises(WeightsError, match=r"GLOBAL argparse\.Namespace\).*dune, unic and radio"):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "plain")
    torch.save({"model": distilled(), "args": argparse.Namespace(at=SimpleNamespace())}, tmp_path / "in.pth")
    with pytest.raises(WeightsError, match=r"GLOBAL types\.SimpleNamespace\)"):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "dune")
    # What was allowed for one file is not allowed from then on.
    torch.save({"model": distilled(), "args": ARGUMENTS}, tmp_path / "in.pth")
    convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "dune")
    with pytest.raises(WeightsError, match=r"eupe-eval convert .*in\.pth .*in\.safetensors --layout dune"):
        read_tensors(tmp_path / "in.pth")


def test_older_names_of_numpy_are_read(tmp_path: Path) -> None:
    """A file written with numpy 1 names modules that numpy 2 has renamed."""
    path = tmp_path / "in.pth"
    arguments = argparse.Namespace(schedule=np.arange(3.0), best=np.float32(1))
    torch.save({"model": distilled(), "args": arguments}, path, _use_new_zipfile_serialization=False)
    aged = path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert aged != path.read_bytes()
    path.write_bytes(aged)
    assert len(convert(path, tmp_path / "out.safetensors", "unic").kept) == 2


def lacks(content: object) -> Callable[[Path], None]:
    """A file with this content."""
    return lambda path: torch.save(content, path)


@pytest.mark.parametrize(
    ("write", "layout", "target", "kind", "words"),
    [
        (lambda path: None, "dune", "out.safetensors", UsageError, r"no file '.*in\.pth'"),
        (lacks({}), "dunes", "out.safetensors", UsageError, r"unknown layout 'dunes'\. Nearest: dune"),
        (lacks({}), "dune", "out.pt", UsageError, r"must end in \.safetensors"),
        (lacks({"a": torch.ones(1)}), "dune", "out.safetensors", WeightsError, r"no keys encoder\.\*; .* a\."),
        (lacks({"epoch": 3}), "plain", "out.safetensors", WeightsError, "holds no state dict"),
        (lacks({"a": torch.eye(2).to_sparse()}), "plain", "out.safetensors", WeightsError, ": a is sparse"),
        (lacks({"a": torch.ones(1).cdouble()}), "plain", "out.safetensors", WeightsError, "numbers of a kind"),
        (lambda path: path.write_bytes(b"text"), "plain", "out.safetensors", WeightsError, "refused|cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted(
    tmp_path: Path, write: Callable[[Path], Any], layout: str, target: str, kind: type[EvalError], words: str
) -> None:
    """Each failure says what is wrong, and writes nothing."""
    write(tmp_path / "in.pth")
    with pytest.raises(kind, match=words):
        convert(tmp_path / "in.pth", tmp_path / target, layout)
    assert not (tmp_path / target).exists()


def test_an_output_is_replaced_only_on_request(tmp_path: Path) -> None:
    """What is there stays unless --overwrite says otherwise; safetensors need no conversion; files are no folders."""
    source, target = tmp_path / "in.pt", tmp_path / "out.safetensors"
    torch.save({"a": torch.ones(1)}, source)
    target.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists: add --overwrite"):
        convert(source, target, "plain")
    assert target.read_bytes() == b"mine"
    convert(source, target, "plain", overwrite=True)
    assert load_file(target).keys() == {"a"}
    with pytest.raises(UsageError, match="needs no conversion"):
        convert(target, tmp_path / "other.safetensors", "plain")
    with pytest.raises(ResultsError, match="cannot write"):
        convert(source, source / "out.safetensors", "plain")


def test_the_verb_tells_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line prints what was kept, left out and written, and the entry that takes it."""
    import timm

    monkeypatch.setattr(fitting, "_PATIENCE", 60.0)
    model = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0, img_size=336)
    tensors = {
        "encoder." + key.replace("blocks.", "blocks.0.").replace("reg_token", "register_tokens"): value.half()
        for key, value in model.state_dict().items()
    }
    tensors["encoder.pos_embed"] = torch.ones(1, 1 + 24**2, 384).half()
    torch.save({"model": tensors, "args": ARGUMENTS}, tmp_path / "in.pth")
    target = tmp_path / "out.safetensors"
    done = CliRunner().invoke(app, ["convert", str(tmp_path / "in.pth"), str(target), "--layout", "dune"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"kept: {len(tensors)} tensors, 21.8 million values, float16",
        "left out: args",
        f"wrote {target}",
        f"to use it: eupe-eval run --encoder dune-s-336 --weights {target}",
    ]
