"""A folder of somebody's images: what lies in it, what is wrong with it, and a study file that suits it."""

import json
import math
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from attnbench.data.decode import Broken, from_file
from attnbench.data.folders import Folder, parts_of
from attnbench.data.imagefolder import learnable
from attnbench.data.splits import TEST_SHARE
from attnbench.errors import DataProblem

STEPS, BATCH = 1_000, 32
FEWEST_EPOCHS, MOST_EPOCHS = 5, 40
MARGINS = (1.0, 2.0, 5.0)
"""In points: the smallest that two test images do not make is proposed."""
STUDY = """\
# Does attention help on these images? {classes} classes, {used:,} images to train, {test:,} to test.{spent}
# Start: attnbench study FILE --until-decided --jobs 2     Then: attnbench report FILE
name: {name}
recipe: fast # SGD, one cycle, label smoothing; the others are classic and standard
base:
  dataset: '{dataset}'
  backbone: {backbone} # small; a network of a library: 'torchvision(name="resnet18", pretrained=True)'
  image_size: {size} # pixels; yours have {smallest:,} to {largest:,}. Twice as many take four times as long
  epochs: {epochs} # about {steps:,} steps{fewer}
  precision: bf16 # on a GPU (fp16 where it has no bf16); a CPU computes in fp32
  augment: crop+flip # without flip where left and right differ, as in writing
grid:
  attention: [none, se, eca, cbam] # attnbench list attention: all there are; "package.module:Class" is yours
looks: [6, 8, 12] # at so many seeds an arm there are verdicts; together they err in at most 5 %
margin: {margin:g} # points: a smaller difference does not matter to you; one test image is {image:.2g}
"""
NAMED = 5
"""So many files of a kind are named; the others are counted."""


@dataclass(frozen=True)
class Survey:
    """What lies in a folder of images with one folder a class, or with a folder for each split."""

    train: Folder
    test: Folder | None
    """None where a share of each class is set apart for the test."""
    unused: tuple[str, ...]
    """Folders of splits that a study does not look at."""
    sides: tuple[int, ...]
    """The shorter side of every image that can be read, in pixels."""
    broken: Mapping[Path, str]
    """Files that cannot be read, and why."""
    twins: Sequence[tuple[Path, ...]]
    """Files that hold the same image."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Images to train and to test with."""
        whole = sum(map(len, self.train.classes.values()))
        if self.test is not None:
            return whole, sum(map(len, self.test.classes.values()))
        apart = round(TEST_SHARE * whole)
        return whole - apart, apart

    def lines(self) -> Iterator[str]:
        """What there is, and what should be looked at, a line each."""
        train, test = self.sizes
        few, many = (f(map(len, self.train.classes.values())) for f in (min, max))
        apart = "" if self.test else f" ({TEST_SHARE:.0%} of each class, set apart by us)"
        classes = f"{len(self.train.classes)} classes of {few:,} to {many:,} images"
        yield f"{classes}: {train:,} to train, {test:,} to test{apart}"
        yield f"shorter side {min(self.sides):,} to {max(self.sides):,} pixels, median {self.middle:,}"
        if self.unused:
            yield f"not used: {', '.join(self.unused)}"
        for what, found in (
            ("cannot be read; remove them", [f"{file} ({why})" for file, why in self.broken.items()]),
            ("are the same image", [" = ".join(map(str, twins)) for twins in self.twins]),
            ("is one image in two classes; one of them is wrong", [" = ".join(map(str, t)) for t in self._torn]),
        ):
            more = f"; and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
            if found:
                yield f"LOOK AT: {'; '.join(found[:NAMED])}{more}: {what}"

    @property
    def middle(self) -> int:
        """The median of the shorter sides."""
        return int(statistics.median(self.sides))

    @property
    def _torn(self) -> list[tuple[Path, ...]]:
        parts = [each for each in (self.train, self.test) if each]
        classes = {file: name for part in parts for name, files in part.classes.items() for file in files}
        return [twins for twins in self.twins if len({classes[file] for file in twins}) > 1]


def survey(folder: Path) -> Survey:
    """Read every image of a folder.

    Raises:
        DataProblem: there is nothing in it that a network can learn from.
    """
    if not folder.is_dir():
        raise DataProblem(f"{folder} is no folder; give one with a folder of images for each class")
    parts = parts_of(folder)
    parts = parts if "train" in parts else {}
    train = Folder.of(parts.get("train", folder))
    tested = next((name for name in ("test", "val") if name in parts), None)
    test = Folder.of(parts[tested]) if tested else None
    learnable(train.path, train.classes, least=2)
    if test is not None:
        learnable(test.path, test.classes, least=1)
    files = [file for each in (train, test) if each for listed in each.classes.values() for file in listed]
    sides, broken, same = list[int](), dict[Path, str](), defaultdict[bytes, list[Path]](list)
    for file, found in zip(files, _looked_at(files), strict=True):
        if isinstance(found, str):
            broken[file] = found
        else:
            sides.append(found[0])
            same[found[1]].append(file)
    if not sides:
        raise DataProblem(f"{folder}: none of its {len(files):,} images can be read")
    unused = tuple(str(path) for name, path in parts.items() if name not in ("train", tested))
    twins = [tuple(found) for found in same.values() if len(found) > 1]
    return Survey(train, test, unused, tuple(sides), broken, twins)


def study_text(found: Survey, name: str, hours: float | None = None, allowed: float = math.inf) -> str:
    """A study of the images, as the text of a file, with what each line is for.

    Args:
        hours: what it takes without a limit, where that is known.
        allowed: hours that it may take: where that is less, fewer epochs are trained and, below five, fewer images, as
            long as there are two of each class.
    """
    (train, test), size = found.sizes, 64 if found.middle >= 48 else 32
    whole = min(max(round(STEPS * BATCH / train), FEWEST_EPOCHS), MOST_EPOCHS)
    share = min(1.0, allowed / hours) if hours else 1.0
    epochs = max(FEWEST_EPOCHS, int(share * whole))
    wanted, least = share * whole / epochs, 2 / min(map(len, found.train.classes.values()))
    fraction = min(1.0, max(math.floor(1000 * wanted), math.ceil(1000 * least)) / 1000)
    used = max(1, round(fraction * train))
    named = [f"path={_quoted(found.train.path)}"] + ([f"test={_quoted(found.test.path)}"] if found.test else [])
    takes = hours and hours * used * epochs / (train * whole)
    fewer = f"; {whole} without a limit of time" if epochs < whole else ""
    if fraction < 1:
        why = "so that it is done in time" if least <= wanted else "the least with two images of each class"
        fewer += f"\n  train_fraction: {fraction:g} # {why}; 1 takes all {train:,} images"
    return STUDY.format(
        name=json.dumps(name),
        classes=len(found.train.classes),
        used=used,
        test=test,
        spent=f"\n# All of it takes about {takes:.2g} hours of CPU time on this machine; many decide earlier."
        if takes
        else "",
        dataset=f"imagefolder({', '.join(named)})".replace("'", "''"),
        backbone="speednet(stride=2)" if size == 64 else "speednet",
        size=size,
        smallest=min(found.sides),
        largest=max(found.sides),
        epochs=epochs,
        steps=epochs * max(1, used // BATCH),
        fewer=fewer,
        margin=next((points for points in MARGINS if points >= 200 / test), MARGINS[-1]),
        image=100 / test,
    )


def _quoted(path: Path) -> str:
    """A path as an option of a reference."""
    return json.dumps(path.as_posix(), ensure_ascii=False)


def _looked_at(files: Sequence[Path]) -> Iterator[tuple[int, bytes] | str]:
    """The shorter side of each image and the hash of its pixels, or why it cannot be read."""
    from rich.progress import track

    load = from_file(3, None)

    def look(file: Path) -> tuple[int, bytes] | str:
        image = load(file)
        return image.reason if isinstance(image, Broken) else (min(image.values.shape[:2]), image.pixels)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read, few = pool.map(look, files), len(files) < 1_000
        yield from track(read, "looking at the images", len(files), transient=True, disable=few)
