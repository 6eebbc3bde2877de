"""The numbers that tell a collapse, against literal versions, and the rule that reads them."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from slices.ssl.health import Health, alignment, collapse, dimensions, embedding_std, rank_me, uniformity

H = 16


@pytest.fixture
def rows():
    return torch.randn(200, H, generator=torch.Generator().manual_seed(0))


def unit(row):
    return [value / math.sqrt(sum(v * v for v in row)) for value in row]


def test_std_is_that_of_unit_vectors(rows):
    directions = [unit(row) for row in rows.tolist()]
    total = 0.0
    for column in zip(*directions, strict=True):
        mean = sum(column) / len(column)
        total += math.sqrt(sum((value - mean) ** 2 for value in column) / len(column))
    assert embedding_std(rows).item() == pytest.approx(math.sqrt(H) * total / H, rel=1e-5)
    assert embedding_std(rows).item() == pytest.approx(1.0, abs=0.02)
    assert torch.allclose(embedding_std(rows), embedding_std(7 * rows))


def test_rank_is_the_exponential_of_an_entropy(rows):
    scaled = rows * torch.linspace(0.1, 2.0, H)
    values = torch.linalg.svdvals((scaled - scaled.mean(0)).double()).tolist()
    shares = [value / sum(values) for value in values]
    assert rank_me(scaled).item() == pytest.approx(math.exp(-sum(s * math.log(s) for s in shares)), rel=1e-5)
    squares = [value**2 / sum(v**2 for v in values) for value in values]
    wanted = math.exp(-sum(s * math.log(s) for s in squares))
    assert dimensions(scaled).item() == pytest.approx(wanted, rel=1e-5)
    assert rank_me(rows).item() > 0.95 * H
    assert torch.allclose(rank_me(rows), rank_me(rows + 100), atol=1e-2)  # an offset is no dimension


@pytest.mark.parametrize("n", [1, 3])
def test_rank_counts_dimensions(rows, n):
    flat = rows[:, :n] @ torch.linalg.qr(torch.randn(H, n)).Q.T
    assert rank_me(flat + 3.0).item() == pytest.approx(n, rel=0.02)
    assert dimensions(flat + 3.0).item() == pytest.approx(n, rel=0.02)


def test_uniformity_and_alignment_are_the_papers(rows):
    few = [unit(row) for row in rows[:12].tolist()]

    def distance(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    pairs = [math.exp(-2 * distance(a, b)) for a, b in combinations(few, 2)]
    assert uniformity(rows[:12]).item() == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-4)
    others = [unit(row) for row in rows[12:24].tolist()]
    wanted = sum(distance(a, b) for a, b in zip(few, others, strict=True)) / 12
    assert alignment(rows[:12], rows[12:24]).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_few_stays_give_finite_numbers(n, dtype):
    rows = torch.randn(n, H).to(dtype)
    assert all(math.isfinite(value) for value in Health.of(rows, rows, rows))


def test_one_point_is_one_whatever_rounding_leaves():
    point = torch.randn(H).expand(50, H)
    assert (
        rank_me(point) == dimensions(point) == 0
        and embedding_std(point) < 1e-6
        and uniformity(point).abs() < 1e-6
    )
    almost = point * (1 + 1e-6 * torch.randn(50, H))
    start, now = (Health.of(rows, rows, rows) for rows in (torch.randn(50, H), almost))
    assert "one point" in collapse(now, start)


def test_the_rule():
    start = Health(std=0.2, rank=28.0, dimensions=16.0, uniformity=-0.2, alignment=0.3)
    # the least seen in healthy runs, and an embedding that spreads out
    healthy = [{}, {"std": 0.029}, {"rank": 8.4}, {"dimensions": 1.5}, {"std": 1.0, "rank": 60.0}]
    assert [collapse(start._replace(**now), start) for now in healthy] == [None] * 5
    assert collapse(start._replace(std=0.005, rank=2.0), start) == "one point: std 0.005, 0.2 at the start"
    assert collapse(start._replace(rank=2.0), start) == "few dimensions: rank 2, 28 at the start"
    assert "few dimensions: dimensions 1.3" in collapse(start._replace(dimensions=1.3), start)
    for name in ("std", "rank", "dimensions"):
        assert "not finite" in collapse(start._replace(**{name: math.nan}), start)


@pytest.mark.parametrize(("n", "tail"), [(1, 0.0), (1, 0.03), (2, 0.0), (2, 0.005)])
def test_one_or_two_directions_are_few_also_above_many_small_ones(n, tail):
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(256, 64, generator=generator) * torch.linspace(0.2, 1.0, 64)
    flat = full.clone()
    flat[:, :-n] *= tail
    start, now = (Health.of(rows, rows, rows) for rows in (full, flat))
    assert "few dimensions" in collapse(now, start)
