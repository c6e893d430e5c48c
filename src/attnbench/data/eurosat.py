"""EuroSAT (RGB) from its official files, with a fixed split by content."""

from pathlib import Path

from attnbench.data import Raw, Source, dataset

EUROSAT = Source(
    title="EuroSAT (RGB)",
    url="https://github.com/phelber/EuroSAT",
    licence="MIT; Copernicus Sentinel data terms",
    classes=10,
    image_size=64,
    splits=("all",),
    images={"all": 27000},
    files=(
        (
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            "c8fa014336c82ac7804f0398fcb19387",
        ),
    ),
    folder="eurosat",
    reads=("eurosat/2750",),
    note="No official split: 20 % of each class are the test split, chosen by the files' content.",
)


@dataset("EuroSAT", EUROSAT)
def eurosat(root: Path, split: str) -> Raw:
    """27,000 colour images of 64 x 64 pixels in 10 classes of land use."""
    from torchvision.datasets import EuroSAT as Reader

    reader = Reader(root)
    files, labels = zip(*reader.samples, strict=True)
    return Raw([Path(file) for file in files], labels, reader.classes)
