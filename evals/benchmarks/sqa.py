"""ScienceQA, the questions with a picture: multiple choice, one letter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.base_questions import QuestionBenchmark, Rows, share
from evals.datasets.vlm import sqa
from evals.datasets.vlm.table import QuestionSplit
from evals.files import DigestMemo
from evals.record import Score
from evals.vlm import questions


@dataclass(frozen=True, kw_only=True)
class Sqa(QuestionBenchmark):
    """Accuracy over the 2,017 test questions that have a picture."""

    id: ClassVar[str] = "sqa"
    title: ClassVar[str] = "SQA"
    published: ClassVar[Mapping[str, int]] = sqa.PUBLISHED
    judged_by: ClassVar[tuple[str, ...]] = ("choices", "answer")

    @classmethod
    def load(cls, root: Path, digests: DigestMemo) -> QuestionSplit:
        """The test questions with a picture."""
        return sqa.load(root, digests)

    def ask(self, row: Mapping[str, Any], way: str) -> str:
        """As LLaVA's script asks."""
        return questions.scienceqa(row)

    @classmethod
    def scores(cls, rows: Rows, answers: Mapping[str, Sequence[str]], seed: int) -> tuple[Score, ...]:
        """Accuracy by LLaVA's parser, and by lmms-eval's."""
        from evals.metrics.answers.choices import score

        counts, right = [len(row["choices"]) for row in rows], [int(row["answer"]) for row in rows]
        llava = score(answers[""], counts, right)
        lmms = score(answers[""], counts, right, "lmms")
        return (
            share("accuracy", llava.correct_N, seed, "question", primary=True),
            share("accuracy[lmms]", lmms.correct_N, seed, "question"),
        )
