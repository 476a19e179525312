"""A person in a picture, for tests whose numbers are worked out."""

import cv2
import numpy as np

from ablate.datasets import Info, joint_sets

COCO = joint_sets()["coco17"]
INFO = Info(
    "made", None, "none", "made",
    joints=COCO.names, flip_pairs=COCO.flip_pairs, sigmas=COCO.sigmas, upper_body=COCO.upper_body,
)  # fmt: skip


def sample(*, box=(10, 20, 30, 40), width=100, height=120, seed=0, labelled=17):
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.uniform(0, 255, (height, width, 3)), (0, 0), 3)
    joints = np.column_stack([rng.uniform((15, 25), (35, 55), (17, 2)), np.full(17, 2)])
    joints[labelled:] = 0
    return {
        "image": cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8),
        "box": np.array(box, float),
        "joints": joints,
        "image_id": 1,
        "annotation_id": 2,
        "area": 600.0,
        "score": 0.5,
    }
