"""Our six scorers and prompts against lmms-eval's, by the results that it gave and, where it is installed, gives.

The extra `lmms` is not needed: `lmms_golden.json` keeps what release 0.7.3 says of shared generations (written by
`make_lmms_golden.py`). Scorers are compared under its rules; where ours differ by intention stands at the end.
"""

import importlib.util
import json
import math
from typing import Any

import numpy as np
import pytest
from PIL import ImageFile

from evals.metrics.answers import choices, exact, mme, presence, realworld, textvqa
from evals.metrics.answers.given import OTHER, YES
from evals.vlm import questions
from tests.parity.lmms_cases import ASKED, cases
from tests.parity.make_lmms_golden import GOLDEN, RELEASE, asked, judged

STORED: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
SAID, ROWS = STORED["said"], STORED["rows"]
installed = pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is None, reason="needs the extra lmms")
# Its modules, and what they import, use what is deprecated elsewhere.
tolerant = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def own_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """lmms-eval lets truncated pictures pass, for the whole process, as soon as it is imported; undone afterwards."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)


def _ours(given: dict[str, Any]) -> dict[str, Any]:
    """Our scores under lmms-eval's rules, in the form of `judged`."""
    said, rows = given["said"], given["rows"]
    columns = {name: _columns(rows[name]) for name in rows}
    pope = presence.score(said, columns["pope"]["answer"], "lmms")
    tally = presence.tally(pope)
    pairs = columns["mme"]
    marked = mme.score(said, pairs["answer"], pairs["category"], pairs["question_id"], "lmms")
    science = columns["scienceqa"]
    real = realworld.score(said, columns["realworldqa"]["question"], columns["realworldqa"]["answer"])
    return {
        "textvqa": textvqa.score(said, columns["textvqa"]["answers"]),
        "normalised": [textvqa.normalise(text) for text in said],
        "scienceqa": choices.score(said, [len(one) for one in science["choices"]], science["answer"], "lmms").correct_N,
        "realworldqa": real.since_N,
        "realworldqa_before": real.before_N,
        "gqa": exact.score(said, columns["gqa"]["answer"], "lmms"),
        "pope": pope.correct_N,
        "pope_totals": {
            "accuracy": tally.accuracy,
            "precision": tally.precision,
            "recall": tally.recall,
            "f1_score": tally.f1,
            "yes_ratio": float((pope.label_N == YES).mean()),  # of the labels: see the last test
        },
        "mme": marked.correct_N,
        "mme_totals": {
            "mme_perception_score": mme.total(marked, mme.PERCEPTION),
            "mme_cognition_score": mme.total(marked, mme.COGNITION),
        },
    }


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]}


def _must_agree(given: dict[str, Any], told: dict[str, Any]) -> None:
    ours = _ours(given)
    assert ours.keys() == told.keys()
    assert ours.pop("normalised") == told["normalised"]
    for name, value in ours.items():
        theirs = told[name]
        if isinstance(value, dict):
            assert value == pytest.approx({key: theirs[key] for key in value}, abs=1e-9), name
        else:
            np.testing.assert_allclose(np.asarray(value, dtype=float), theirs, atol=1e-12, err_msg=name)


def test_scores_equal_the_stored() -> None:
    """Six sets, sample by sample and in total; some of every set is right and some is wrong."""
    for name in ("textvqa", "scienceqa", "realworldqa", "realworldqa_before", "gqa", "pope", "mme"):
        assert 0 < np.mean(STORED["judged"][name]) < 1
    _must_agree(STORED, STORED["judged"])


def test_prompts_equal_the_stored() -> None:
    """Byte for byte, from rows with capitals, blanks and doubled blanks where they matter."""
    ours = {
        "textvqa": [questions.textvqa(row, ocr=False, protocol="lmms") for row in ASKED],
        "textvqa_ocr": [questions.textvqa(row, protocol="lmms") for row in ASKED],
        "scienceqa": [questions.scienceqa(row) for row in ASKED],
        "realworldqa": [questions.realworldqa(row) for row in ASKED],
        "gqa": [questions.gqa(row) for row in ASKED],
        "pope": [questions.pope(row) for row in ASKED],
        "mme": [questions.mme(row) for row in ASKED],
    }
    assert ours == STORED["asked"]


@installed
@tolerant
def test_the_stored_is_what_lmms_eval_says() -> None:
    """The file was written by the release that is installed, and by nothing else."""
    from importlib.metadata import version

    assert version("lmms_eval") == STORED["lmms_eval"] == RELEASE
    assert STORED["judged"] == judged(STORED)
    assert STORED["asked"] == asked()


@installed
@tolerant
@pytest.mark.parametrize("seed", range(1, 4))
def test_scores_equal_lmms_eval(seed: int) -> None:
    """Four hundred generations a seed, none of which is kept."""
    given = cases(seed, 400)
    _must_agree(given, judged(given))


def test_headlines_differ_by_intention() -> None:
    """LLaVA's parsers hear a sentence where lmms-eval wants a word, and nothing where it is lenient.

    POPE takes every answer for yes or no, ScienceQA reads "The answer is B.", MME needs three letters, GQA keeps
    punctuation. On the stored generations all four headlines are other numbers.
    """
    labels = _columns(ROWS["pope"])["answer"]
    llava, lmms = presence.score(SAID, labels), presence.score(SAID, labels, "lmms")
    assert (llava.said_N != OTHER).all()
    assert (lmms.said_N == OTHER).sum() == sum(text.lower() not in ("yes", "no") for text in SAID)
    assert llava.correct_N.sum() > sum(STORED["judged"]["pope"])
    science = _columns(ROWS["scienceqa"])
    strict = choices.score(SAID, [len(one) for one in science["choices"]], science["answer"]).correct_N
    assert strict.sum() != sum(STORED["judged"]["scienceqa"])
    assert exact.score(SAID, _columns(ROWS["gqa"])["answer"]).sum() < sum(STORED["judged"]["gqa"])
    pairs = _columns(ROWS["mme"])
    marked = mme.score(SAID, pairs["answer"], pairs["category"], pairs["question_id"])
    assert marked.correct_N.sum() < sum(STORED["judged"]["mme"])


def test_textvqa_is_asked_otherwise() -> None:
    """The headline shows OCR tokens and the question as it is; lmms-eval shows none and lowers capitals."""
    (row,) = [row for row in ASKED if "Brand" in row["question"]]
    at = ASKED.index(row)
    assert questions.textvqa(row).startswith("what Brand is it?\nReference OCR token: ")
    assert STORED["asked"]["textvqa"][at] == f"What brand is it?{questions.SHORT}"


def test_the_ratio_of_yes_is_that_of_the_answers() -> None:
    """lmms-eval's counts labels, the same for every model. Its precision without a yes is 0, ours is not defined."""
    labels = _columns(ROWS["pope"])["answer"]
    told = STORED["judged"]["pope_totals"]["yes_ratio"]
    assert told == labels.count("yes") / len(labels)
    tally = presence.tally(presence.score(SAID, labels, "lmms"))
    assert tally.yes_ratio == sum(text.lower() == "yes" for text in SAID) / len(SAID) != told
    silent = presence.tally(presence.score(["no"] * 2, ["yes", "no"], "lmms"))
    assert math.isnan(silent.precision)
