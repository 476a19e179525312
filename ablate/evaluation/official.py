"""The field's own evaluation of the same files, beside ours: pycocotools for people and instances, cityscapesscripts
for maps.

Both read the set's files and the predictions' by themselves; of ours only the files are theirs.
"""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablate.datasets import Samples
from ablate.datasets._label_maps import LabelledFiles
from ablate.datasets._people import People
from ablate.datasets.coco_instances import AnnotatedImages
from ablate.errors import DataError
from ablate.metrics._instance_ap import STATS as OF_INSTANCES

CLOSE = 1e-6  # absolute: sums in another order
STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR")  # the first of COCOeval.stats for keypoints


@dataclass(frozen=True)
class Checked:
    """One score, ours and theirs, between 0 and 1."""

    score: str
    ours: float
    theirs: float

    @property
    def equal(self) -> bool:
        """Up to rounding; both undefined is equal, too."""
        return bool(np.isclose(self.ours, self.theirs, rtol=0, atol=CLOSE, equal_nan=True))


def official(samples: Samples, folder: Path, ours: dict[str, float]) -> tuple[str, list[Checked]]:
    """Whose evaluation it is, and every score that both have, of predictions that `write_predictions` wrote there.

    Raises:
        DataError: the field has no evaluation of its own for such a set.
    """
    if isinstance(samples, People) and len(samples.person_categories) == 1:
        name, theirs = "pycocotools", _by_pycocotools(samples, next(folder.glob("*.json")))
    elif isinstance(samples, LabelledFiles) and all(pair.labels.name.endswith(LABELS) for pair in samples.pairs):
        name, theirs = "cityscapesscripts", _by_cityscapesscripts(samples, folder)
    elif isinstance(samples, AnnotatedImages):
        name, theirs = "pycocotools", _of_instances(samples, next(folder.glob("*.json")))
    else:
        raise DataError(f"--check official: no official evaluation is known of the set {samples.info.name}")
    return name, [Checked(score, ours[score], value) for score, value in theirs.items() if score in ours]


LABELS = "_gtFine_labelIds.png"


def _by_pycocotools(samples: People, results: Path) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(samples.annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        evaluation.params.catIds = list(samples.person_categories)
        evaluation.params.kpt_oks_sigmas = np.array(samples.info.need_joints().sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    found = {name: float(value) for name, value in zip(STATS, evaluation.stats, strict=False)}
    return {name: value if value > -1 else np.nan for name, value in found.items()}


def _of_instances(samples: AnnotatedImages, results: Path) -> dict[str, float]:
    """Of boxes, and of masks where both sides have some."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found, scores = json.loads(results.read_bytes()), dict[str, float]()
    if not found:
        raise DataError("--check official: nothing was found that could be scored")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(samples.file))
        shapes = {"bbox": "bbox"}
        if any("segmentation" in one for one in found) and any(a.get("segmentation") for a in truth.anns.values()):
            shapes["segm"] = "segmentation"
        for kind, shape in shapes.items():
            own = [{key: one[key] for key in ("image_id", "category_id", "score", shape)} for one in found]
            evaluation = COCOeval(truth, truth.loadRes(own), kind)
            evaluation.params.catIds = list(samples.category_numbers)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            prefix = "" if kind == "bbox" else "mask_"
            scores |= {f"{prefix}{name}": float(v) for name, v in zip(OF_INSTANCES, evaluation.stats, strict=True)}
    return {name: value if value > -1 else np.nan for name, value in scores.items()}


def _by_cityscapesscripts(samples: LabelledFiles, folder: Path) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as tool
        from cityscapesscripts.helpers.labels import id2label

        tool.args.evalInstLevelScore = False  # which needs maps of instances
        tool.args.evalPixelAccuracy = False  # which calls what numpy no longer has
        tool.args.JSONOutput, tool.args.quiet = False, True
        predictions = [str(folder / f"{pair.name}.png") for pair in samples.pairs]
        found = tool.evaluateImgLists(predictions, [str(pair.labels) for pair in samples.pairs], tool.args)
    classes = samples.info.need_classes()
    scores = {"mIoU": found["averageScoreClasses"], "category_IoU": found["averageScoreCategories"]}
    named = {name: id2label[number].name for name, number in zip(classes, classes.label_ids, strict=True)}
    scores |= {f"IoU/{name}": found["classScores"][theirs] for name, theirs in named.items()}
    return {name: float(value) for name, value in scores.items()}
