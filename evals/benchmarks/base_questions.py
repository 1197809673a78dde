"""What the six vision-language benchmarks share: a model is trained on the encoder, or found, and asked every question.

The training is LLaVA-1.5's (`configs/vlm`); "we follow LLaVA and exchange the encoder" is all that section 8 of the
EUPE paper says. Raw answers are kept beside the record with what they are judged by, so that `eupe-eval rescore`
computes every number again without encoder, language model or data.
"""

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from evals.benchmarks.base import Benchmark, Family, Job, Outcome, Work, take
from evals.context import Roots
from evals.datasets.base import Split
from evals.datasets.vlm.table import QuestionSplit
from evals.files import DigestMemo, sha256_file
from evals.record import Score, safe_name

if TYPE_CHECKING:
    import numpy as np

    from evals.metrics.statistics import Weights
    from evals.types import ImageSpec
    from evals.vlm.checkpoint import Loaded
    from evals.vlm.recipe import Recipe

SWAPPED = "swapped"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class QuestionBenchmark(Benchmark):
    """One set of questions. A subclass says how its rows are read, asked and judged."""

    family: ClassVar[Family] = "vlm"
    folder: ClassVar[str | None] = "vlm"
    version: ClassVar[int] = 1
    judged_by: ClassVar[tuple[str, ...]]
    """Fields of a row that its judgement needs."""
    ways: ClassVar[tuple[str, ...]] = ("",)
    """Ways to ask every question; the first is the headline's."""
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "vlm-proxy": {"recipe": "vlm-proxy"},
        "miniature": {"recipe": "miniature", "max_new_tokens": 16},
    }

    recipe: str = "llava-1.5"
    """Training of the model: a name of `configs/vlm`, or a YAML file."""
    checkpoint: str | None = None
    """A model that was trained before (`--vlm-checkpoint`), in place of one of the recipe."""
    pictures: Literal["own", "swapped"] = "own"
    """`swapped`: each question is shown the picture of another one, which measures what the text alone gives."""
    max_new_tokens: int = 128
    """Tokens of an answer at most (LLaVA's evaluation scripts)."""

    @classmethod
    @abstractmethod
    def load(cls, root: Path, digests: DigestMemo) -> QuestionSplit:
        """The set below the folder `vlm`."""

    @abstractmethod
    def ask(self, row: Mapping[str, Any], way: str) -> str:
        """The user's text of a question."""

    @classmethod
    @abstractmethod
    def scores(cls, rows: Rows, answers: Mapping[str, Sequence[str]], seed: int) -> tuple[Score, ...]:
        """Every number, from the fields `judged_by` and the raw answers by way; the first one is the headline."""

    def contents(self) -> dict[str, Any]:
        """What the model is: all that its recipe says, or which one was given."""
        from evals.vlm.recipe import find

        if self.checkpoint is not None:
            return {"model": _manifest(self.checkpoint)}
        return {"model": json.loads(json.dumps(find(self.recipe).describe()))}

    def splits(self, roots: Roots, digests: DigestMemo) -> tuple[Split, ...]:
        """The questions, then what the model learns from, unless it was trained before."""
        from evals.datasets.llava_records import records
        from evals.vlm.recipe import find

        asked = take(type(self).load(roots.of("vlm"), digests), self.limit)
        if self.checkpoint is not None:
            return (asked,)
        return asked, *(records(roots.of("llava"), stage, digests) for stage, _ in find(self.recipe).stages)

    def training(self, encoder: str, cache: Path) -> str:
        """The recipe, unless its language model is the embedded world's, or a model of it on this encoder is kept."""
        from evals.vlm.recipe import EMBEDDED, MANIFEST, find

        recipe = find(self.recipe)
        models = (cache / "vlm" / safe_name(encoder)).glob(f"*/model/{MANIFEST}")
        kept = any(_recipe_of(manifest) == recipe.name for manifest in models)
        if self.checkpoint is not None or recipe.language == EMBEDDED or kept:
            return ""
        return f"{recipe.language} by the recipe {recipe.name}"

    def complete(self, protocol: str, splits: Sequence[Split], world: str | None) -> bool:
        """Also of what the model learnt from, all that was published."""
        from evals.datasets.llava_records import PUBLISHED

        asked, *learnt = splits
        published = protocol == "miniature" or all(PUBLISHED[split.split] == len(split) for split in learnt)
        return published and super().complete(protocol, (asked,), world)

    def work(self, spec: "ImageSpec", splits: Sequence[Split]) -> tuple[Work, ...]:
        """A pass over each picture (at most one a question). Training comes on top where no model is kept."""
        from evals.vlm.recipe import find

        view = find(self.recipe).sides.view(spec.patch, convolutional=False)
        return (Work(len(splits[0]), view.side, view.side),)

    def run(self, job: Job) -> Outcome:
        """Train or find the model, ask it, judge its answers."""
        import numpy as np

        from evals.vlm.fit import view_of
        from evals.vlm.interview import Interview
        from evals.vlm.pictures import geometry
        from evals.vlm.recipe import find

        recipe, split = find(self.recipe), cast(QuestionSplit, job.splits[0])
        loaded = self._model(job, recipe)
        interview = Interview(
            loaded, job.encoder, recipe, job.context, self.max_new_tokens, swapped=self.pictures == SWAPPED
        )
        answers = {
            way: interview.answers(split, partial(self.ask, way=way), job.checkpoints / (way or "asked"))
            for way in self.ways
        }
        rows = [{key: entry.row.get(key) for key in self.judged_by} for entry in split.entries]
        view = view_of(recipe, job.encoder)
        return Outcome(
            metrics=self.scores(rows, answers, job.context.seed),
            samples={
                "ids": np.array([entry.id for entry in split.entries]),
                **{_column(way): np.array(said) for way, said in answers.items()},
                "rows": np.array([json.dumps(row, ensure_ascii=False) for row in rows]),
            },
            notes=_notes(loaded, recipe),
            preprocess={
                **geometry("pad", job.encoder.spec, view).describe(),
                "side_used": view.side,
                "rule": view.rule,
            },
        )

    @classmethod
    def rescored(cls, samples: "Mapping[str, np.ndarray]", seed: int) -> tuple[Score, ...]:
        """Every number again, from what `run` kept. Raises KeyError for samples of something else."""
        rows = [json.loads(str(row)) for row in samples["rows"]]
        return cls.scores(rows, {way: [str(said) for said in samples[_column(way)]] for way in cls.ways}, seed)

    def _model(self, job: Job, recipe: "Recipe") -> "Loaded":
        from evals.vlm.kept import model_of

        return model_of(self.checkpoint, recipe, job.encoder, job.context)


def _manifest(checkpoint: str) -> str:
    """Digest of what a checkpoint says of itself, which names its files by theirs; empty where there is none."""
    from evals.vlm.recipe import MANIFEST

    path = Path(checkpoint).expanduser() / MANIFEST
    return sha256_file(path) if path.is_file() else ""


def _recipe_of(manifest: Path) -> str:
    """Name of the recipe of a model that is kept; empty where it cannot be read."""
    try:
        return str(json.loads(manifest.read_text())["recipe"]["name"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _column(way: str) -> str:
    return f"answers[{way}]" if way else "answers"


def _notes(loaded: "Loaded", recipe: "Recipe") -> dict[str, Any]:
    """What the answers depend on beside encoder and questions."""
    card = loaded.card
    return {
        "recipe": recipe.name,
        "language": card.recipe["language"],
        "trained_on": dict(card.data),
        "losses": {stage: dict(numbers) for stage, numbers in card.losses.items()},
        "left_out": {stage: len(ids) for stage, ids in card.skipped.items()},
        "visual_tokens": card.grid**2,
        "layer": card.layer,
        "arithmetic": recipe.dtype,
    }


def share(name: str, correct_N: "np.ndarray", seed: int, cluster: str, *, primary: bool = False) -> Score:
    """Percent of a share, one value an item, with its interval."""
    from evals.metrics.statistics import bootstrap_mean

    interval = bootstrap_mean(100.0 * correct_N, seed=seed, cluster=cluster)
    return Score(name, float(100.0 * correct_N.mean()), "percent", True, primary, interval)


def clustered(name: str, correct_N: "np.ndarray", groups: Sequence[str], seed: int, *, primary: bool = False) -> Score:
    """Percent of a share whose items hang together by group (questions about one picture): groups are resampled."""
    import numpy as np

    from evals.metrics.statistics import bootstrap

    _, group_N = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    right_G, size_G = np.bincount(group_N, correct_N), np.bincount(group_N)
    interval = bootstrap(
        len(size_G), lambda weights: float(100 * (weights @ right_G) / (weights @ size_G)), seed=seed, cluster="picture"
    )
    return Score(name, float(100.0 * correct_N.mean()), "percent", True, primary, interval)


def headline(
    name: str, unit: str, statistic: "Callable[[Weights | None], float]", n: int, seed: int, cluster: str
) -> tuple[Score, ...]:
    """A statistic of `n` clusters with its interval; left out where it is undefined. None weighs each cluster once."""
    import math

    from evals.metrics.statistics import bootstrap

    if math.isnan(value := statistic(None)):
        return ()
    return (Score(name, value, unit, True, True, bootstrap(n, statistic, seed=seed, cluster=cluster)),)


def told(name: str, value: float, unit: str) -> tuple[Score, ...]:
    """A number that may be undefined, and is then left out."""
    import math

    return () if math.isnan(value) else (Score(name, value, unit, True),)
