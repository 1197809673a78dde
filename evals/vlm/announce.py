"""What lmms-eval learns from the entry point of this project; nothing heavy is imported here."""

from typing import Any


def manifest() -> Any:
    """The model `eupe_llava` (see `evals.vlm.lmms`)."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="eupe_llava", simple_class_path="evals.vlm.lmms.EupeLlava")
