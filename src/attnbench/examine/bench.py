"""What costs are measured on."""

from dataclasses import dataclass

from attnbench.catalogue.registry import BACKBONES
from attnbench.errors import AttnbenchError


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """A backbone, a batch and a device: a value, so that a table can say it.

    Raises:
        AttnbenchError: a number below 1.
        BadReference: an unknown backbone.
    """

    backbone: str = "resnet20"
    """Network that mechanisms are put into."""
    batch_size: int = 32
    """Images per step."""
    image_size: int | None = None
    """Side of the images in pixels; None for the backbone's own."""
    classes: int = 10
    """Classes of the network."""
    site: str | None = None
    """Where mechanisms go; None for each one's own place."""
    threads: int = 1
    """CPU threads."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "classes", "threads"):
            if getattr(self, name) < 1:
                raise AttnbenchError(f"{name}={getattr(self, name)} must be at least 1")
        if self.side < 1:
            raise AttnbenchError(f"image_size={self.side} must be at least 1")

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        own = BACKBONES.resolve(self.backbone).card.image_size
        return own if self.image_size is None else self.image_size
