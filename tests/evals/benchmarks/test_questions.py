"""The six vision-language benchmarks, from training to records, on the tiny embedded world."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evals import compose
from evals.benchmarks import base
from evals.benchmarks.base import Benchmark
from evals.benchmarks.base_questions import QuestionBenchmark
from evals.context import Context, Roots
from evals.datasets.llava_records import PUBLISHED
from evals.encoders.registry import resolve
from evals.errors import ResultsError, UsageError
from evals.miniature import world
from evals.plan import plan
from evals.record import Record, read_record, write_record
from evals.rescore import rescore
from evals.run import evaluate
from evals.session import Session
from evals.vlm import kept

SETS = ("gqa", "mme", "pope", "realworldqa", "sqa", "textvqa")
RECIPE = """
name: tiny
language: miniature
pad_token: null
dtype: fp32
sides: {side: 64, side_14: 56, grid: 4}
alignment: {rate: 1.0e-3, batch: 8, micro: 8, max_length: 192, recompute: false}
instruction: {rate: 1.0e-3, batch: 8, micro: 8, max_length: 192, recompute: false}
"""


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world of talks."""
    return world.make(tmp_path_factory.mktemp("talks") / "world", size="talks-tiny", workers=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is trained in this module is trained once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def context(talks: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """The tiny world."""
    monkeypatch.setattr(kept, "_last", {})
    return Context(Roots({"llava": talks / "llava", "vlm": talks / "vlm"}, "tiny"), tmp_path / "results", cache)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A recipe of one's own: a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return str(path)


def asked(names: Sequence[str], **changes: object) -> list[tuple[str, Benchmark]]:
    """Benchmarks under the world's protocol, with changes."""
    return [base.find(name).of("miniature", max_new_tokens=6, **changes) for name in names]


def run(benchmarks: Sequence[tuple[str, Benchmark]], context: Context) -> list[Record]:
    """Plan and evaluate `pixels`; every record is a success."""
    steps = plan([resolve("pixels")], benchmarks, context)
    records = [record for _, record in evaluate(steps, context) if record is not None]
    assert [record.error for record in records] == [None] * len(records)
    return records


def test_there_are_six() -> None:
    """One a file, each with the protocols that the family has."""
    found = [base.find(name) for name in base.names()]
    assert {kind.id for kind in found if issubclass(kind, QuestionBenchmark)} == set(SETS)
    assert all(list(kind.protocols) == ["paper", "vlm-proxy", "miniature"] for kind in found if kind.family == "vlm")


def test_one_training_serves_all_six(context: Context, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set gets its record with raw answers; the model is trained once, and found again by a later run."""
    records = run(asked(SETS, recipe=recipe), context)
    assert [record.task.name for record in records] == list(SETS)
    assert {record.notes["language"] for record in records} == {"miniature"}
    for record in records:
        assert record.primary is not None
        assert record.primary.value is not None
        assert record.frozen is not None
        assert record.frozen.ok
        assert not record.standard
    (model,) = (context.cache / "vlm" / "pixels").glob("*/model/vlm.json")
    told = json.loads(model.read_text())
    assert (told["grid"], told["side"], set(told["data"])) == (4, 64, {"alignment", "instruction"})
    assert not list(model.parents[1].glob("alignment*"))
    monkeypatch.setattr("evals.vlm.obtain.fit", None)
    monkeypatch.setattr(kept, "_last", {})
    again = run(asked(["pope"], recipe=recipe, pictures="swapped"), context)
    assert again[0].primary is not None


def test_what_a_model_is_and_learnt_from_belongs_to_its_score(context: Context, recipe: str, talks: Path) -> None:
    """The same again is done; another recipe under the same name, other records, or another model is not."""
    benchmarks = asked(["gqa"], recipe=recipe)
    (record,) = run(benchmarks, context)
    assert record.dataset is not None
    assert set(record.dataset.n_original) == {"testdev_balanced", "alignment", "instruction"}
    counted = len(json.loads((talks / "llava" / "llava_v1_5_mix665k.json").read_text()))
    assert record.dataset.n_original["instruction"] == counted

    def state(benchmarks: list[tuple[str, Benchmark]]) -> str:
        (step,) = plan([resolve("pixels")], benchmarks, context)
        return step.state

    assert state(benchmarks) == "done"
    Path(recipe).write_text(RECIPE.replace("1.0e-3", "2.0e-3"))
    assert state(benchmarks) == "todo"
    Path(recipe).write_text(RECIPE)
    assert state(benchmarks) == "done"
    records = talks / "llava" / "llava_v1_5_mix665k.json"
    text = records.read_text()
    try:
        records.write_text(text + "\n")
        assert state(benchmarks) == "todo"
    finally:
        records.write_text(text)
    (model,) = (context.cache / "vlm" / "pixels").glob("*/model")
    given = asked(["gqa"], recipe=recipe, checkpoint=str(model))
    run(given, context)
    assert state(given) == "done"
    manifest, told = model / "vlm.json", (model / "vlm.json").read_text()
    try:
        manifest.write_text(told + "\n")
        assert state(given) == "todo"
    finally:
        manifest.write_text(told)


def test_part_of_the_training_data_is_no_standard_result(context: Context) -> None:
    """Under `paper` a model must have learnt from all that was published; no record of less is ranked."""
    splits = base.find("gqa").of("miniature")[1].splits(context.roots, context.digests)
    gqa = base.find("gqa").of("paper")[1]
    full = [replace(split, n_original=PUBLISHED[split.split]) for split in splits[1:]]
    asked_all = replace(splits[0], entries=splits[0].entries * 2000, n_original=12_578)  # type: ignore[call-arg]
    whole = replace(asked_all, entries=asked_all.entries[:12_578])  # type: ignore[attr-defined, call-arg]
    assert gqa.complete("paper", (whole, *full), None)
    assert not gqa.complete("paper", (whole, full[0], replace(full[1], n_original=665_297)), None)


def test_answers_are_enough_to_judge_again(context: Context, recipe: str) -> None:
    """Rescoring gives what is there; a number that was tampered with is put right; other answers are refused."""
    record = run(asked(["textvqa"], recipe=recipe), context)[0]
    (path,) = context.results.glob("*/*/textvqa@*.json")
    assert rescore(context.results) == ([], 1)
    wrong = replace(record, metrics=tuple(replace(score, value=99.0) for score in record.metrics))
    write_record(path, wrong)
    assert rescore(context.results) == ([path], 0)
    assert read_record(path).metrics == record.metrics
    answers = path.parent / record.artifacts[0].path
    with np.load(answers, allow_pickle=False) as found:
        assert {"ids", "rows", "answers[ocr]", "answers[no_ocr]"} == set(found.files)
    answers.write_bytes(answers.read_bytes() + b"x")
    with pytest.raises(ResultsError, match="is not the file that"):
        rescore(context.results)


def test_a_model_that_is_given(context: Context, recipe: str, tmp_path: Path) -> None:
    """It is used as it is; a folder without one is named; the record is off the table."""
    run(asked(["gqa"], recipe=recipe), context)
    (model,) = (context.cache / "vlm" / "pixels").glob("*/model")
    record = run(asked(["gqa"], recipe=recipe, checkpoint=str(model)), context)[0]
    assert record.task.changed["checkpoint"] == str(model)
    steps = plan([resolve("pixels")], asked(["gqa"], recipe=recipe, checkpoint=str(tmp_path)), context)
    (failed,) = [record for _, record in evaluate(steps, context)]
    assert failed is not None
    assert failed.error is not None
    assert "holds no vision-language model" in failed.error["message"]


def test_days_of_training_want_a_word(talks: Path, tmp_path: Path) -> None:
    """The published recipe does not start unasked; where a model is there, or in the small world, it does."""
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    for part in ("llava", "vlm"):
        (data / part).symlink_to(talks / part)
    flags = {"data": str(data), "cache": str(cache), "results": str(tmp_path / "results")}
    settings = compose.compose(benchmarks=("gqa",), flags=flags)
    with pytest.raises(UsageError, match=r"vicuna-7b-v1\.5 by the recipe llava-1\.5 is trained on pixels first"):
        Session(settings, [resolve("pixels")], quiet=True).run(yes=False)
    paper = base.find("gqa").of("paper")[1]
    assert paper.training("pixels", cache)
    assert not base.find("gqa").of("paper", checkpoint="x")[1].training("pixels", cache)
    assert not base.find("gqa").of("miniature")[1].training("pixels", cache)
    kept_at = cache / "vlm" / "pixels" / "key" / "model" / "vlm.json"
    kept_at.parent.mkdir(parents=True)
    kept_at.write_text('{"recipe": {"name": "vlm-proxy"}}')
    assert paper.training("pixels", cache), "a model of another recipe is not this one"
    kept_at.write_text('{"recipe": {"name": "llava-1.5"}}')
    assert not paper.training("pixels", cache)


def test_a_recipe_that_is_none() -> None:
    """The names that there are come with the error."""
    with pytest.raises(UsageError, match=r"llava-1\.5"):
        base.find("gqa").of("paper", recipe="llava-2")[1].work(resolve("pixels"), ())  # type: ignore[arg-type]
