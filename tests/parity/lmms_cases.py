"""Generations that all six question sets judge, with labels of each set: from a seed, and made to be difficult."""

import random
from typing import Any

PIECES = (
    "yes", "no", "Yes", "No", "YES", "Yes.", "no.", "not", "Nothing", "y", "n", "N.", "maybe", "the yes", "I no",
    "A", "B", "C", "a", "b", "E", "A.", "B.", "(A)", "(B)", "C)", "B:", "The answer is", "answer is", "I pick",
    "D. left", "left", "Left", "Straight on", "Downhill", "NBA", "25 m.p.h.", "red sign", "white", "White.",
    "stop", "STOP", "the bus", "a bus.", "two", "Two", "2", "1,000", "3.5", ".5", "5.", "u.s.a.", "x-y", "10:30",
    "$5", "dont", "it's", "don't", "somebody'd", "none", "ten", '"q"', "what?", "hi!", "@home", "a.b", ".", "..",
    "-", ",", "'", "İ", "選", "选", "答案是",
)  # fmt: skip
PLAIN = (
    "yes", "no", "yes", "no", "Yes", "No", "y", "n", "A", "B", "C", "A", "B.", "stop", "two", "2", "white", "White.",
    "white!", "left", "Left", "Downhill", "the bus",
)  # fmt: skip
"""Said half of the time, so that much is right."""
JOINTS = ("", " ", " ", " ", "\n", "\t", ". ", ", ", "-", " - ", "? ", "/")
REFERENCES = ("stop", "STOP", "two", "2", "bus.", "the bus", "a", "1,000", "dont", "don't", "left", "white", "yes")
QUESTIONS = (
    "Where does it go?\n\nA. Left\nB. Straight on\nC. 25 m.p.h.\nPlease answer directly with only the letter.",
    "How many are there? A. two B. A dog\n\nC. \nD. Two",
    "How many are there?\nPlease answer directly with a single word or number.",
)
SUBTASKS = ("existence", "count", "OCR", "code_reasoning")
ASKED: tuple[dict[str, Any], ...] = (
    {"question": " Is there a RED car? Please answer yes or no.", "ocr_tokens": ["NOKIA", "7:45", "No, entry"],
     "choices": ["a dog", "a cat"], "hint": ""},
    {"question": "what Brand is it?", "ocr_tokens": [], "choices": ["left", "right", "neither"], "hint": "Look at it."},
    {"question": "Is it red?  Please answer yes or no.\n", "ocr_tokens": ["a"], "choices": ["x", "y"], "hint": ""},
)  # fmt: skip
"""Rows with every field that a prompt reads."""


def cases(seed: int, count: int) -> dict[str, Any]:
    """`said`, an even number of stripped texts, and `rows`: for each set a list of labels as long."""
    rng = random.Random(seed)
    said = [_text(rng) for _ in range(count)]
    yes_no = [rng.choice(("yes", "no")) for _ in said]
    numbers = [rng.randint(2, 5) for _ in said]
    rows = {
        "textvqa": [{"answers": [rng.choice(REFERENCES) for _ in range(10)]} for _ in said],
        "scienceqa": [{"choices": ["x"] * number, "answer": rng.randrange(number)} for number in numbers],
        "realworldqa": [
            {"question": rng.choice(QUESTIONS), "answer": rng.choice(("A", "B", "C", "D", "Left", "2", "downhill"))}
            for _ in said
        ],
        "gqa": [{"answer": rng.choice(("white", "left", "yes", "no", "2", "red sign"))} for _ in said],
        "pope": [{"answer": answer} for answer in yes_no],
        "mme": _pairs(rng, count),
    }
    return {"said": said, "rows": rows}


def _text(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(PLAIN)
    return "".join(rng.choice(PIECES) + rng.choice(JOINTS) for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 4)))).strip()


def _pairs(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Two questions about each picture, not beside each other; a picture is one of its subtask."""
    rows = [
        {"question_id": f"{number}.png", "category": SUBTASKS[number % len(SUBTASKS)], "answer": answer}
        for number in range(count // 2)
        for answer in ("Yes", "No")
    ]
    rng.shuffle(rows)
    return rows
