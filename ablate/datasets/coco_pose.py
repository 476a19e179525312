"""People, or other things with keypoints, in any folder with COCO's layout: COCO 2017, coco_mini or the user's own.

The file itself is read by `_coco_people.py`; who of it becomes a sample is in `_people.py`.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from ablate.datasets import FROM_FILE, Info, JointForm, Joints, Split, catalog, check_version, joint_sets, set_folder
from ablate.datasets._coco_file import annotation_file
from ablate.datasets._coco_people import read_joints, read_people
from ablate.datasets._people import People
from ablate.datasets._skeleton import assumed, own_joints
from ablate.errors import DataError, PartError, nearest
from ablate.registry import dataset

OWN = ("flip_pairs", "sigmas", "upper_body", "norm")  # knobs of joints that are named one by one


@dataset(
    "coco_pose",
    meaning=1,
    tasks=("pose", "bottom_up_pose"),
    training=("version", "group_field"),
    later=("group_field", "annotations", "category", "flip_pairs", "sigmas", "upper_body", "norm"),
)
@dataclass(frozen=True)
class CocoPose:
    """People or other things with keypoints from a folder in COCO's layout.

    Raises:
        DataError: the catalog knows the set, and it has no annotations in this joint set.
        PartError: a version that is none; facts of joints that do not fit them.
    """

    set: str = "coco2017"  # the name of the set's folder; `ablate data` lists those we know
    joints: str | tuple[str, ...] = "coco17"  # a joint set (lsp14, mpii16, wflw98 ...), own names, or file: those there
    version: str | None = None  # digests "train-val" that the content must have; none: those of the catalog
    group_field: str | None = None  # of an image's entry: the video, person or patient that it is of
    annotations: str | None = None  # their file, such as lists/{split}.json; none: annotations/*{split}*.json
    category: str | int | tuple[str | int, ...] | None = None  # by name, number or both; all of one skeleton: all
    flip_pairs: tuple[tuple[str, str], ...] | None = None  # own joints that mirroring swaps; none: left and right ones
    sigmas: tuple[float, ...] | None = None  # of own joints, for AP; none: 0.067, the mean of COCO's, for all
    upper_body: tuple[str, ...] | None = None  # own joints that half-body crops keep together; none: no such crops
    norm: tuple[str, str] | None = None  # own joints whose distance is NME's and PCKh's unit; none: no such scores

    def __post_init__(self) -> None:
        known = catalog().get(self.set)
        if isinstance(self.joints, str):
            if self.joints not in (known_sets := [*joint_sets(), FROM_FILE]):
                raise PartError(f"joints: no joint set {self.joints!r}; {nearest(self.joints, known_sets)}")
            for knob in OWN:
                if getattr(self, knob) is not None and self.joints != FROM_FILE:
                    raise PartError(f"{knob}: {self.joints} has its own; it goes with joints named one by one")
            if known and not self._asks_own and self.joints not in known.forms:
                fitting = nearest(self.joints, known.forms)
                raise DataError(f"dataset.joints: {self.set} has no {self.joints} annotations; {fitting}")
        else:
            _ = self._joints  # refuses what does not fit
        if self.annotations is not None and "{split}" not in self.annotations:
            raise PartError(f"annotations: wanted a file's name with {{split}} in it, not {self.annotations!r}")
        check_version(self.version)

    @property
    def _asks_own(self) -> bool:
        """Whether it asks for other annotations than those that the catalog may know."""
        return self.joints == FROM_FILE or not isinstance(self.joints, str) or bool(self.annotations or self.category)

    @property
    def _form(self) -> JointForm | None:
        known = catalog().get(self.set)
        return known.forms[str(self.joints)] if known and not self._asks_own else None

    @cached_property
    def _joints(self) -> Joints:
        if self.joints == FROM_FILE:
            raise PartError(
                "joints: file: the names are read when a study is opened with its data (--data, ABLATE_DATA)"
            )
        if isinstance(self.joints, str):
            return joint_sets()[self.joints].joints
        return own_joints(self.joints, self.flip_pairs, self.sigmas, self.upper_body, self.norm)

    @cached_property
    def info(self) -> Info:
        known, form = catalog().get(self.set), self._form
        return Info(
            name=self.set,
            version=self.version or (form.version if form else None),
            joints=self._joints,
            licence=known.licence if known else "not known",
            source=known.source if known else "not known",
            sizes=form.sizes if form else None,
            images=(form.images or None) if form else None,
        )

    @property
    def assumed(self) -> str:
        """In a sentence, what no file and no study says of the joints; see `Assumes`."""
        if isinstance(self.joints, str):
            return ""
        return assumed(self._joints, flip_pairs=self.flip_pairs, sigmas=self.sigmas, upper_body=self.upper_body)

    @property
    def patterns(self) -> tuple[str, ...]:
        """Of the annotation file under the set's folder; the first that a file has."""
        if self.annotations or self._form:
            return (self.annotations or (self._form and self._form.annotations) or "",)
        return ("annotations/person_keypoints_{split}*.json", "annotations/*{split}*.json")

    def joints_of_file(self, root: Path | None) -> tuple[str, ...]:
        """The names of the joints in the annotations that are trained on. Raises DataError."""
        return read_joints(self._found("train", root)[1], category=self.category)

    def open(self, split: Split, root: Path | None) -> People:
        """Read a split's annotations.

        Raises:
            DataError: no such folder, or annotations that are missing or damaged (named and counted).
        """
        folder, file = self._found(split, root)
        read = partial(read_people, file, self._joints, category=self.category, group_field=self.group_field)
        return People.of(self.info, split, folder, (file,), read, vouched=self.version is None)

    def _found(self, split: Split, root: Path | None) -> tuple[Path, Path]:
        """The set's folder and a split's annotation file in it. Raises DataError."""
        holds = self.annotations.partition("/")[0] if self.annotations and "/" in self.annotations else "annotations"
        folder = set_folder(self.set, root, holds=holds)
        return folder, annotation_file(folder, [pattern.replace("{split}", split) for pattern in self.patterns])
