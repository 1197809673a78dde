"""Task files for lmms-eval: what they say, and that lmms-eval asks and scores by them as we do."""

import io
import json
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image, ImageFile

from evals.context import Context, Roots
from evals.datasets.vlm import gqa, mme, pope, realworldqa, sqa, textvqa
from evals.encoders.load import digest, load
from evals.encoders.registry import resolve
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo
from evals.metrics.answers import choices, exact, presence, realworld
from evals.metrics.answers import mme as marking
from evals.metrics.answers import textvqa as soft
from evals.types import Encoder
from evals.vlm import lmms_tasks, questions
from evals.vlm.checkpoint import VlmCard, read_vlm, write_vlm
from evals.vlm.interview import Interview
from evals.vlm.lmms_tasks import gqa_picture, write_tasks
from evals.vlm.model import Projector, VisionLanguage
from evals.vlm.recipe import Recipe, read_recipe
from tests.evals.datasets.vlm.rows import (
    gqa_rows,
    mme_rows,
    png,
    pope_rows,
    realworldqa_rows,
    sqa_rows,
    textvqa_rows,
    write_parquet,
    write_saved,
)
from tests.evals.vlm.small import GRID, RECIPE, SIDE, SmallEncoder, model, tokenizer

tolerant = pytest.mark.filterwarnings("ignore")  # what lmms-eval imports uses what is deprecated elsewhere
TASKS = ("pope", "mme", "scienceqa_img", "realworldqa", "textvqa_val", "textvqa_val_ocr", "gqa")
MODULES = {
    "pope": pope, "mme": mme, "scienceqa_img": sqa, "realworldqa": realworldqa, "textvqa_val": textvqa,
    "textvqa_val_ocr": textvqa, "gqa": gqa,
}  # fmt: skip
ASK: dict[str, Any] = {
    "pope": questions.pope,
    "mme": questions.mme,
    "scienceqa_img": questions.scienceqa,
    "realworldqa": questions.realworldqa,
    "textvqa_val": lambda row: questions.textvqa(row, ocr=False, protocol="lmms"),
    "textvqa_val_ocr": lambda row: questions.textvqa(row, protocol="lmms"),
    "gqa": questions.gqa,
}


@pytest.fixture(autouse=True)
def own_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """lmms-eval lets truncated pictures pass, for the whole process, as soon as it is imported; undone afterwards."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The six sets: in shards, with rows that have no picture, as Arrow, with pictures in a table of their own."""
    found = tmp_path / "vlm"
    write_parquet(found / "textvqa" / "data", "validation", textvqa_rows(), 2)
    write_parquet(found / "ScienceQA" / "ScienceQA-FULL", "test", sqa_rows())
    write_saved(found / "RealWorldQA" / "test", "test", realworldqa_rows())
    for category in pope.CATEGORIES:
        write_parquet(found / "POPE" / "Full", category, pope_rows((category,)))
    asked, pictures = gqa_rows()
    write_parquet(found / "GQA" / "testdev_balanced_instructions", "testdev", asked)
    write_parquet(found / "GQA" / "testdev_balanced_images", "testdev", pictures)
    write_parquet(found / "MME" / "data", "test", mme_rows())
    return found


@pytest.fixture
def somewhere(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of lmms-eval that nothing is read from."""
    spec = ModuleSpec("lmms_eval", None, is_package=True)
    spec.submodule_search_locations = ["/site/lmms_eval"]
    monkeypatch.setattr(lmms_tasks.importlib.util, "find_spec", lambda name: spec)
    return Path("/site/lmms_eval/tasks")


def _read(path: Path) -> dict[str, Any]:
    """A task file, its functions by name."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: str(node.value))
    told: dict[str, Any] = yaml.load(path.read_text(), Loader)
    return told


def test_files_say_where_rows_are(root: Path, somewhere: Path, tmp_path: Path) -> None:
    """lmms-eval's own task under another name, every file of the table by its whole path, in order."""
    names, lacking = write_tasks(root, tmp_path / "tasks")
    assert names == [f"{name}_local" for name in TASKS]
    assert lacking == []
    assert sorted(path.name for path in (tmp_path / "tasks").iterdir()) == sorted(f"{name}.yaml" for name in names)
    told = {name: _read(tmp_path / "tasks" / f"{name}_local.yaml") for name in TASKS}
    assert told["realworldqa"] == {
        "include": str(somewhere / "realworldqa/realworldqa.yaml"),
        "task": "realworldqa_local",
        "dataset_path": "arrow",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": [str(root / "RealWorldQA/test/data-00000-of-00001.arrow")]}},
        "process_docs": "evals.vlm.lmms_tasks.with_pictures",
        "tag": "six_local",
    }
    pope_files = told["pope"]["dataset_kwargs"]["data_files"]["test"]
    assert [Path(path).name[:3] for path in pope_files] == ["adv", "pop", "ran"]
    assert len(told["textvqa_val"]["dataset_kwargs"]["data_files"]["validation"]) == 2
    assert told["scienceqa_img"]["process_docs"] == "evals.vlm.lmms_tasks.only_shown"
    assert told["gqa"]["process_docs"] is None
    assert told["gqa"]["doc_to_visual"] == "evals.vlm.lmms_tasks.gqa_picture"
    assert [name for name in TASKS if told[name].get("tag") != "six_local"] == ["textvqa_val_ocr"]
    for name in ("textvqa_val", "textvqa_val_ocr"):
        assert [metric["metric"] for metric in told[name]["metric_list"]] == ["exact_match"]
    assert told["textvqa_val_ocr"]["lmms_eval_specific_kwargs"]["default"]["ocr"] is True


def test_sets_that_are_not_there(root: Path, somewhere: Path, tmp_path: Path) -> None:
    """They are told and left out; without any there is nothing to write."""
    for path in (root / "MME" / "data").iterdir():
        path.unlink()
    (root / "GQA" / "testdev_balanced_images" / "testdev-00000-of-00001.parquet").unlink()
    names, lacking = write_tasks(root, tmp_path / "tasks")
    assert names == [f"{name}_local" for name in TASKS if name not in ("mme", "gqa")]
    assert ["MME" in str(lacking[0]), "testdev_balanced_images" in str(lacking[1])] == [True, True]
    with pytest.raises(UnavailableError, match="POPE"):
        write_tasks(tmp_path / "nowhere", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_shard_that_is_not_there(root: Path, somewhere: Path, tmp_path: Path) -> None:
    """Half a table is an error, not a smaller set."""
    (root / "textvqa" / "data" / "validation-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="shards of validation are numbered 0; expected 0 to 1"):
        write_tasks(root, tmp_path / "tasks")


def test_sets_in_the_cache_of_the_hub(somewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the older organisation, by the names of the snapshot: its links end at files without a suffix."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "datasets--lmms-lab--MME"
    write_parquet(repository / "blobs", "test", mme_rows())
    (repository / "blobs" / "test-00000-of-00001.parquet").rename(repository / "blobs" / "abc")
    (repository / "snapshots" / "1" / "data").mkdir(parents=True)
    link = repository / "snapshots" / "1" / "data" / "test-00000-of-00001.parquet"
    link.symlink_to(repository / "blobs" / "abc")
    names, lacking = write_tasks(Path("hub:lmms-lab-encoder"), tmp_path / "tasks")
    assert (names, len(lacking)) == (["mme_local"], len(TASKS) - 1)
    told = _read(tmp_path / "tasks" / "mme_local.yaml")
    assert told["dataset_kwargs"]["data_files"] == {"test": [str(link)]}


def test_without_lmms_eval(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setattr(lmms_tasks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"pip install 'eupe-eval\[lmms\]'"):
        write_tasks(root, tmp_path / "tasks")


def test_the_command(root: Path, somewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the names as --tasks takes them; what is left out, and an error, is one message."""
    lmms_tasks.main([str(root), str(tmp_path / "tasks")])
    assert capsys.readouterr() == (",".join(f"{name}_local" for name in TASKS) + "\n", "")
    (root / "MME" / "data" / "test-00000-of-00001.parquet").unlink()
    lmms_tasks.main([str(root), str(tmp_path / "tasks")])
    assert capsys.readouterr().err.startswith("left out: MME: ")
    with pytest.raises(SystemExit, match="1"):
        lmms_tasks.main([str(tmp_path / "nowhere"), str(tmp_path / "tasks")])
    assert capsys.readouterr().err.startswith("error: POPE: ")


def test_gqa_pictures_are_joined(root: Path) -> None:
    """By imageId, as RGB."""
    pictures = [str(root / "GQA" / "testdev_balanced_images" / "testdev-00000-of-00001.parquet")]
    (shown,) = gqa_picture({"imageId": "n1"}, {"pictures": pictures})
    assert shown.tobytes() == Image.open(io.BytesIO(png(401)["bytes"])).convert("RGB").tobytes()


def _write_model(folder: Path, recipe: Recipe, encoder: Encoder, side: int, grid: int) -> None:
    """One of weights that were never trained, whose answers differ all the same."""
    words = tokenizer()
    made = VisionLanguage(model(words).language, Projector(encoder.dim, 32))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    card = VlmCard(
        recipe.describe(), encoder.card.name, digest(encoder), encoder.dim, recipe.layer, side, grid, words.pad_token_id
    )
    write_vlm(folder, card, made, words)


def _ours(name: str, root: Path, said: list[str]) -> dict[str, float]:
    """Our scores under lmms-eval's rules, by the names that it prints."""
    rows = [entry.row for entry in MODULES[name].load(root, DigestMemo(None)).entries]
    right = [row["answers"] if "answers" in row else row["answer"] for row in rows]
    if name == "pope":
        tally = presence.tally(presence.score(said, right, "lmms"))
        return {"pope_accuracy,none": tally.accuracy, "pope_f1_score,none": tally.f1, "pope_recall,none": tally.recall}
    if name == "mme":
        keys = [row["category"] for row in rows], [row["question_id"] for row in rows]
        marked = marking.score(said, right, *keys, "lmms")
        groups = {"perception": marking.PERCEPTION, "cognition": marking.COGNITION}
        return {f"mme_{group}_score,none": marking.total(marked, members) for group, members in groups.items()}
    if name == "scienceqa_img":
        correct: Any = choices.score(said, [len(row["choices"]) for row in rows], right, "lmms").correct_N
    elif name == "realworldqa":
        correct = realworld.score(said, [row["question"] for row in rows], right).since_N
    else:
        correct = exact.score(said, right, "lmms") if name == "gqa" else soft.score(said, right)
    return {"exact_match,none": float(correct.mean())}


@tolerant
def test_lmms_eval_asks_and_scores_as_we_do(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven tasks through its evaluator: prompts, answers of our interviews, numbers; the folder stays clean."""
    evaluator = pytest.importorskip("lmms_eval.evaluator", reason="needs the extra lmms", exc_type=ImportError)
    from lmms_eval.tasks import TaskManager

    from evals.vlm import lmms

    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(lmms, "resolve", lambda name, weights: name)
    monkeypatch.setattr(lmms, "load", lambda entry, digests: SmallEncoder())
    _write_model(tmp_path / "model", RECIPE, SmallEncoder(), SIDE, GRID)
    names, _ = write_tasks(root, tmp_path / "tasks")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    told = evaluator.simple_evaluate(
        model=lmms.EupeLlava(vlm=str(tmp_path / "model"), encoder="small", batch_size=4),
        tasks=["six_local", "textvqa_val_ocr_local"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        gen_kwargs="max_new_tokens=12",
        log_samples=True,
        bootstrap_iters=0,
    )
    assert sorted(told["samples"]) == sorted(names)
    loaded, encoder = read_vlm(tmp_path / "model", SmallEncoder()), SmallEncoder()
    for name in TASKS:
        samples = sorted(told["samples"][f"{name}_local"], key=lambda sample: int(sample["doc_id"]))
        split = MODULES[name].load(root, DigestMemo(None))
        assert [sample["arguments"][0] for sample in samples] == [ASK[name](entry.row) for entry in split.entries]
        interview = Interview(loaded, encoder, RECIPE, Context(Roots({}), tmp_path, tmp_path), 12)
        said = [sample["filtered_resps"][0] for sample in samples]
        assert said == interview.answers(split, ASK[name], tmp_path / "kept" / name)
        results = told["results"][f"{name}_local"]
        ours = _ours(name, root, said)
        assert {key: results[key] for key in ours} == pytest.approx(ours)
    assert list((tmp_path / "here").iterdir()) == []


@tolerant
@pytest.mark.slow
def test_the_command_of_lmms_eval(root: Path, tmp_path: Path) -> None:
    """The real command, by the entry point, without a network: six sets, a multiple-choice task, two processes."""
    pytest.importorskip("lmms_eval", reason="needs the extra lmms")
    encoder = load(resolve("pixels"), DigestMemo(None))
    sides = {"side": 4 * encoder.spec.patch, "grid": 4}
    recipe = read_recipe({"name": "tiny", "dtype": "fp32", "pad_token": None, "sides": sides}, "here")
    _write_model(tmp_path / "model", recipe, encoder, sides["side"], 4)
    names, _ = write_tasks(root, tmp_path / "tasks")
    choice = {**_read(tmp_path / "tasks" / "pope_local.yaml"), "include": None, "tag": None}
    (tmp_path / "tasks" / "choice.yaml").write_text(
        yaml.safe_dump(
            {key: value for key, value in choice.items() if value is not None and key != "process_docs"}
        ).replace("pope_local", "choice")
        + "process_docs: !function evals.vlm.lmms_tasks.with_pictures\n"
        "doc_to_visual: !function lmms_eval.tasks.pope.utils.pope_doc_to_visual\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: question\ndoc_to_target: answer\n"
        "doc_to_choice: ['yes', 'no']\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    arguments = [
        "-m", "lmms_eval", "--model", "eupe_llava", "--model_args", f"vlm={tmp_path / 'model'},encoder=pixels",
        "--device", "cpu", "--tasks", ",".join([*names, "choice"]), "--include_path", str(tmp_path / "tasks"),
        "--batch_size", "4", "--gen_kwargs", "max_new_tokens=4",
    ]  # fmt: skip
    (tmp_path / "here").mkdir()
    set_aside = {"HF_HUB_OFFLINE": "1", "LMMS_EVAL_DATASETS_CACHE": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    found = []
    for launcher in ([], ["-m", "torch.distributed.run", "--nproc_per_node", "2"]):
        output = tmp_path / f"out{len(launcher)}"
        command = [sys.executable, *launcher, *arguments, "--output_path", str(output)]
        environment = {**os.environ, **set_aside, "PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run(
            command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        (results,) = output.rglob("*_results.json")
        found.append(json.loads(results.read_text())["results"])
    assert sorted(found[0]) == sorted([*names, "choice"])
    assert list((tmp_path / "here").iterdir()) == []
    for name, numbers in found[0].items():
        kept = {key: value for key, value in numbers.items() if isinstance(value, float) and "stderr" not in key}
        assert kept and {key: found[1][name][key] for key in kept} == pytest.approx(kept)
