"""What a registered thing says of itself. Cards are written as literals, so that they are read without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A mechanism's card: whose it is, where it goes, and what its parameters may and may not do."""

    title: str
    authors: str = ""
    """As BibTeX has them: joined by `and`."""
    venue: str = ""
    year: int = 0
    url: str = ""
    kind: Literal["D", "R", "S"] = "D"
    """D keeps the shape and follows any convolution, R replaces a convolution, S works at stage level."""
    paper_site: str = ""
    """Where the paper puts it, for `site="paper"`: a key of the backbone's `sites`; empty for its kind's own place."""
    paper_stages: tuple[int, ...] = ()
    """The stages that the paper puts it into, the last being -1; empty for all."""
    paper_every: int = 1
    """The paper has it in every n-th place of a stage."""
    control: bool = False
    """True for `none` and the controls that are no attention mechanisms; in a comparison `none` is no control."""
    gate: tuple[float, float] | None = None
    """The range of `gate(x)`, for gated mechanisms."""
    parameters: str = ""
    """The number of parameters as an expression of the width C, the map's H and W, the options, and `where`."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Names in `parameters` -> their expressions, each of the names above it."""
    nested: tuple[str, ...] = ()
    """Options that name another mechanism: they are read as references, and its version counts too."""
    inert: Mapping[str, str] = field(default_factory=dict)
    """Parameters that never get a gradient (`part.*` for all below), with the reason."""
    positions: str = ""
    """Why the same pattern is treated otherwise in another place of a map; empty where it is treated alike."""
    no_decay: tuple[str, ...] = ()
    """Parameters that take no weight decay."""
    synonyms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Option -> value -> the value that means the same: two spellings of one function are one run."""
    deviations: str = ""
    """Where paper and released code differ, and which of them each variant is."""
    clamping: str = ""
    """What small widths and maps do."""
    determinism: str = ""
    """What has no deterministic form on CUDA; empty where everything has."""
    version: int = 1
    """Raised when the numbers of the mechanism change by more than rounding: old runs are not taken for new ones."""

    @property
    def site(self) -> str:
        """Its place unless the user says otherwise: one for each kind, so that arms are comparable."""
        return {"D": "block", "R": "conv", "S": "stage"}[self.kind]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A backbone's card: where in it a mechanism can sit."""

    title: str
    sites: Mapping[str, str]
    """Kind of place -> pattern of module paths; its group `stage` holds the stage's number, or `stageN` matches it."""
    families: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Pattern of the option `name` -> the sites of those networks, for a backbone that stands for a library's."""
    image_size: int
    """Side in pixels of the images it was designed for."""
    year: int = 0
    url: str = ""
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set's card: what it is, whose, and how its splits are made."""

    title: str
    url: str = ""
    licence: str = ""
    classes: int = 0
    """Number of classes; 0 when only the files tell."""
    names: tuple[str, ...] = ()
    """Official names of the classes, in the order of their numbers."""
    image_size: int = 0
    """Side in pixels; 0 when only the files tell."""
    channels: int = 3
    splits: tuple[str, ...] = ("train", "test")
    """Official splits; `("all",)` when there are none and ours are cut by content."""
    images: Mapping[str, int] = field(default_factory=dict)
    """Split -> number of images, as released."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Split -> hash of the key and the label of every official image, in whatever order they lie."""
    augment: str = ""
    """Augmentation in place of a recipe's, where a recipe's would change what an image means."""
    files: tuple[tuple[str, str, str], ...] = ()
    """(address, md5, SHA-256) of each official file: md5 as torchvision has it, SHA-256 is what must hold."""
    folder: str = ""
    """Where below the data folder the official files are put and unpacked."""
    reads: tuple[str, ...] = ()
    """What each official file unpacks to, below the data folder: a change in them is a change of the data."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Split -> the option that names its folder of images; a split whose option is empty is cut from the first."""
    ships_with: str = ""
    """The installed distribution that holds the data; its version says which they are."""
    note: str = ""
    version: int = 1
