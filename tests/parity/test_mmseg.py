"""Our segmentation scores and sliding window against mmsegmentation's own."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evals.metrics.segmentation import pixel_counts, scores
from evals.probes.heads import SegmentationHead
from evals.probes.windows import SlidingWindow, stitch
from tests.parity.mmseg_shim import iou_metric, models

pytest.importorskip("mmseg", reason="needs the extra mmseg")
mmengine = pytest.importorskip("mmengine")

NAMES = {
    "mIoU": "mIoU", "acc": "mAcc", "aAcc": "aAcc", "dice": "mDice", "fscore": "mFscore", "precision": "mPrecision",
    "recall": "mRecall",
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_equal_mmseg(seed: int) -> None:
    """Seven scores of three images; some classes are never predicted, one appears nowhere, a tenth is ignored."""
    rng = np.random.default_rng(seed)
    pairs = []
    for rows, columns in ((40, 60), (33, 47), (64, 20)):
        label = rng.integers(0, 14, (rows, columns)).astype(np.uint8)
        prediction = np.where(rng.random(label.shape) < 0.4, label, rng.integers(0, 9, label.shape))
        label[rng.random(label.shape) < 0.1] = 255
        pairs.append((prediction, label))
    ours = scores(*np.sum([pixel_counts(prediction, label, 15) for prediction, label in pairs], axis=0))
    metric = iou_metric()(ignore_index=255, iou_metrics=["mIoU", "mDice", "mFscore"])
    metric.dataset_meta = {"classes": [str(i) for i in range(15)]}
    samples = [
        {
            "pred_sem_seg": {"data": torch.tensor(prediction)[None]},
            "gt_sem_seg": {"data": torch.tensor(label.astype(np.int64))[None]},
        }
        for prediction, label in pairs
    ]
    metric.process({}, samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = metric.compute_metrics(metric.results)
    assert {name: round(ours[name], 2) for name in NAMES} == pytest.approx(
        {name: float(theirs[key]) for name, key in NAMES.items()}, abs=0.0101
    )
    areas = [metric.intersect_and_union(torch.tensor(p), torch.tensor(q.astype(np.int64)), 15, 255) for p, q in pairs]
    intersection, union = (sum(area[i] for area in areas).double() for i in (0, 1))
    assert ours["mIoU"] == pytest.approx(100 * (intersection / union).nanmean().item(), rel=1e-12)


class PatchMeans(nn.Module):
    """A backbone: mean colours of 16-pixel patches."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """One level."""
        return [functional.avg_pool2d(images, 16)]


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (64, 91), (100, 64), (64, 150)])
def test_sliding_window_equals_mmseg(rows: int, columns: int) -> None:
    """Mean logits of every pixel on shared weights: one to several windows along each axis."""
    encoder_decoder, registry = models()
    if "PatchMeans" not in registry:
        registry.register_module(name="PatchMeans", module=PatchMeans)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = encoder_decoder(
            backbone={"type": "PatchMeans"},
            decode_head={
                "type": "FCNHead", "num_convs": 0, "concat_input": False, "kernel_size": 1, "in_channels": 3,
                "channels": 3, "num_classes": 7, "dropout_ratio": 0.0, "norm_cfg": None, "align_corners": False,
            },
            test_cfg=mmengine.ConfigDict(mode="slide", crop_size=(64, 64), stride=(43, 43)),
        ).eval()  # fmt: skip
    head = SegmentationHead(3, 7, batch_norm=False, generator=torch.Generator().manual_seed(1)).eval()
    with torch.no_grad():
        model.decode_head.conv_seg.weight.copy_(head.classify.weight)
        model.decode_head.conv_seg.bias.copy_(head.classify.bias)
        image = torch.rand(1, 3, rows, columns, generator=torch.Generator().manual_seed(2))
        theirs = model.slide_inference(image, [{"img_shape": (rows, columns)}])[0]
        boxes = SlidingWindow(64, 43).boxes(rows, columns)
        windows = torch.cat([image[:, :, y, x] for y, x in boxes])
        ours = stitch(head(functional.avg_pool2d(windows, 16)), boxes, rows, columns)
    assert (ours - theirs).abs().max() <= 1e-6
    assert torch.equal(ours.argmax(0), theirs.argmax(0))
