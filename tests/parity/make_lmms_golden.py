"""What lmms-eval itself says of shared generations: kept beside this file, and made again with the extra `lmms`.

python tests/parity/make_lmms_golden.py
"""

import copy
import json
import sys
import types
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Other packages install a `tests` of their own (latex2sympy2, which lmms-eval needs), found instead of this folder.
if __name__ == "__main__":
    sys.modules["tests"] = types.ModuleType("tests")
    sys.modules["tests"].__path__ = [str(Path(__file__).resolve().parents[1])]

from tests.parity.lmms_cases import ASKED, cases

GOLDEN = Path(__file__).with_name("lmms_golden.json")
SEED, COUNT = 0, 240
RELEASE = "0.7.3"
TASKS = {
    "textvqa": "textvqa_val", "scienceqa": "scienceqa_img", "realworldqa": "realworldqa", "gqa": "gqa", "pope": "pope",
    "mme": "mme",
}  # fmt: skip


def judged(given: dict[str, Any]) -> dict[str, Any]:
    """The scores of lmms-eval's own functions for `cases`, sample by sample, and what it makes of them."""
    said, rows = given["said"], given["rows"]
    pope, mme = _utils("pope"), _utils("mme")
    of_pope = [pope.pope_process_results(row | {"question_id": 0}, [text]) for text, row in _pairs(said, rows["pope"])]
    of_mme = [next(iter(mme.mme_process_results(row, [text]).items())) for text, row in _pairs(said, rows["mme"])]
    groups = {name: [one for group, one in of_mme if group == name] for name, _ in of_mme}
    return {
        "textvqa": [
            # It normalises the references of the row itself.
            _utils("textvqa").textvqa_process_results(copy.deepcopy(row) | {"question_id": 0}, [text])["exact_match"]
            for text, row in _pairs(said, rows["textvqa"])
        ],
        "normalised": [_processor()(text) for text in said],
        "scienceqa": [
            _utils("scienceqa").sqa_process_results(row, [text])["exact_match"]
            for text, row in _pairs(said, rows["scienceqa"])
        ],
        "realworldqa": [
            _utils("realworldqa").realworldqa_process_results(row, [text])["exact_match"]
            for text, row in _pairs(said, rows["realworldqa"])
        ],
        "realworldqa_before": [_filtered(text, row) for text, row in _pairs(said, rows["realworldqa"])],
        "gqa": [_equal(text, row["answer"]) for text, row in _pairs(said, rows["gqa"])],
        "pope": [one["pope_accuracy"]["score"] for one in of_pope],
        "pope_totals": {
            name: getattr(pope, f"pope_aggregate_{name}")([one[f"pope_{name}"] for one in of_pope])
            for name in ("accuracy", "precision", "recall", "f1_score", "yes_ratio")
        },
        "mme": [one["score"] for _, one in of_mme],
        "mme_totals": {name: mme.mme_aggregate_results(found) for name, found in groups.items()},
    }


def asked() -> dict[str, list[str]]:
    """The user's texts that lmms-eval's tasks make of `ASKED`, with the settings of their own files."""
    from lmms_eval.utils import load_yaml_config

    tasks = Path(str(import_module("lmms_eval.tasks").__file__)).parent
    found = {}
    for name, task in TASKS.items():
        config = load_yaml_config(str(tasks / name / f"{task}.yaml"))
        settings = config["lmms_eval_specific_kwargs"]["default"]
        found[name] = [config["doc_to_text"](dict(row), settings) for row in ASKED]
        if name == "textvqa":
            found["textvqa_ocr"] = [config["doc_to_text"](dict(row), {**settings, "ocr": True}) for row in ASKED]
    return found


def _pairs(said: list[str], rows: list[dict[str, Any]]) -> Any:
    return zip(said, rows, strict=True)


def _utils(task: str) -> Any:
    return import_module(f"lmms_eval.tasks.{task}.utils")


def _processor() -> Any:
    return import_module("lmms_eval.tasks._task_utils.vqa_eval_metric").EvalAIAnswerProcessor()


def _equal(text: str, answer: str) -> float:
    """With the options of the task file of GQA, and of RealWorldQA's until 0.7.1."""
    metric = import_module("lmms_eval.api.metrics").exact_match_hf_evaluate
    return float(metric([text], [answer], ignore_case=True, ignore_punctuation=True)["exact_match"])


def _filtered(text: str, row: dict[str, Any]) -> float:
    """The filters that RealWorldQA's task file named until 0.7.1, which its code still has."""
    utils = _utils("realworldqa")
    digits = utils.NumberWordsToDigitsFilter().apply([[text]], [row])
    (found,) = utils.MultiChoiceRegexFilter().apply(digits, [row])
    return _equal(found.strip(), row["answer"])


def main() -> None:
    """Write the file."""
    installed = version("lmms_eval")
    if installed != RELEASE:
        raise SystemExit(f"lmms-eval {installed} is installed; these results are those of {RELEASE}.")
    given = cases(SEED, COUNT)
    told = {"lmms_eval": installed, **given, "judged": judged(given), "asked": asked()}
    lines = [f'"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in told.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
