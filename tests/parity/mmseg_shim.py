"""mmsegmentation without the compiled operators of mmcv.

`mmcv-lite` ships no binary, and mmsegmentation imports `mmcv.ops` whole although the parts used here call none of it.
A stand-in for `mmcv._ext` is present only while the packages are imported: left there, it would break mmengine's own
search for modules.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

NAME = "mmcv._ext"


class _Operators(ModuleType):
    """Has every operator by name, and none that runs."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: object, **kwargs: object) -> NoReturn:
            raise NotImplementedError(f"mmcv-lite has no compiled operator {name}")

        return missing


@contextmanager
def _stand_in() -> Iterator[None]:
    sys.modules[NAME] = _Operators(NAME)
    try:
        yield
    finally:
        del sys.modules[NAME]


def models() -> tuple[Any, Any]:
    """(EncoderDecoder, the registry MODELS) of mmsegmentation."""
    with warnings.catch_warnings(), _stand_in():
        warnings.simplefilter("ignore")
        from mmseg.models import EncoderDecoder
        from mmseg.registry import MODELS
    return EncoderDecoder, MODELS


def iou_metric() -> Any:
    """The class IoUMetric of mmsegmentation."""
    with warnings.catch_warnings(), _stand_in():
        warnings.simplefilter("ignore")
        from mmseg.evaluation import IoUMetric
    return IoUMetric
