"""The flow around benchmarks: proof of frozenness, failures kept apart, records that are never lost."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evals.benchmarks import base
from evals.benchmarks.base import Benchmark, Job, Outcome
from evals.benchmarks.cost import Cost
from evals.benchmarks.in1k_knn import In1kKnn
from evals.context import Context, Roots
from evals.encoders import load as loading
from evals.encoders import locks
from evals.encoders.entry import EncoderEntry
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo
from evals.plan import plan, same_thing
from evals.record import SCHEMA_VERSION, Record, read_record, write_record
from evals.run import evaluate
from evals.types import Ask, Encoder, Features


@pytest.fixture
def context(tmp_path: Path, tiny_roots: Roots) -> Context:
    """The tiny world, results and cache of this test alone."""
    return Context(tiny_roots, tmp_path / "results", tmp_path / "cache")


def knn(**changes: object) -> tuple[str, Benchmark]:
    """The k-NN benchmark under the world's protocol."""
    return In1kKnn.of("miniature", **changes)


def run(benchmarks: Sequence[tuple[str, Benchmark]], context: Context, overwrite: bool = False) -> list[Record]:
    """Plan and evaluate `pixels`."""
    steps = plan([resolve("pixels")], benchmarks, context, overwrite=overwrite)
    return [record for _, record in evaluate(steps, context) if record is not None]


class Drifting(Encoder):
    """Counts its calls in a buffer, as a layer with running statistics would."""

    def __init__(self, inner: Encoder) -> None:
        super().__init__(inner.card, inner.spec, dim=inner.dim, depth=inner.depth)
        self.inner = inner
        self.register_buffer("calls", torch.zeros(1))

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """The wrapped features, and a step away from frozen."""
        self.calls += 1
        features: Features = self.inner.encode(images_B3YX, ask)
        return features


def test_an_encoder_that_changes_fails(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer that moved during the benchmark is found by the digests, and there is no score."""

    def drifting(entry: EncoderEntry, digests: DigestMemo) -> Encoder:
        return Drifting(load(entry, digests))

    monkeypatch.setattr(loading, "load", drifting)
    (record,) = run([knn()], context)
    assert record.status == "error"
    assert record.metrics == ()
    assert record.error is not None
    assert "pixels changed while" in record.error["message"]
    (again,) = run([knn()], context)
    assert again.status == "error", "nothing of the first run may serve the second"


def test_an_unforeseen_failure_is_kept_with_its_trace_and_stops_no_other(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second benchmark runs, and the first one's record says where it broke."""

    def broken(self: In1kKnn, job: Job) -> Outcome:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(In1kKnn, "run", broken)
    first, second = run([knn(), Cost.of("miniature")], context)
    assert (first.status, second.status) == ("error", "success")
    assert first.error is not None
    assert first.error["type"] == "ZeroDivisionError"
    assert "by hand" in first.error["traceback"]


def test_a_failure_never_replaces_a_success(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record on disk stays the good one when the same thing fails later."""
    (good,) = run([knn()], context)
    (path,) = context.results.rglob("in1k-knn@*.json")

    def broken(self: In1kKnn, job: Job) -> Outcome:
        raise DataError("gone")

    monkeypatch.setattr(In1kKnn, "run", broken)
    (bad,) = run([knn()], context, overwrite=True)
    assert (good.status, bad.status) == ("success", "error")
    assert read_record(path).status == "success"


def test_a_failure_of_another_thing_replaces_a_success(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The success of an entry that was corrected since does not hide that the corrected one fails."""
    run([knn()], context)
    (path,) = context.results.rglob("in1k-knn@*.json")

    def broken(self: In1kKnn, job: Job) -> Outcome:
        raise DataError("gone")

    monkeypatch.setattr(In1kKnn, "run", broken)
    corrected = replace(resolve("pixels"), mean=(0.5, 0.5, 0.5))
    list(evaluate(plan([corrected], [knn()], context), context))
    assert read_record(path).status == "error"


def test_data_that_are_gone_take_no_success_with_them(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not mounted today does not unmake the score of yesterday."""
    world = replace(context, roots=replace(context.roots, world=base.STANDARD_WORLD))
    run([knn()], world)
    (path,) = context.results.rglob("in1k-knn@*.json")

    def gone(self: In1kKnn, roots: Roots, digests: DigestMemo) -> None:
        raise UnavailableError("data", "no folder")

    monkeypatch.setattr(In1kKnn, "splits", gone)
    (record,) = run([knn()], world)
    assert record.status == "unavailable"
    assert read_record(path).status == "success"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_record_of_a_later_version_is_never_replaced(context: Context, overwrite: bool) -> None:
    """Neither by a score, nor by a failure, nor by `skipped`; the step says why, and nothing is computed."""
    items = [knn(), base.find("in1k-zeroshot").of("miniature")]
    run(items, context)
    paths = sorted(context.results.rglob("*@*.json"))
    for path in paths:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": SCHEMA_VERSION + 1}))
    before = [path.read_bytes() for path in paths]
    steps = plan([resolve("pixels")], items, context, overwrite=overwrite)
    assert [step.state for step in steps] == ["error", "error"]
    assert all("Upgrade eupe-eval" in step.message for step in steps)
    list(evaluate(steps, context))
    assert [path.read_bytes() for path in paths] == before


def test_a_record_of_a_later_version_that_appears_meanwhile_is_kept(context: Context) -> None:
    """Another process may write it while the benchmark runs: the result then is an error, not a lost record."""
    steps = plan([resolve("pixels")], [knn()], context)
    (path,) = [step.path for step in steps]
    assert path is not None
    path.parent.mkdir(parents=True)
    later = json.dumps({"schema_version": SCHEMA_VERSION + 1})
    path.write_text(later)
    ((_, record),) = evaluate(steps, context)
    assert record is not None
    assert (record.status, record.metrics) == ("error", ())
    assert path.read_text() == later


def test_a_broken_record_is_mended_by_a_run(context: Context) -> None:
    """It is work again, and its file is replaced."""
    run([knn()], context)
    (path,) = context.results.rglob("in1k-knn@*.json")
    path.write_text("{")
    (record,) = run([knn()], context)
    assert record.status == "success"
    assert read_record(path).status == "success"


def test_one_unforeseen_data_set_stops_no_other(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its step is an error with the kind and the message; the others are planned and run."""

    def broken(self: In1kKnn, roots: Roots, digests: DigestMemo) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(In1kKnn, "splits", broken)
    first, second = run([knn(), Cost.of("miniature")], context)
    assert (first.status, second.status) == ("error", "success")
    assert first.error is not None
    assert "in1k-knn cannot be loaded: ZeroDivisionError: by hand" in first.error["message"]


def test_plan_knows_what_is_done_and_what_went_stale(context: Context) -> None:
    """Done stays done; another constant, a lost artifact, or a failed record is work again."""
    run([knn()], context)

    def state(item: tuple[str, Benchmark]) -> str:
        (step,) = plan([resolve("pixels")], [item], context)
        return step.state

    assert state(knn()) == "done"
    assert state(knn(ks=(3,))) == "todo"
    (artifact,) = context.results.rglob("*.npz")
    artifact.unlink()
    assert state(knn()) == "todo"


def test_a_corrected_entry_is_work_again(context: Context) -> None:
    """Another normalisation of the same weights is another encoder: the old number does not stand for it."""
    run([knn()], context)
    corrected = replace(resolve("pixels"), mean=(0.5, 0.5, 0.5))
    (step,) = plan([corrected], [knn()], context)
    assert step.state == "todo"


def test_other_data_are_another_record(context: Context, tiny_world: Path, tmp_path: Path) -> None:
    """The same benchmark on a part of the data has a path of its own."""
    whole, part = knn(), knn(limit=10)
    paths = {step.path for step in plan([resolve("pixels")], [whole, part], context)}
    assert len(paths) == 2


def test_standard_means_the_protocols_own_data_in_full(context: Context) -> None:
    """The small world is `miniature`'s own; the tiny one is not, nor is any world for `official`."""
    world = replace(context, roots=replace(context.roots, world=base.STANDARD_WORLD))
    (step,) = plan([resolve("pixels")], [knn()], world)
    assert step.standard
    for surroundings, item in ((context, knn()), (world, In1kKnn.of("official")), (world, knn(dtype="bf16"))):
        (step,) = plan([resolve("pixels")], [item], surroundings)
        assert not step.standard
    (step,) = plan([resolve("pixels")], [knn()], replace(world, seed=1))
    assert not step.standard
    assert step.task is not None
    assert step.task.changed == {"seed": 1}


def test_what_an_encoder_lacks_is_skipped(context: Context) -> None:
    """No text tower: `no txt`; an averaged map where the paper wants a class token: `no cls`."""
    zeroshot = base.find("in1k-zeroshot").of("miniature")
    (record,) = run([zeroshot], context)
    assert (record.status, record.reason) == ("skipped", "no txt")
    (path,) = context.results.rglob("*.json")
    path.write_bytes(replace(record, created="2026-01-01T00:00:00Z").to_json().encode())
    (again,) = run([zeroshot], context)
    assert again.created == read_record(path).created == "2026-01-01T00:00:00Z", "unchanged: not written again"
    convnext = resolve("eupe-convnext-t", weights="random")
    (step,) = plan([convnext], [In1kKnn.of("paper")], context)
    assert (step.state, step.message) == ("skipped", "no cls")
    (step,) = plan([convnext], [In1kKnn.of("official")], context)
    assert step.state == "todo"


@pytest.fixture
def siglip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncoderEntry:
    """An encoder whose tokenizer is the hub's; the hub's cache is empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return resolve("siglip2-b-256", weights="random")


def tokenizer(folder: Path, text: str) -> None:
    """A tokenizer in the hub's cache; what is in it matters only when prompts come."""
    repository = folder / "hub" / "models--timm--ViT-B-16-SigLIP2-256"
    place = repository / "snapshots" / ("0" * 40)
    for path, content in ((place / "tokenizer.json", text), (place / "tokenizer_config.json", "{}"),
                          (repository / "refs" / "main", "0" * 40)):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_a_missing_tokenizer_is_called_so(context: Context, siglip: EncoderEntry) -> None:
    """The record, and with it the table, says what is not here: data are."""
    steps = plan([siglip], [base.find("in1k-zeroshot").of("miniature")], context)
    ((step, record),) = evaluate(steps, context)
    assert record is not None
    assert (step.state, step.missing) == ("unavailable", "tokenizer")
    assert (record.status, record.reason) == ("unavailable", "tokenizer")


def test_another_tokenizer_makes_zero_shot_stale_and_nothing_else(
    context: Context, siglip: EncoderEntry, tmp_path: Path
) -> None:
    """Records of images alone stay; one of text stays where the tokenizer is gone, and is work again under another."""
    tokenizer(tmp_path, "1")
    context = replace(context, roots=replace(context.roots, world=base.STANDARD_WORLD))
    items = [knn(), base.find("in1k-zeroshot").of("miniature")]
    for step in plan([siglip], items, context):
        assert step.path is not None and step.card is not None and step.task is not None
        assert step.state == "todo"
        write_record(step.path, Record("success", "", step.card, step.task, step.standard, step.dataset))

    def states() -> list[str]:
        return [step.state for step in plan([siglip], items, context)]

    assert states() == ["done", "done"]
    shutil.rmtree(tmp_path / "hub")
    (image, text) = plan([siglip], items, context)
    assert (image.state, text.state) == ("done", "unavailable")
    assert text.path is not None
    assert same_thing(read_record(text.path), text)
    locks.lock_file().unlink()
    tokenizer(tmp_path, "2")
    assert states() == ["done", "todo"]
