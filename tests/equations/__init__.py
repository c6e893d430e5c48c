"""One file per mechanism, named as it is: its paper's equations in plain numpy, written before the module.

A file has `CASES` (references to compute, the defaults first) and `written(w, x, **options)`: the equations on
the weights `w` (as in the state dict, float64) and images `x` (B C H W), with the options of the case. Where a
second witness exists that can be installed, `witness(module, channels)` gives that library's module with the
weights of ours.
"""
