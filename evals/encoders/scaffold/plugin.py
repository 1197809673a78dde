"""The files of a package that brings an encoder of its own. Imports no torch."""

from collections.abc import Mapping

from evals.encoders.plugins import GROUP

_PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
description = "An encoder for eupe-eval"
requires-python = ">=3.11"
dependencies = ["eupe-eval"]

# The name is the source in entries; the value is the module that has `build`.
[project.entry-points."{group}"]
{module} = "{module}"

[tool.setuptools]
packages = ["{module}"]

[tool.setuptools.package-data]
{module} = ["encoder/*.yaml"]
"""
_MODULE = '''\
"""An encoder for eupe-eval: it averages the colours of each patch. Put your model in its place."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evals.encoders.entry import EncoderEntry
from evals.encoders.weights import complete, image_spec
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features


class {kind}(Encoder):
    """Patches: the mean colour of each. No global feature, no layers."""

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass over normalised images whose sides are multiples of the patch."""
        means_B3HW = functional.avg_pool2d(images_B3YX, self.spec.patch)
        return Features(None, means_B3HW.permute(0, 2, 3, 1).contiguous())


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry, on the CPU, in fp32."""
    encoder = {kind}(card, image_spec(entry), dim=3, depth=0)
    encoder.card = complete(entry, encoder.card, encoder, dim=3, depth=0)
    return encoder
'''
_ENTRY = """\
source: {module}
model: mean-colour
global_feature: none
licence: Apache-2.0
size: 224
patch: 16
normalise: imagenet
weights: none
"""
_README = """\
# {name}

An encoder for `eupe-eval`:

```bash
pip install .
eupe-eval info {name}
eupe-eval run -e {name} --data miniature
```

* `{module}/__init__.py` has `build(entry, card)`, which gives an `evals.types.Encoder`. With a
  `derive(name, model, given)` beside it, names such as `{module}:MODEL` need no entry.
* `{module}/encoder/*.yaml` are the entries, one an encoder; `eupe-eval new-encoder NAME` explains every key.
* Weights: `evals.encoders.locate.weights_file(entry)` is the local file, be it from the hub or from `--weights`;
  `evals.encoders.weights.read_tensors` and `load_strict` read it without running code and refuse what does not fit.
"""


def skeleton(name: str) -> Mapping[str, str]:
    """Path -> text of a package that can be installed and run as it is; the name's `-` and `.` become `_` in code."""
    module = name.replace("-", "_").replace(".", "_")
    words = {
        "name": name,
        "module": module,
        "group": GROUP,
        "kind": "".join(part.capitalize() for part in module.split("_")),
    }
    files = {
        "pyproject.toml": _PROJECT,
        "README.md": _README,
        f"{module}/__init__.py": _MODULE,
        f"{module}/encoder/{name}.yaml": _ENTRY,
    }
    return {path: text.format(**words) for path, text in files.items()}
