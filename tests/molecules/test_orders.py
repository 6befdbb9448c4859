"""Laws of the exact search for bond orders: against all choices one by one, and on graphs whose answer is known."""

import time
from collections.abc import Mapping, Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molrl.data.molecules.orders import Edge, SearchLimitError, least_cost_orders

Problem = tuple[Sequence[Mapping[int, float]], Sequence[Edge]]
COSTS = st.integers(0, 20).map(float)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw up to six atoms with allowed sums, and up to seven edges with allowed orders, all at random costs."""
    atoms = draw(st.integers(1, 6))
    pairs = [(i, j) for i in range(atoms) for j in range(i)]
    bonded = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=7)) if pairs else []
    sums = [draw(st.dictionaries(st.integers(0, 6), COSTS, max_size=3)) for _ in range(atoms)]
    orders = st.dictionaries(st.integers(0, 3), COSTS, min_size=1)
    return sums, [Edge(i, j, draw(orders)) for i, j in bonded]


def cost_of(sums: Sequence[Mapping[int, float]], orders: Sequence[tuple[Edge, int]]) -> float:
    """Return the cost of a choice of orders, infinite if an atom has a sum that is not allowed."""
    totals = [0] * len(sums)
    for edge, order in orders:
        totals[edge.first] += order
        totals[edge.second] += order
    at_atoms = sum(allowed.get(total, float("inf")) for allowed, total in zip(sums, totals, strict=True))
    return at_atoms + sum(edge.costs[order] for edge, order in orders)


@settings(max_examples=300, deadline=None)
@given(problems())
def test_no_choice_of_orders_costs_less(problem: Problem) -> None:
    sums, edges = problem
    choices = product(*(edge.costs for edge in edges))
    least = min(cost_of(sums, list(zip(edges, choice, strict=True))) for choice in choices)
    found = least_cost_orders(sums, edges)
    if found is None:
        assert least == float("inf")
    else:
        assert sorted(edge[:2] for edge, _ in found) == sorted(edge[:2] for edge in edges)
        assert cost_of(sums, found) == least


def chessboard(size: int, missing: tuple[int, ...] = ()) -> Problem:
    """Return the problem of covering a board with dominoes, on squares that are not missing; upright ones cost 1."""
    squares = [square for square in range(size * size) if square not in missing]
    place = {square: number for number, square in enumerate(squares)}
    edges = [
        Edge(place[square], place[square + step], {0: 0.0, 1: price})
        for square in squares
        for step, price in ((1, 0.0), (size, 1.0))
        if square + step in place and (step == size or (square + 1) % size)
    ]
    return [{1: 0.0}] * len(squares), edges


def test_a_chessboard_is_covered_by_dominoes_and_one_without_two_opposite_corners_is_not() -> None:
    """Each domino covers a white and a black square, and opposite corners have one colour (Gomory's theorem)."""
    for missing, least in (((), 0), ((0, 1), 0), ((0, 8), 1)):  # (0, 8) leaves seven squares in each of two rows
        sums, edges = chessboard(8, missing)
        covering = least_cost_orders(sums, edges)
        assert covering is not None
        assert cost_of(sums, covering) == least
    assert least_cost_orders(*chessboard(8, missing=(0, 63))) is None
    assert least_cost_orders(*chessboard(8, missing=(0, 9))) is None


def test_an_atom_without_edges_needs_the_sum_zero() -> None:
    assert least_cost_orders([{0: 1.0, 2: 0.0}], []) == []
    assert least_cost_orders([{2: 0.0}], []) is None
    assert least_cost_orders([{}], []) is None
    assert least_cost_orders([], []) == []


def test_a_search_too_wide_ends_early_with_an_error() -> None:
    start = time.perf_counter()
    with pytest.raises(SearchLimitError):
        least_cost_orders(*chessboard(40))
    assert time.perf_counter() - start < 10
