# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exploring results
#
# A notebook as a Python file: `jupytext --to notebook examples/explore.py` makes it one, editors open it as it is.
# It reads the reference study on Oxford 102 Flowers, whose records are committed; put your own in its place.

# %%
from pathlib import Path

import altair as alt
import torch

import attnbench

alt.renderers.enable("svg")  # a picture, which needs no network
ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "studies").is_dir())
STUDY = ROOT / "studies" / "reference-flowers102.yaml"
STORE = ROOT / "results" / "reference-flowers102"

# %% [markdown]
# ## Every run as a row

# %%
store = attnbench.Store(STORE)
rows = [
    {"attention": record.spec["attention"], "seed": record.spec["seed"], "accuracy": record.accuracy}
    for record in store.records()
]
sorted(rows, key=lambda row: (row["attention"], row["seed"]))[:5]

# %% [markdown]
# ## Every run as a point

# %%
alt.Chart(alt.Data(values=rows)).mark_point().encode(
    x=alt.X("accuracy:Q", scale=alt.Scale(zero=False), title="test accuracy (%)"),
    y=alt.Y("attention:N", title=None),
    tooltip=["seed:O", "accuracy:Q"],
)

# %% [markdown]
# ## The verdicts, by the rule that the study declared

# %%
comparison = attnbench.compare(attnbench.Study.load(STUDY), store)
for cell in comparison.cells:
    for contrast in (arm.contrast for arm in cell.arms if arm.contrast):
        gap = contrast.difference
        print(f"{contrast.arm} is {contrast.verdict.kind}: {gap.mean:+.2f} points [{gap.low:+.2f}, {gap.high:+.2f}]")

# %% [markdown]
# ## A mechanism in a network of your own, which starts as doing nothing

# %%
network = attnbench.network("resnet20", "none", classes=10).eval()
images = torch.rand(2, 3, 32, 32)
before = network(images)
attnbench.graft(network, "eca", example=images)
assert torch.equal(network(images), before)
