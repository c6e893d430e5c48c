"""Make the list of a data set's official images, and the digests that its card carries, from a data folder.

    python benchmarks/manifest.py CIFAR10 --data-dir DIR

DIR holds the official files, or the same images in class folders (`attnbench data check CIFAR10` names both ways).
The list goes to src/attnbench/data/official/; the digests are printed, to be put on the card as `digests`.
"""

import argparse

from attnbench.catalogue.registry import DATASETS
from attnbench.data import official
from attnbench.data.cache import decoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data-dir", default="data")
    asked = parser.parse_args()
    dataset = DATASETS.resolve(asked.name)
    entry = dataset.entry
    splits = {}
    for split in entry.card.splits:
        found = decoded(dataset, split, entry.card.image_size, asked.data_dir)
        expected = entry.card.images[split]
        assert len(found.labels) == expected, f"{split} has {len(found.labels):,} images, {expected:,} are official"
        splits[split] = (found.keys, found.labels)
    file = official.write(entry.name, splits)
    print(f"{file}: {file.stat().st_size:,} bytes")
    print("digests=" + repr({split: official.digest(*pair) for split, pair in splits.items()}).replace("'", '"') + ",")


if __name__ == "__main__":
    main()
