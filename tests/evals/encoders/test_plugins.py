"""Encoders of other packages: found without being imported, named where they break, and an example to install."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from evals.encoders.card import card, identity
from evals.encoders.load import blueprint, load
from evals.encoders.plugins import plugins
from evals.encoders.registry import adapter, names, resolve, sources
from evals.errors import UnavailableError, UsageError, WeightsError
from evals.files import DigestMemo

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "encoder-plugin"
ENTRY = {
    "source": "theirs",
    "model": "m",
    "global_feature": "none",
    "licence": "MIT",
    "size": 32,
    "patch": 16,
    "weights": "none",
}
CODE = """
from evals.encoders.scaffold.plugin import skeleton
exec(skeleton("mean-colour")["mean_colour/__init__.py"])
"""
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make installed packages: their code, their entries, and what an installer writes beside them."""
    before = set(sys.modules)

    def put(name: str, code: str = CODE, source: str = "theirs", version: str = "1.0", **entries: object) -> Path:
        site = tmp_path / f"site-{name}"
        (site / name / "encoder").mkdir(parents=True)
        (site / name / "__init__.py").write_text(code)
        for stem, values in entries.items():
            (site / name / "encoder" / f"{stem}.yaml").write_text(yaml.safe_dump(values))
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[eupe_eval.encoders]\n{source} = {name}\n")
        monkeypatch.syspath_prepend(str(site))
        plugins.cache_clear()
        return site

    yield put
    plugins.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("plug_"):
            del sys.modules[name]


def test_entries_are_found_without_importing_anything(install: Install) -> None:
    """Its entries and its source are listed, and its module is not loaded; building loads it."""
    install("plug_a", alpha=ENTRY)
    assert "alpha" in names()
    assert "theirs" in sources()
    entry = resolve("alpha")
    assert "plug_a" not in sys.modules
    assert blueprint(entry).dim == 3
    assert "plug_a" in sys.modules


def test_a_package_that_cannot_be_imported_harms_no_other(install: Install) -> None:
    """Its entries stay listed; building one names the package and the cause, and the project's own still build."""
    install("plug_b", "raise ZeroDivisionError('at import')", alpha=ENTRY)
    assert "alpha" in names()
    with pytest.raises(UnavailableError, match=r"plug_b 1\.0 .* importing failed with ZeroDivisionError: at"):
        load(resolve("alpha"), DigestMemo(None))
    assert blueprint(resolve("pixels")).dim == 768


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("", "has no `build"),
        ("def build(entry, card): raise KeyError('x')", "building failed with KeyError: 'x'"),
        ("def build(entry, card): return 3", "build gave int"),
    ],
)
def test_an_adapter_that_does_not_work_names_its_package(code: str, words: str, install: Install) -> None:
    """Whatever its code does, the message says whose it is and what to do."""
    install("plug_c", code, alpha=ENTRY)
    with pytest.raises(UnavailableError, match=rf"plug_c 1\.0 .*{words}.*uninstall that package"):
        load(resolve("alpha"), DigestMemo(None))


def test_its_own_messages_are_kept(install: Install) -> None:
    """An error for users comes through as it is."""
    code = "from evals.errors import WeightsError\ndef build(entry, card): raise WeightsError('too old')"
    install("plug_d", code, alpha=ENTRY)
    with pytest.raises(WeightsError, match=r"^too old$"):
        load(resolve("alpha"), DigestMemo(None))


def test_a_broken_entry_names_its_package(install: Install) -> None:
    """A key amiss in somebody else's file is told with the file and whose it is."""
    install("plug_e", alpha={**ENTRY, "patch": "big"}, beta=ENTRY)
    with pytest.raises(UsageError, match=r"patch .*'big'.*alpha\.yaml, of plug_e 1\.0"):
        resolve("alpha")
    assert resolve("beta").patch == 16


def test_a_name_that_two_claim(install: Install, tmp_path: Path) -> None:
    """Both are named, other names are not touched, and a folder of one's own settles it."""
    install("plug_f", alpha=ENTRY, pixels=ENTRY)
    install("plug_g", source="others", alpha={**ENTRY, "source": "others"})
    with pytest.raises(UsageError, match=r"'alpha' is claimed by .*plug_[fg] 1\.0 .* and by .*plug_[fg] 1\.0"):
        resolve("alpha")
    with pytest.raises(UsageError, match=r"'pixels' is claimed by this project .* and by plug_f 1\.0"):
        resolve("pixels")
    assert resolve("eupe-vit-t").source == "eupe"
    (tmp_path / "alpha.yaml").write_text(yaml.safe_dump({**ENTRY, "size": 64}))
    assert resolve("alpha", extra=tmp_path).size == 64


@pytest.mark.parametrize("source", ["timm", "hub", "file"])
def test_a_source_that_the_project_has(source: str, install: Install) -> None:
    """A package cannot take a source's name, nor that of a route."""
    install("plug_h", source=source)
    with pytest.raises(UsageError, match=rf"'{source}' is announced by this project and by plug_h 1\.0"):
        adapter(source)


def test_a_source_that_two_packages_have(install: Install) -> None:
    """Both are named where it is needed."""
    install("plug_i", alpha=ENTRY)
    install("plug_j")
    with pytest.raises(UsageError, match=r"announced by plug_i 1\.0 \(plug_i\) and by plug_j 1\.0 \(plug_j\)"):
        load(resolve("alpha"), DigestMemo(None))


def test_a_package_that_is_gone(install: Install) -> None:
    """An announcement without its code lists nothing and is told by name when it is used."""
    shutil.rmtree(install("plug_k") / "plug_k")
    assert "theirs" in sources()
    with pytest.raises(UnavailableError, match=r"plug_k 1\.0 .*importing failed with ModuleNotFoundError"):
        resolve("theirs:x")


def test_models_by_name(install: Install) -> None:
    """With `derive` its models need no entry, and what the query gives is handed on; without, an entry is asked for."""
    code = CODE + (
        "\ndef derive(name, model, given):\n    return EncoderEntry(name, 'theirs', model, 'none', 'MIT', "
        "given['size'], 8, weights='none')"
    )
    install("plug_l", code)
    entry = resolve("theirs:big?size=40")
    assert (entry.name, entry.model, entry.size, entry.patch) == ("theirs:big?size=40", "big", 40, 8)
    with pytest.raises(UnavailableError, match=r"plug_l 1\.0 .*deriving an entry failed with KeyError: 'size'"):
        resolve("theirs:big")
    install("plug_m", source="mute")
    with pytest.raises(UsageError, match=r"models of 'mute' \(plug_m 1\.0\) need an entry"):
        resolve("mute:big")


def test_another_version_is_another_encoder(install: Install) -> None:
    """What code without weights computes follows its version, so the identity does."""
    first = install("plug_n", alpha=ENTRY)
    before = identity(resolve("alpha"), DigestMemo(None))
    assert before == card(resolve("alpha"), DigestMemo(None)).weights_sha256
    (first / "plug_n-1.0.dist-info").rename(first / "plug_n-1.1.dist-info")
    metadata = first / "plug_n-1.1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    plugins.cache_clear()
    assert identity(resolve("alpha"), DigestMemo(None)) != before


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, built and installed without a network into a folder of its own."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source")
    words = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", *words, "--target", str(folder / "site"), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def python(site: Path, *words: str) -> str:
    """Output of an interpreter that has the example installed."""
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=site, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_is_listed_once_installed(site: Path) -> None:
    """`list encoders` shows it beside the project's own."""
    rows = {row["encoder"]: row for row in json.loads(python(site, "-m", "evals", "list", "encoders", "--json"))}
    assert rows["patch-histograms"]["family"] == "patch_histograms"
    assert rows["patch-histograms"]["dim"] == "32"
    assert "eupe-vit-b" in rows


def test_the_example_tells_what_it_is(site: Path) -> None:
    """`info` prints the entry and what the built encoder has."""
    shown = python(site, "-m", "evals", "info", "patch-histograms")
    assert yaml.safe_load(shown)["source"] == "patch_histograms"
    assert "#   norm: none_exists" in shown.splitlines()


def test_the_example_encodes(site: Path) -> None:
    """A red left half and a white right half: shares of levels and no edges inside, the edge where they meet."""
    code = (
        "import json, torch\n"
        "from evals.encoders.load import load\nfrom evals.encoders.registry import resolve\n"
        "from evals.files import DigestMemo\n"
        "image = torch.ones(1, 3, 16, 64)\nimage[:, 1:, :, :24] = 0\n"
        "found = load(resolve('patch-histograms'), DigestMemo(None))(image)\n"
        "print(json.dumps([found.patches_BHWD.tolist(), found.pooled_BD.tolist()]))\n"
    )
    patches, pooled = (torch.tensor(values) for values in json.loads(python(site, "-c", code)))
    assert patches.shape == (1, 1, 4, 32)
    # Level k of red, green, blue is number 3 k + channel; a share of 0 of green and blue lies in the lowest level.
    red, meeting, white = patches[0, 0, 0], patches[0, 0, 1], patches[0, 0, 2]
    assert [red[0], red[1], red[2], red[21], red[22], red[23]] == [0, 1, 1, 1, 0, 0]
    assert [white[0], white[1], white[2], white[21], white[22], white[23]] == [0, 0, 0, 1, 1, 1]
    assert [meeting[1], meeting[22]] == [0.5, 0.5]
    # Grey goes from 1/3 to 1: half of the step of 2/3 at the two columns beside it, of 16; along a row, direction 0.
    assert torch.allclose(meeting[24:], torch.tensor([2 * (1 / 3) / 16] + [0.0] * 7))
    assert red[24:].sum() == white[24:].sum() == 0
    assert torch.allclose(pooled[0], patches[0, 0].mean(0))
