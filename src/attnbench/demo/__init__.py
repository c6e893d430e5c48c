"""What `attnbench demo` shows: a study that trains in a minute, its records, and those of a study that took longer."""

from pathlib import Path

_HERE = Path(__file__).parent
STUDY = _HERE / "quick.yaml"
"""None, SE, CBAM and a planted contrast on real images that come with scikit-learn."""
TRAINED = _HERE / "quick.zip"
"""A bundle of its runs, made elsewhere."""
DECIDED = _HERE / "flowers.zip"
"""A bundle of the reference study on Oxford 102 Flowers, without its predictions."""
