"""TextVQA: reading in pictures. With the OCR tokens of the set in the prompt, as LLaVA publishes it, and without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.base_questions import QuestionBenchmark, Rows, share
from evals.datasets.vlm import textvqa
from evals.datasets.vlm.table import QuestionSplit
from evals.files import DigestMemo
from evals.record import Score
from evals.vlm import questions


@dataclass(frozen=True, kw_only=True)
class Textvqa(QuestionBenchmark):
    """Soft accuracy against ten references."""

    id: ClassVar[str] = "textvqa"
    title: ClassVar[str] = "TextVQA"
    published: ClassVar[Mapping[str, int]] = textvqa.PUBLISHED
    judged_by: ClassVar[tuple[str, ...]] = ("answers",)
    ways: ClassVar[tuple[str, ...]] = ("ocr", "no_ocr")

    @classmethod
    def load(cls, root: Path, digests: DigestMemo) -> QuestionSplit:
        """Validation, 5,000 questions."""
        return textvqa.load(root, digests)

    def ask(self, row: Mapping[str, Any], way: str) -> str:
        """As LLaVA's script asks."""
        return questions.textvqa(row, ocr=way == "ocr")

    @classmethod
    def scores(cls, rows: Rows, answers: Mapping[str, Sequence[str]], seed: int) -> tuple[Score, ...]:
        """Accuracy with OCR tokens (the headline) and without."""
        from evals.metrics.answers.textvqa import score

        references = [row["answers"] for row in rows]
        return tuple(
            share(
                "accuracy" if way == cls.ways[0] else f"accuracy[{way}]",
                score(answers[way], references),
                seed,
                "question",
                primary=way == cls.ways[0],
            )
            for way in cls.ways
        )
