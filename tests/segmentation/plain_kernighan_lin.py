"""Kernighan-Lin as it is told, without regard to time: what the compiled one is compared with."""

import numpy as np

from ssns.segmentation.kernighan_lin import LEAST, PATIENCE


class PlainPartition:
    """Segments as lists of their nodes, those that came last first."""

    def __init__(self, pairs: np.ndarray, costs: np.ndarray, labels: np.ndarray) -> None:
        self.costs: list[dict[int, float]] = [{} for _ in labels]
        for (a, b), cost in zip(pairs.tolist(), costs.tolist(), strict=True):
            self.costs[a][b] = self.costs[b][a] = cost
        self.least = LEAST * np.abs(costs).max(initial=0)
        used = int(labels.max()) + 1
        self.parts = [np.flatnonzero(labels == label).tolist() for label in range(len(labels))]
        self.empty = list(range(used, len(labels)))[::-1]
        self.separate()

    def labels(self) -> np.ndarray:
        labels = np.zeros(len(self.parts), int)
        for label, part in enumerate(self.parts):
            labels[part] = label
        return labels

    def weight(self, node: int, part: list[int] | set[int]) -> float:
        return sum(cost for end, cost in self.costs[node].items() if end in part)

    def round(self) -> bool:
        """Every two segments that touch in the order of their names, then every one alone."""
        labels, better = self.labels().tolist(), False
        touching = {(labels[a], labels[b]) for a, ends in enumerate(self.costs) for b in ends if labels[a] < labels[b]}
        for one, other in sorted(touching):
            if self.parts[one] and self.parts[other]:
                better |= self.chain(one, other)
        for one in range(len(self.parts)):
            while len(self.parts[one]) > 1 and self.chain(one, self.empty[-1]):
                self.empty.pop()
                better = True
        self.separate()
        return better

    def chain(self, one: int, other: int) -> bool:
        sides = {one: set(self.parts[one]), other: set(self.parts[other])}
        ends = {label: {end for node in side for end in self.costs[node]} for label, side in sides.items()}
        splits = not sides[other]
        waiting = set(sides[one]) if splits else (sides[one] & ends[other]) | (sides[other] & ends[one])
        joined = sum(self.weight(node, sides[other]) for node in sides[one])
        done, total, best, kept = [], 0, 0, 0

        def own(node: int) -> int:
            return one if node in sides[one] else other

        def gain(node: int) -> float:
            here, there = sides[own(node)], sides[one + other - own(node)]
            return self.weight(node, there) - self.weight(node, here)

        while waiting and len(done) - kept < PATIENCE:
            gained, last = max((gain(node), -node) for node in waiting)
            node, here = -last, own(-last)
            total += gained
            sides[here].remove(node)
            sides[one + other - here].add(node)
            done.append(node)
            if total > best + self.least:
                best, kept = total, len(done)
            waiting = (waiting | (self.costs[node].keys() & sides[here])) - set(done)
        if not splits and joined > best + self.least:
            smaller = other if len(self.parts[other]) < len(self.parts[one]) else one
            self.move(list(self.parts[smaller]), one + other - smaller)
        else:
            for node in done[:kept]:
                self.move([node], other if node in self.parts[one] else one)
            if not kept:
                return False
        self.empty += [label for label in (one, other) if not self.parts[label]]
        return True

    def move(self, nodes: list[int], label: int) -> None:
        for node in nodes:
            next(part for part in self.parts if node in part).remove(node)
            self.parts[label].insert(0, node)

    def separate(self) -> None:
        for part in self.parts:
            while part:
                reached = part[:1]
                for node in reached:
                    reached += [end for end in self.costs[node] if end in part and end not in reached]
                if len(reached) == len(part):
                    break
                self.move(reached, self.empty.pop())


def plainly_moved(pairs: np.ndarray, costs: np.ndarray, labels: np.ndarray, rounds: int) -> np.ndarray:
    partition = PlainPartition(pairs, costs, np.unique(labels, return_inverse=True)[1])
    for _ in range(rounds):
        if not partition.round():
            break
    return np.unique(partition.labels(), return_inverse=True)[1]
