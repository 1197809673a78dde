"""Configuration: what wins over what, and what is refused."""

import re
from pathlib import Path

import pytest

from evals import compose
from evals.benchmarks import base
from evals.errors import UsageError


def test_defaults_are_those_of_the_file() -> None:
    """With nothing given: every benchmark, fp32, seed 0, no data."""
    settings = compose.compose()
    assert sorted(settings.benchmarks) == base.names()
    assert (settings.dtype, settings.seed, settings.limit, settings.protocol) == ("fp32", 0, None, None)
    assert settings.folders == {}
    assert settings.world is None


def test_flags_win_over_overrides() -> None:
    """`--batch 4` stands against `-o batch=8`; without the flag the override stands."""
    assert compose.compose(overrides=["batch=8"]).batch == 8
    assert compose.compose(overrides=["batch=8"], flags={"batch": 4}).batch == 4


def test_suites_and_single_benchmarks_are_joined_once() -> None:
    """Order of naming, no benchmark twice."""
    settings = compose.compose(chosen_suites=["image"], benchmarks=["cost", "in1k-knn"])
    assert settings.benchmarks == ("in1k-zeroshot", "in1k-knn", "cost")


def test_constants_reach_their_benchmark() -> None:
    """A changed constant arrives typed, and lists become tuples."""
    settings = compose.compose(benchmarks=["in1k-knn"], overrides=["in1k-knn.ks=[5,7]", "in1k-knn.temperature=0.1"])
    ((protocol, benchmark),) = compose.build(settings)
    assert protocol == "official"
    assert benchmark.params()["ks"] == (5, 7)
    assert benchmark.changed("official") == {"ks": (5, 7), "temperature": 0.1}


def test_protocols_by_data_and_by_name() -> None:
    """Real data take the default, the embedded world its own, and a name stands in where a benchmark has it."""

    def protocols(**flags: object) -> dict[str, str]:
        made = compose.build(compose.compose(flags=flags))
        return {benchmark.id: protocol for protocol, benchmark in made}

    assert protocols()["ade20k-linear"] == "official"
    assert set(protocols(data="miniature").values()) == {"miniature"}
    named = protocols(protocol="official", data="miniature")
    assert (named["nyuv2-linear"], named["spair-pck"], named["in1k-zeroshot"]) == ("official", "paper", "paper")


def test_data_folders(tmp_path: Path) -> None:
    """Usual names below the data folder; a path of its own wins."""
    settings = compose.compose(overrides=["paths.nyu=elsewhere"], flags={"data": str(tmp_path)})
    assert settings.folders["imagenet"] == tmp_path / "imagenet"
    assert settings.folders["nyu"] == Path("elsewhere")
    assert compose.compose(flags={"data": "miniature-tiny"}).world == "tiny"
    assert compose.compose(flags={"data": "miniature"}).world == "small"


def test_a_rendered_world_is_recognised_by_its_folder(tiny_world: Path) -> None:
    """`--data FOLDER` of an embedded world is that world, not a real data set."""
    settings = compose.compose(flags={"data": str(tiny_world)})
    assert (settings.world, settings.world_folder, settings.folders) == ("tiny", tiny_world, {})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"batch": 0}, "batch must be a whole number from 1"),
        ({"workers": "-1"}, "workers, unless auto, must be a whole number from 0"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"dtype": "fp16"}, "Known: bf16, fp32"),
        ({"protocol": "offcial"}, "Nearest: official"),
    ],
)
def test_bad_values_are_named(flags: dict[str, object], message: str) -> None:
    """Each with what was expected."""
    with pytest.raises(UsageError, match=message):
        compose.build(compose.compose(flags=flags))


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As given, else XDG, else the home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compose.cache_folder("here") == Path("here")
    assert compose.cache_folder(None) == tmp_path / "eupe-eval"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert compose.cache_folder(None) == Path.home() / ".cache" / "eupe-eval"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=abc", "seed must be a whole number from 0; got 'abc'"),
        ("seed=1.5", "seed must be a whole number"),
        ("seed=null", "seed must be a whole number"),
        ("workers=1.5", "workers, unless auto, must be"),
        ("~seed=0", "-o takes key=value"),
        ("=3", "-o takes key=value"),
        ("protocol=5", "unknown protocol '5'"),
        ("paths=3", "cannot apply -o paths=3"),
        ("benchmarks=3", "benchmarks holds keys of its own"),
        ("batch=[", "cannot apply -o batch="),
    ],
)
def test_bad_overrides_are_named(override: str, message: str) -> None:
    """One message with the key, never a traceback."""
    with pytest.raises(UsageError, match=re.escape(message)):
        compose.build(compose.compose(overrides=[override]))


def test_the_last_override_of_a_key_wins() -> None:
    """As with flags."""
    settings = compose.compose(overrides=["in1k-knn.temperature=0.1", "in1k-knn.temperature=0.2", "seed=1", "seed=2"])
    assert settings.changes["in1k-knn"] == {"temperature": 0.2}
    assert settings.seed == 2
