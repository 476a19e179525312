"""What a data set says before any of its files is seen: `Info`, with `Joints` and `Classes` where it has them.

Both are tuples of names that know more of what they name. Parts that were written when `Info` had a field for each
fact read and give them as before: the facts have their old names in `Info` too, and its constructor takes them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from ablate.datasets._files import SPLITS, Split
from ablate.errors import PartError


def _swapped(count: int, pairs: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """The places 0 to count - 1 in order, those of each pair exchanged."""
    order = list(range(count))
    for first, second in pairs:
        order[first], order[second] = second, first
    return tuple(order)


class Joints(tuple[str, ...]):
    """The names of K joints, in the order of a sample's joints, and what a task must know of them."""

    flip_pairs: tuple[tuple[int, int], ...]  # places of joints that a mirrored picture swaps
    sigmas: tuple[float, ...]  # K falloffs of the object keypoint similarity, pycocotools' kpt_oks_sigmas
    upper_body: tuple[int, ...] | None  # places of joints that a half-body crop keeps together; None: no such crops
    norm: tuple[int, int] | None  # places of two joints in whose distance errors are measured (NME, PCKh)
    unscored: tuple[int, ...]  # places of joints that are trained on and that no score counts

    def __new__(
        cls,
        names: Iterable[str],
        *,
        flip_pairs: tuple[tuple[int, int], ...] = (),
        sigmas: tuple[float, ...] = (),
        upper_body: tuple[int, ...] | None = (),
        norm: tuple[int, int] | None = None,
        unscored: tuple[int, ...] = (),
    ) -> Self:
        made = super().__new__(cls, names)
        made.flip_pairs, made.sigmas, made.upper_body = flip_pairs, sigmas, upper_body
        made.norm, made.unscored = norm, unscored
        return made

    @property
    def mirror(self) -> tuple[int, ...]:
        """For each of the K joints the place of its counterpart on the other side; its own on the midline."""
        return _swapped(len(self), self.flip_pairs)


class Classes(tuple[str, ...]):
    """The names of C classes, each known by its place, and what a task must know of them."""

    categories: tuple[str, ...]  # C names: what each class is a kind of
    label_ids: tuple[int, ...]  # C numbers that stand for the classes in files of labels and of predictions
    class_weights: tuple[float, ...]  # C weights in the loss, as published; empty: all 1
    flip_pairs: tuple[
        tuple[int, int], ...
    ]  # places of classes that a mirrored picture swaps, such as left and right arm

    def __new__(
        cls,
        names: Iterable[str],
        *,
        categories: tuple[str, ...] = (),
        label_ids: tuple[int, ...] = (),
        class_weights: tuple[float, ...] = (),
        flip_pairs: tuple[tuple[int, int], ...] = (),
    ) -> Self:
        made = super().__new__(cls, names)
        made.categories, made.label_ids, made.class_weights = categories, label_ids, class_weights
        made.flip_pairs = flip_pairs
        return made

    @property
    def mirror(self) -> tuple[int, ...]:
        """For each of the C classes the place of the one that a mirrored picture shows instead; mostly its own."""
        return _swapped(len(self), self.flip_pairs)


@dataclass(frozen=True, init=False)
class Info:
    """What is known of a data set before any of its files is seen."""

    name: str  # of the set, as a report shows it
    version: str | None  # declared content digests, "train-val"; None where nobody has declared them
    licence: str
    source: str
    sizes: dict[Split, int] | None  # declared numbers of samples
    images: dict[Split, int] | None  # declared numbers of images
    size: tuple[int, int] | None  # height and width of every image, where they are alike
    joints: Joints | None  # of its people; None where none are labelled
    classes: Classes | None  # of its maps of classes; None where it has no such maps
    things: Classes | None  # of its instances with boxes; None where none are annotated
    image_classes: Classes | None  # of its images, of which each has one; None where none are labelled so
    classified: dict[Split, int] | None  # declared numbers of images that have one of them
    pictures: bool  # whether its licence lets a report show its images
    block: int | None  # so many images that follow each other are alike, such as frames of a video
    spacing: tuple[float, float] | None  # millimetres between rows and between columns of pixels

    def __init__(
        self,
        name: str,
        version: str | None,
        licence: str,
        source: str,
        sizes: dict[Split, int] | None = None,
        images: dict[Split, int] | None = None,
        size: tuple[int, int] | None = None,
        joints: Iterable[str] | None = None,
        flip_pairs: tuple[tuple[int, int], ...] = (),
        sigmas: tuple[float, ...] = (),
        upper_body: tuple[int, ...] = (),
        classes: Iterable[str] | None = None,
        categories: tuple[str, ...] = (),
        label_ids: tuple[int, ...] = (),
        class_weights: tuple[float, ...] = (),
        things: Classes | None = None,
        *,
        image_classes: Classes | None = None,
        classified: dict[Split, int] | None = None,
        pictures: bool = False,
        block: int | None = None,
        spacing: tuple[float, float] | None = None,
    ) -> None:
        """`joints` and `classes` are the values above, or names alone; facts that follow them count before theirs."""
        body = joints if isinstance(joints, Joints) else Joints(joints or ())
        body = Joints(
            body,
            flip_pairs=flip_pairs or body.flip_pairs,
            sigmas=sigmas or body.sigmas,
            upper_body=upper_body or body.upper_body,
            norm=body.norm,
            unscored=body.unscored,
        )
        labels = classes if isinstance(classes, Classes) else Classes(classes or ())
        labels = Classes(
            labels,
            categories=categories or labels.categories,
            label_ids=label_ids or labels.label_ids,
            class_weights=class_weights or labels.class_weights,
            flip_pairs=labels.flip_pairs,
        )
        vars(self).update(
            name=name, version=version, licence=licence, source=source, sizes=sizes, images=images, size=size,
            joints=body or None, classes=labels or None, things=things, image_classes=image_classes,
            classified=classified, pictures=pictures, block=block, spacing=spacing,
        )  # fmt: skip

    def declared(self, split: Split) -> str | None:
        """The declared content digest of one split."""
        digests = dict(zip(SPLITS, self.version.split("-"), strict=True)) if self.version else {}
        return digests.get(split)

    def need_joints(self) -> Joints:
        """The joints, of a data set that says it serves a task about them.

        Raises:
            PartError: it has none.
        """
        if self.joints is None:
            raise PartError(f"dataset: {self.name} names no joints, which the task needs")
        return self.joints

    def need_classes(self) -> Classes:
        """The classes, of a data set that says it serves a task about them.

        Raises:
            PartError: it has none.
        """
        if self.classes is None:
            raise PartError(f"dataset: {self.name} names no classes, which the task needs")
        return self.classes

    def need_things(self) -> Classes:
        """The classes of instances, of a data set that says it serves a task about them.

        Raises:
            PartError: it has none.
        """
        if self.things is None:
            raise PartError(f"dataset: {self.name} names no classes of instances, which the task needs")
        return self.things

    def need_image_classes(self) -> Classes:
        """The classes of images, of a data set that says it serves a task about them.

        Raises:
            PartError: it has none.
        """
        if self.image_classes is None:
            raise PartError(f"dataset: {self.name} names no classes of images, which the task needs")
        return self.image_classes

    # The facts under their old names, for parts that read them so; empty where there is nothing to say.

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        return self.joints.flip_pairs if self.joints else ()

    @property
    def sigmas(self) -> tuple[float, ...]:
        return self.joints.sigmas if self.joints else ()

    @property
    def upper_body(self) -> tuple[int, ...]:
        return (self.joints and self.joints.upper_body) or ()

    @property
    def mirror(self) -> tuple[int, ...]:
        return self.joints.mirror if self.joints else ()

    @property
    def categories(self) -> tuple[str, ...]:
        return self.classes.categories if self.classes else ()

    @property
    def label_ids(self) -> tuple[int, ...]:
        return self.classes.label_ids if self.classes else ()

    @property
    def class_weights(self) -> tuple[float, ...]:
        return self.classes.class_weights if self.classes else ()
