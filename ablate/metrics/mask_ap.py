"""COCO's average precision and recall of masks."""

from ablate.metrics._instance_ap import InstanceAP
from ablate.registry import metric


@metric(
    "mask_ap",
    meaning=1,
    scores=(
        "mask_AP",
        "mask_AP50",
        "mask_AP75",
        "mask_APS",
        "mask_APM",
        "mask_APL",
        "mask_AR1",
        "mask_AR10",
        "mask_AR100",
        "mask_ARS",
        "mask_ARM",
        "mask_ARL",
    ),
    unless="no masks were predicted, or no mask of that size is on these images",
    columns={
        "mask_instances": ("int", "instances", "annotated instances with masks that count: no crowds"),
        "mask_matched": ("int", "instances", "of these, found with an overlap of at least .5"),
        "mask_false_detections": ("int", "detections", "detections whose mask matches nothing at .5"),
    },
)
def mask_ap() -> InstanceAP:
    """The same of masks, for detectors that predict them; no number for others."""
    return InstanceAP("segm")
