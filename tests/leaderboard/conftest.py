"""Short ways to make records."""

from typing import Any

import pytest

from evals.record import DatasetCard, EncoderCard, Frozen, Interval, Record, Score, Status, Task

METRICS = {
    "nyuv2-linear": ("rmse", "m", False),
    "ade20k-linear": ("miou", "percent", True),
    "spair-pck": ("pck", "percent", True),
}


class Make:
    """Cards and records with everything usual filled in."""

    @staticmethod
    def encoder(name: str, *, weights: str = "hub", feature: str = "cls", random: bool = False) -> EncoderCard:
        """A card; the digest of the weights is the bytes of the word for them."""
        source = "pixels" if name == "pixels" else "timm"
        digest = weights.encode().hex().ljust(64, "0")
        return EncoderCard(name, source, name, weights, digest, "MIT", 16, 224, feature, text=False, random=random)

    @staticmethod
    def data(*, world: str | None = None, fingerprint: str = "ab", limited: bool = False) -> DatasetCard:
        """A data set of 40 training and 20 validation items."""
        published = {"train": 40, "val": 20}
        found = {"train": 10, "val": 5} if limited else published
        return DatasetCard("toy", world, ("train", "val"), fingerprint.ljust(64, "0"), published, found, limited)

    def scored(
        self,
        who: str | EncoderCard,
        benchmark: str,
        value: float | None,
        *,
        half: float | None = None,
        protocol: str = "paper",
        version: int = 1,
        changed: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Record:
        """A standard result, with the interval `value` +- `half` where that is given."""
        name, unit, higher = METRICS.get(benchmark, ("top1", "percent", True))
        ci = None
        if half is not None and value is not None:
            ci = Interval(value - half, value + half, 0.95, "cluster-bootstrap", 1000, "image")
        usual: dict[str, Any] = {
            "status": "success",
            "created": "2026-01-01T00:00:00Z",
            "standard": not changed,
            "metrics": (Score(name, value, unit, higher, primary=True, ci=ci),),
            "frozen": Frozen("a", "a", ok=True),
            "dataset": self.data(),
        }
        card = self.encoder(who) if isinstance(who, str) else who
        task = Task(benchmark, version, protocol, dict(changed or {}), dict(changed or {}))
        return Record(encoder=card, task=task, **(usual | fields))

    def missing(
        self,
        who: str | EncoderCard,
        benchmark: str,
        status: Status,
        reason: str | None = None,
        protocol: str = "paper",
        dataset: DatasetCard | None = None,
    ) -> Record:
        """A result without a score."""
        absent: dict[str, Any] = {"status": status, "reason": reason, "dataset": dataset, "metrics": (), "frozen": None}
        return self.scored(who, benchmark, None, protocol=protocol, **absent)

    def cost(self, who: str | EncoderCard, values: dict[str, float], hardware: str) -> Record:
        """A cost, measured on that hardware."""
        metrics = tuple(Score(name, value, "", False, primary=name == "gflops@256") for name, value in values.items())
        return self.scored(who, "cost", None, metrics=metrics, dataset=None, environment={"hardware": hardware})


@pytest.fixture
def make() -> Make:
    """The makers."""
    return Make()
