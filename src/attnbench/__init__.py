"""Does a visual attention mechanism help your CNN, by how much, at what cost, with evidence to re-derive?

The public names, imported when first used: `import attnbench` costs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.analysis.comparison import compare
    from attnbench.analysis.scored import verdict
    from attnbench.backbones import backbone
    from attnbench.data import dataset
    from attnbench.examine.folding import fold
    from attnbench.mechanisms import attention, build_attention
    from attnbench.networks.anywhere import graft, sites, ungraft
    from attnbench.networks.checkpoints import load_pretrained
    from attnbench.networks.network import network
    from attnbench.spec.run import RunSpec, Runtime
    from attnbench.spec.study import Study
    from attnbench.store.runs import Store
    from attnbench.training.predictor import load
    from attnbench.training.run import run

__version__ = "0.2.0"

_HOME = {
    "RunSpec": "spec.run",
    "Runtime": "spec.run",
    "Study": "spec.study",
    "Store": "store.runs",
    "run": "training.run",
    "load": "training.predictor",
    "fold": "examine.folding",
    "compare": "analysis.comparison",
    "verdict": "analysis.scored",
    "network": "networks.network",
    "graft": "networks.anywhere",
    "load_pretrained": "networks.checkpoints",
    "sites": "networks.anywhere",
    "ungraft": "networks.anywhere",
    "build_attention": "mechanisms",
    "attention": "mechanisms",
    "backbone": "backbones",
    "dataset": "data",
}
__all__ = [
    "RunSpec",
    "Runtime",
    "Store",
    "Study",
    "attention",
    "backbone",
    "build_attention",
    "compare",
    "dataset",
    "fold",
    "graft",
    "load",
    "load_pretrained",
    "network",
    "run",
    "sites",
    "ungraft",
    "verdict",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'attnbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"attnbench.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
