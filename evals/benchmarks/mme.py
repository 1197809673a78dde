"""MME: a question to be answered yes and one to be answered no about each picture, by subtask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.base_questions import QuestionBenchmark, Rows, headline, told
from evals.datasets.vlm import mme
from evals.datasets.vlm.table import QuestionSplit
from evals.files import DigestMemo
from evals.record import Score
from evals.vlm import questions


@dataclass(frozen=True, kw_only=True)
class Mme(QuestionBenchmark):
    """Perception: the sum over its subtasks of accuracy and accuracy+ in percent, 2000 at most."""

    id: ClassVar[str] = "mme"
    title: ClassVar[str] = "MME-P"
    published: ClassVar[Mapping[str, int]] = mme.PUBLISHED
    judged_by: ClassVar[tuple[str, ...]] = ("question_id", "category", "answer")

    @classmethod
    def load(cls, root: Path, digests: DigestMemo) -> QuestionSplit:
        """All 2,374 questions, cognition included."""
        return mme.load(root, digests)

    def ask(self, row: Mapping[str, Any], way: str) -> str:
        """As LLaVA's script asks."""
        return questions.mme(row)

    @classmethod
    def scores(cls, rows: Rows, answers: Mapping[str, Sequence[str]], seed: int) -> tuple[Score, ...]:
        """Totals of perception (the headline) and cognition, and the score of every subtask; resampled by picture."""
        from evals.metrics.answers.mme import COGNITION, PERCEPTION, by_subtask, score, total

        marked = score(
            answers[""],
            [row["answer"] for row in rows],
            [row["category"] for row in rows],
            [row["question_id"] for row in rows],
        )
        return (
            *headline(
                "perception", "points", partial(total, marked, PERCEPTION), len(marked.subtask_P), seed, "picture"
            ),
            *told("cognition", total(marked, COGNITION), "points"),
            *(Score(name, one.score, "points", True) for name, one in by_subtask(marked).items()),
            Score("unclear", float(marked.other), "answers", False),
        )
