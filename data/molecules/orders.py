"""Bond orders of least cost with a given sum at each atom, exactly: dynamic programming along a sequence of atoms."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

MAX_STATES = 100_000  # of all steps together, about 0.1 s; a molecule of drug size has about 40, C60 has 15,000
BITS = 4  # of a partial sum in a state
FULL = (1 << BITS) - 1  # the largest sum of orders at an atom

Costs: TypeAlias = Mapping[int, float]
"""The cost of each allowed value: of the order of a bond, or of the sum of orders at an atom."""

States: TypeAlias = dict[int, tuple[float, int, int]]
"""The least cost of reaching each state, the state before it, and the order that leads from there to here."""


class Edge(NamedTuple):
    """Two atoms, and the cost of each order that their bond may have; order 0 is no bond."""

    first: int
    second: int
    costs: Costs


class Step(NamedTuple):
    """The decision of one edge.

    Attributes:
        edge: the edge.
        first: the cost of each partial sum of orders that its first atom may have afterwards; see `partial_sums`.
        second: the same for its second atom.
        kept: mask of the bits of atoms that have edges to come.
    """

    edge: Edge
    first: Costs
    second: Costs
    kept: int


class SearchLimitError(ValueError):
    """An error for a problem that needs more than `MAX_STATES` states."""


def least_cost_orders(sums: Sequence[Costs], edges: Sequence[Edge]) -> list[tuple[Edge, int]] | None:
    """Return each edge with its order, such that every atom has an allowed sum of orders and the total cost is least.

    The edges are decided one after the other. Partial solutions with the same sums at all atoms that have edges to
    come are one state, of which only the cheapest survives (bucket elimination, Dechter 1999,
    doi:10.1016/S0004-3702(99)00059-4). States are few because molecules can be crossed with few such atoms at a time.

    Args:
        sums: the allowed sums of each atom, at most `FULL`, and what they cost.

    Returns None if no orders give every atom an allowed sum. Raises SearchLimitError beyond `MAX_STATES`.
    """
    neighbours: list[list[int]] = [[] for _ in sums]
    for edge in edges:
        neighbours[edge.first].append(edge.second)
        neighbours[edge.second].append(edge.first)
    if any(0 not in allowed for allowed, others in zip(sums, neighbours, strict=True) if not others):
        return None
    steps = plan(sums, edges, crossing(neighbours))
    history: list[States] = [{0: (0.0, 0, 0)}]
    count = 0
    for step in steps:
        history.append(advance(history[-1], step))
        count += len(history[-1])
        if count > MAX_STATES:
            raise SearchLimitError
    return trace(steps, history) if history[-1] else None


def crossing(neighbours: Sequence[Sequence[int]]) -> list[int]:
    """Return the place of each atom in a sequence that leaves few atoms open: with neighbours before and after.

    The next atom is always the neighbour of the sequence that opens fewest and closes most atoms.
    """
    missing = [len(others) for others in neighbours]  # neighbours that are not in the sequence yet
    places = [-1] * len(neighbours)
    starts = iter(sorted(range(len(neighbours)), key=missing.__getitem__))
    reached: dict[int, None] = {}  # a set in the order of arrival

    def opened(atom: int) -> int:
        closed = sum(missing[other] == 1 and places[other] >= 0 for other in neighbours[atom])
        return (missing[atom] > 0) - closed

    for place in range(len(neighbours)):
        atom = min(reached, key=opened) if reached else next(start for start in starts if places[start] < 0)
        reached.pop(atom, None)
        places[atom] = place
        for other in neighbours[atom]:
            missing[other] -= 1
            if places[other] < 0:
                reached[other] = None
    return places


def plan(sums: Sequence[Costs], edges: Sequence[Edge], places: Sequence[int]) -> list[Step]:
    """Return the steps of a sequence of atoms: each atom decides its edges to the atoms before it.

    Args:
        places: of each atom in the sequence.
    """
    ordered = sorted(edges, key=lambda edge: sorted((places[edge.first], places[edge.second]), reverse=True))
    low, high = [0] * len(sums), [0] * len(sums)  # bounds on the sum of the orders to come
    kept = 0
    steps = []
    for edge in reversed(ordered):
        first, second = (partial_sums(sums[atom], low[atom], high[atom]) for atom in (edge.first, edge.second))
        steps.append(Step(edge, first, second, kept))
        for atom in (edge.first, edge.second):
            low[atom] += min(edge.costs)
            high[atom] += max(edge.costs)
            kept |= FULL << BITS * atom
    return steps[::-1]


def partial_sums(allowed: Costs, low: int, high: int) -> Costs:
    """Return the partial sums that orders to come, from `low` to `high` in all, can complete, and their costs.

    A partial sum costs nothing as long as there are orders to come, then as much as the whole sum.
    """
    if high == 0:
        return allowed
    return {part: 0.0 for whole in allowed for part in range(max(0, whole - high), whole - low + 1)}


def advance(states: States, step: Step) -> States:
    """Return the states after one more edge."""
    first, second = BITS * step.edge.first, BITS * step.edge.second
    unit = (1 << first) + (1 << second)
    grown: States = {}
    for state, (cost, _, _) in states.items():
        for order, price in step.edge.costs.items():
            at_first = step.first.get((state >> first & FULL) + order)
            at_second = step.second.get((state >> second & FULL) + order)
            if at_first is None or at_second is None:
                continue
            reached, total = (state + order * unit) & step.kept, cost + price + at_first + at_second
            if reached not in grown or total < grown[reached][0]:
                grown[reached] = total, state, order
    return grown


def trace(steps: Sequence[Step], history: Sequence[States]) -> list[tuple[Edge, int]]:
    """Return the orders that led to the last state, which is 0: no atom is open."""
    state = 0
    orders = []
    for step, states in zip(reversed(steps), reversed(history), strict=False):
        _, state, order = states[state]
        orders.append((step.edge, order))
    return orders
