"""Channel attention of DANet: equations 3 and 4 of Fu et al. 2018 (arXiv 1809.02983)."""

import numpy as np

from equations.numeric import Array, softmax

CASES = ["cam", 'cam(variant="official")']


def written(w: dict[str, Array], x: Array, variant: str, **_: object) -> Array:
    similar = np.einsum("bihw,bjhw->bij", x, x)
    if variant == "official":
        similar = similar.max(2, keepdims=True) - similar
    return w["beta"] * np.einsum("bij,bjhw->bihw", softmax(similar, 2), x) + x
