"""The bound on rounding holds whatever the order of the additions, and not for an expression that loses digits."""

import pytest
import torch
from rounding import allowed, clear

GENERATOR = torch.Generator().manual_seed(0)
TERMS = torch.randn(4096, generator=GENERATOR)
CENTRED = torch.cat([TERMS, -TERMS])[torch.randperm(8192, generator=GENERATOR)]


def one_by_one(terms: torch.Tensor) -> float:
    """A running sum: no order of adding up is worse."""
    total = torch.zeros((), dtype=terms.dtype)
    for term in terms:
        total = total + term
    return float(total)


@pytest.mark.parametrize("terms", [TERMS, CENTRED, TERMS.abs()], ids=["any", "sum 0", "one sign"])
def test_a_sum_may_be_added_up_one_by_one_in_float32_but_not_in_half_precision(terms):
    exact = terms.double()
    (within,) = allowed(lambda: [exact.sum()], terms)
    single, half = (abs(one_by_one(terms.to(dtype)) - float(exact.sum())) for dtype in (torch.float32, torch.half))
    assert single <= within < half


@pytest.mark.parametrize(("far", "kept"), [(0.0, True), (3000.0, False)])
def test_a_variance_in_one_pass_is_seen_to_lose_digits_far_from_zero(far, kept):
    x = TERMS + far
    exact = x.double()
    (within,) = allowed(lambda: [exact.var(correction=0)], x)
    one_pass, two_passes = x.square().mean() - x.mean().square(), x.var(correction=0)
    gaps = [abs(float(found) - float(exact.var(correction=0))) for found in (one_pass, two_passes)]
    assert [gap <= within for gap in gaps] == [kept, True]


def test_where_nothing_is_rounded_nothing_is_allowed():
    x = TERMS.double().view(2, 32, 64)
    assert allowed(lambda: [x.amax((1, 2)), x.movedim(0, 1)], x) == [0.0, 0.0]


def test_a_class_that_leads_by_less_than_half_precision_keeps_is_not_clear():
    assert clear([[0.0, 1.0, 0.5], [0.0, 8.0, 8.01], [-3.0, -3.001, -9.0]]).tolist() == [True, False, False]
