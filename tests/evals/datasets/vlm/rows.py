"""Rows of the six question sets as the hub has them, and the writing of tables."""

import io
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Rows = list[dict[str, Any]]


def png(number: int) -> dict[str, Any]:
    """A small picture of its own colours, as a column of pictures holds it."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{number}.png"}


def textvqa_rows(n: int = 5) -> Rows:
    """Questions about signs; the first picture has no OCR tokens."""
    return [
        {
            "image_id": f"i{at}", "question_id": 34602 + at, "question": f"what does sign {at} say?",
            "image": png(at), "answers": ["stop"] * 7 + ["halt"] * 3, "ocr_tokens": ["STOP"] if at else [],
            "set_name": "val",
        }
        for at in range(n)
    ]  # fmt: skip


def sqa_rows(shown: Sequence[bool] = (True, False, True, True)) -> Rows:
    """Questions with three choices, some without a picture."""
    return [
        {
            "image": png(100 + at) if has else None, "question": f"Which one is {at}?", "choices": ["a", "b", "c"],
            "answer": at % 3, "hint": "" if at else "Look at the map.", "subject": "natural science",
        }
        for at, has in enumerate(shown)
    ]  # fmt: skip


def realworldqa_rows(n: int = 3) -> Rows:
    """Questions that have neither an id nor options."""
    return [{"image": png(200 + at), "question": f"What is in lane {at}?", "answer": "A"} for at in range(n)]


def pope_rows(categories: Sequence[str] = ("adversarial", "popular", "random"), each: int = 4) -> Rows:
    """Two questions about each picture in each category."""
    return [
        {
            "id": str(at), "question_id": str(at + 1), "question": f"Is there a dog in picture {at // 2}?",
            "answer": "yes" if at % 2 == 0 else "no", "image_source": f"COCO_{at // 2}", "image": png(300 + at // 2),
            "category": category,
        }
        for category in categories
        for at in range(each)
    ]  # fmt: skip


def gqa_rows() -> tuple[Rows, Rows]:
    """Five questions about two pictures; the pictures in another order than their questions."""
    asked = [
        {"id": f"20{at}", "imageId": name, "question": f"What is left of thing {at}?", "answer": "dog",
         "fullAnswer": "It is a dog.", "semantic": [{"operation": "select", "dependencies": [0]}]}
        for at, name in enumerate(["n1", "n2", "n1", "n2", "n1"])
    ]  # fmt: skip
    return asked, [{"id": "n2", "image": png(402)}, {"id": "n1", "image": png(401)}]


def mme_rows(categories: Sequence[str] = ("existence", "OCR", "code_reasoning")) -> Rows:
    """Two pictures a category, two questions each."""
    return [
        {"question_id": f"{category}/{number}.png", "image": png(500 + number), "answer": answer, "category": category,
         "question": f"Is this {answer}? Please answer yes or no."}
        for category in categories
        for number in range(2)
        for answer in ("Yes", "No")
    ]  # fmt: skip


IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(rows: Rows) -> pa.Table:
    """With the type that the hub's files give pictures, even where all are null."""
    made = pa.Table.from_pylist(rows)
    if "image" in made.column_names:
        at = made.column_names.index("image")
        made = made.set_column(at, "image", pa.array([row["image"] for row in rows], IMAGE_TYPE))
    return made


def write_parquet(folder: Path, split: str, rows: Rows, shards: int = 1) -> None:
    """Writes rows as the shards of a split, with row groups of two rows."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = table(rows)
    edges = [len(rows) * at // shards for at in range(shards + 1)]
    for at, (start, end) in enumerate(pairwise(edges)):
        path = folder / f"{split}-{at:05d}-of-{shards:05d}.parquet"
        pq.write_table(whole.slice(start, end - start), path, row_group_size=2)


def write_saved(folder: Path, split: str | None, rows: Rows, shards: int = 1) -> None:
    """Writes rows as `save_to_disk` does: Arrow streams and a state that lists them."""
    folder.mkdir(parents=True)
    whole, names = table(rows), []
    edges = [len(rows) * at // shards for at in range(shards + 1)]
    for at, (start, end) in enumerate(pairwise(edges)):
        names.append(f"data-{at:05d}-of-{shards:05d}.arrow")
        part = whole.slice(start, end - start)
        with pa.OSFile(str(folder / names[-1]), "wb") as sink, pa.ipc.new_stream(sink, part.schema) as stream:
            for batch in part.to_batches(max_chunksize=2):
                stream.write_batch(batch)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": split}
    (folder / "state.json").write_text(json.dumps(state))
