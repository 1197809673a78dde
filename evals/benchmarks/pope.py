"""POPE: is that object in the picture? Absent objects are named at random, by frequency, and by what goes together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from evals.benchmarks.base_questions import QuestionBenchmark, Rows, headline, told
from evals.datasets.vlm import pope
from evals.datasets.vlm.table import QuestionSplit
from evals.files import DigestMemo
from evals.record import Score
from evals.vlm import questions

if TYPE_CHECKING:
    from evals.metrics.statistics import Weights


@dataclass(frozen=True, kw_only=True)
class Pope(QuestionBenchmark):
    """F1 of yes, the mean over the three splits (LLaVA, and the EUPE paper); pooled F1 and accuracy beside it."""

    id: ClassVar[str] = "pope"
    title: ClassVar[str] = "POPE"
    published: ClassVar[Mapping[str, int]] = pope.PUBLISHED
    judged_by: ClassVar[tuple[str, ...]] = ("category", "answer")

    @classmethod
    def load(cls, root: Path, digests: DigestMemo) -> QuestionSplit:
        """All three splits of 3,000 questions."""
        return pope.load(root, digests)

    def ask(self, row: Mapping[str, Any], way: str) -> str:
        """As LLaVA's script asks."""
        return questions.pope(row)

    @classmethod
    def scores(cls, rows: Rows, answers: Mapping[str, Sequence[str]], seed: int) -> tuple[Score, ...]:
        """Shares in percent; the yes-ratio is that of the answers."""
        from evals.metrics.answers.presence import by_split, mean_f1, score, tally

        said = score(answers[""], [row["answer"] for row in rows])
        splits = [row["category"] for row in rows]
        each, pooled = by_split(said, splits), tally(said)

        def published(weights: "Weights | None") -> float:
            return 100 * mean_f1(by_split(said, splits, weights))

        lmms = tally(score(answers[""], [row["answer"] for row in rows], "lmms"))
        return (
            *headline("f1", "percent", published, len(rows), seed, "question"),
            *(found for name, one in each.items() for found in told(f"f1[{name}]", 100 * one.f1, "percent")),
            *told("f1[pooled]", 100 * pooled.f1, "percent"),
            *told("accuracy", 100 * pooled.accuracy, "percent"),
            *told("precision", 100 * pooled.precision, "percent"),
            *told("recall", 100 * pooled.recall, "percent"),
            *told("yes_ratio", 100 * pooled.yes_ratio, "percent"),
            *told("f1[lmms]", 100 * lmms.f1, "percent"),
        )
