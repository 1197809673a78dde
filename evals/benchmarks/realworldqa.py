"""RealWorldQA: questions about photographs of the real world, mostly from cars; the scorer is frozen (two eras)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.base_questions import QuestionBenchmark, Rows, share
from evals.datasets.vlm import realworldqa
from evals.datasets.vlm.table import QuestionSplit
from evals.files import DigestMemo
from evals.record import Score
from evals.vlm import questions


@dataclass(frozen=True, kw_only=True)
class Realworldqa(QuestionBenchmark):
    """Accuracy over 765 questions. The set has no official scorer; see `evals.metrics.answers.realworld`."""

    id: ClassVar[str] = "realworldqa"
    title: ClassVar[str] = "RealwQA"
    published: ClassVar[Mapping[str, int]] = realworldqa.PUBLISHED
    judged_by: ClassVar[tuple[str, ...]] = ("question", "answer")

    @classmethod
    def load(cls, root: Path, digests: DigestMemo) -> QuestionSplit:
        """The test questions."""
        return realworldqa.load(root, digests)

    def ask(self, row: Mapping[str, Any], way: str) -> str:
        """As LLaVA's script asks."""
        return questions.realworldqa(row)

    @classmethod
    def scores(cls, rows: Rows, answers: Mapping[str, Sequence[str]], seed: int) -> tuple[Score, ...]:
        """By the rule that was in use until lmms-eval 0.7.1 (the headline), and by that of 0.7.2 and 0.7.3."""
        from evals.metrics.answers.realworld import score

        found = score(answers[""], [row["question"] for row in rows], [row["answer"] for row in rows])
        return (
            share("accuracy", found.before_N, seed, "question", primary=True),
            share("accuracy[since_0.7.2]", found.since_N, seed, "question"),
        )
