"""GQA, testdev balanced: compositional questions about photographs, exact match."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.base_questions import QuestionBenchmark, Rows, clustered
from evals.datasets.vlm import gqa
from evals.datasets.vlm.table import QuestionSplit
from evals.files import DigestMemo
from evals.record import Score
from evals.vlm import questions


@dataclass(frozen=True, kw_only=True)
class Gqa(QuestionBenchmark):
    """Accuracy over 12,578 questions about 398 pictures."""

    id: ClassVar[str] = "gqa"
    title: ClassVar[str] = "GQA"
    published: ClassVar[Mapping[str, int]] = gqa.PUBLISHED
    judged_by: ClassVar[tuple[str, ...]] = ("imageId", "answer")

    @classmethod
    def load(cls, root: Path, digests: DigestMemo) -> QuestionSplit:
        """The questions of testdev, each with its picture."""
        return gqa.load(root, digests)

    def ask(self, row: Mapping[str, Any], way: str) -> str:
        """As LLaVA's script asks."""
        return questions.gqa(row)

    @classmethod
    def scores(cls, rows: Rows, answers: Mapping[str, Sequence[str]], seed: int) -> tuple[Score, ...]:
        """Exact match as GQA's own evaluation has it, and without case and punctuation (lmms-eval), by picture."""
        from evals.metrics.answers.exact import score

        right = [str(row["answer"]) for row in rows]
        pictures = [str(row["imageId"]) for row in rows]
        return (
            clustered("accuracy", score(answers[""], right), pictures, seed, primary=True),
            clustered("accuracy[lmms]", score(answers[""], right, "lmms"), pictures, seed),
        )
