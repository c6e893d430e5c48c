"""EuroSAT (RGB) from its official files, with a fixed split by content."""

from pathlib import Path

from attnbench.data import Raw, Source, dataset

# fmt: off
EUROSAT = Source(
    title="EuroSAT (RGB)",
    url="https://github.com/phelber/EuroSAT",
    licence="MIT; Copernicus Sentinel data terms",
    classes=10,
    names=(
        "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
        "Residential", "River", "SeaLake",
    ),
    image_size=64,
    splits=("all",),
    images={"all": 27000},
    digests={"all": "eeb9985d840b1fd91711344bf5c51506"},
    files=(
        (
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            "c8fa014336c82ac7804f0398fcb19387",
            "8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd",
        ),
    ),
    folder="eurosat",
    reads=("eurosat/2750",),
    note="No official split: 20 % of each class are the test split, chosen by the files' content.",
    version=2,
)
# fmt: on


@dataset("EuroSAT", EUROSAT)
def eurosat(root: Path, split: str) -> Raw:
    """27,000 colour images of 64 x 64 pixels in 10 classes of land use."""
    from torchvision.datasets import EuroSAT as Reader

    reader = Reader(root)
    files, labels = zip(*reader.samples, strict=True)
    numbers = [EUROSAT.names.index(reader.classes[label]) for label in labels]  # where a class's folder is missing
    return Raw([Path(file) for file in files], numbers)
