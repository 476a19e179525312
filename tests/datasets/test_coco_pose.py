"""Who becomes a sample as in the official loader, and what is said of folders that are missing, odd or damaged."""

import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from ablate import registry
from ablate.datasets import SPLITS, catalog, joint_sets
from ablate.errors import AblateError, DataError
from tests_datasets import document, person
