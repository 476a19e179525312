"""COCO's average precision and recall of boxes."""

from ablate.metrics._instance_ap import InstanceAP
from ablate.registry import metric


@metric(
    "box_ap",
    meaning=1,
    scores=("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL"),
    unless="no box of that size is on these images",
    columns={
        "instances": ("int", "instances", "annotated instances that count: no crowds"),
        "matched": ("int", "instances", "of these, found with an overlap of at least .5"),
        "false_detections": ("int", "detections", "detections that match nothing at .5"),
    },
)
def box_ap() -> InstanceAP:
    """Average precision and recall over overlaps of boxes of .50 to .95, over classes; by area: S, M, L."""
    return InstanceAP("bbox")
