"""Oxford 102 Flowers from its official files and split."""

from pathlib import Path

from attnbench.data import Raw, Source, dataset

# fmt: off
FLOWERS = Source(
    title="Oxford 102 Flowers",
    url="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    licence="none stated; images from the web, for research; cite Nilsback and Zisserman 2008",
    classes=102,
    names=(
        "pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea", "english marigold",
        "tiger lily", "moon orchid", "bird of paradise", "monkshood", "globe thistle", "snapdragon", "colt's foot",
        "king protea", "spear thistle", "yellow iris", "globe-flower", "purple coneflower", "peruvian lily",
        "balloon flower", "giant white arum lily", "fire lily", "pincushion flower", "fritillary", "red ginger",
        "grape hyacinth", "corn poppy", "prince of wales feathers", "stemless gentian", "artichoke", "sweet william",
        "carnation", "garden phlox", "love in the mist", "mexican aster", "alpine sea holly", "ruby-lipped cattleya",
        "cape flower", "great masterwort", "siam tulip", "lenten rose", "barbeton daisy", "daffodil", "sword lily",
        "poinsettia", "bolero deep blue", "wallflower", "marigold", "buttercup", "oxeye daisy", "common dandelion",
        "petunia", "wild pansy", "primula", "sunflower", "pelargonium", "bishop of llandaff", "gaura", "geranium",
        "orange dahlia", "pink-yellow dahlia?", "cautleya spicata", "japanese anemone", "black-eyed susan",
        "silverbush", "californian poppy", "osteospermum", "spring crocus", "bearded iris", "windflower",
        "tree poppy", "gazania", "azalea", "water lily", "rose", "thorn apple", "morning glory", "passion flower",
        "lotus", "toad lily", "anthurium", "frangipani", "clematis", "hibiscus", "columbine", "desert-rose",
        "tree mallow", "magnolia", "cyclamen", "watercress", "canna lily", "hippeastrum", "bee balm", "ball moss",
        "foxglove", "bougainvillea", "camellia", "mallow", "mexican petunia", "bromelia", "blanket flower",
        "trumpet creeper", "blackberry lily",
    ),
    image_size=224,
    splits=("train", "val", "test"),
    images={"train": 1020, "val": 1020, "test": 6149},
    digests={
        "train": "bb6a1e2bf6f51f212d9a0b7357974597", "val": "2e89cb7eb1081d8d100e962b74087a81",
        "test": "2e742aace22d5dfcbc4b8023911ff973",
    },
    files=(
        (
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
            "52808999861908f626f3c1f4e79d11fa",
            "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
        ),
        (
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/imagelabels.mat",
            "e0620be6f572b9609742df49c70aed4d",
            "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
        ),
        ("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c",
            "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd"),
    ),
    folder="flowers-102",
    reads=("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"),
    note="The official release has exact duplicates across splits: 7307 (train) is 7309 (test), "
    "8077 (val) is 8067 (test). Images are resized to a square, as the classic code does.",
    version=2,
)
# fmt: on


@dataset("Oxford102Flowers", FLOWERS)
def oxford_102_flowers(root: Path, split: str) -> Raw:
    """8,189 colour images of any size in 102 classes; the official train, validation and test splits."""
    from torchvision.datasets import Flowers102 as Reader

    reader = Reader(root, split=split)
    return Raw(reader._image_files, reader._labels)
