"""What every scorer asks of its input: a text for each question, and labels that can be read. numpy only."""

from collections.abc import Sequence, Sized
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evals.errors import DataError, ResultsError

Rule = Literal["llava", "lmms"]
"""Whose scoring: the scripts that LLaVA-1.5 publishes or names, or lmms-eval 0.7.3. Both read the stripped answer."""

NO, YES, OTHER = range(3)
"""What was said to a yes-or-no question. OTHER: the rule finds neither word."""


def texts(predictions: Sequence[str | None], *per_question: Sized) -> list[str]:
    """The answers without surrounding blanks. An empty text is an answer; None is none.

    Raises ResultsError if an answer is missing, or if something of which each question has one has another length.
    """
    for other in per_question:
        if len(other) != len(predictions):
            raise ResultsError(
                f"{len(predictions)} answers for {len(other)} questions; expected one answer each. "
                "Generate the answers again, or score them with the questions they were given to."
            )
    missing = [at for at, text in enumerate(predictions) if not isinstance(text, str)]
    if missing:
        raise ResultsError(
            f"{len(missing)} of {len(predictions)} answers are missing, the first at question {missing[0]}: expected "
            f"a text (empty where nothing was said), got {predictions[missing[0]]!r}. Generate these answers again."
        )
    return [text.strip() for text in predictions if text is not None]


def yes_or_no(answers: Sequence[str]) -> NDArray[np.int8]:
    """Labels as NO and YES, whatever their case, blanks and full stops. Raises DataError for any other label."""
    codes = {"no": NO, "yes": YES}
    words = [answer.lower().strip().replace(".", "") for answer in answers]
    for at, word in enumerate(words):
        if word not in codes:
            raise DataError(f"question {at}: expected the answer yes or no, got {answers[at]!r}. Obtain the set again.")
    return np.array([codes[word] for word in words], dtype=np.int8)
