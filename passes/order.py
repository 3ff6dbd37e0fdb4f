"""The order of what a function does, and where threads must meet.

In: jobs after what they depend on. Out: the same in an order that keeps reads of a variable before
its update and everything that can fail before every update, and groups of launches between two
barriers.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

from ..graph.ir import Value
from ..target import Target
from .work import Held, Job, Work, parts

Group: TypeAlias = list[Work] | Held


def ordered(jobs: list[Job], updated: dict[Value, Value]) -> list[Job]:
    """A topological order: as written, but updates of variables as soon as nothing needs the old
    value any more and nothing that can fail is left. `updated`: new value -> its variable."""
    made = {v: k for k, w in enumerate(jobs) for v in w.writes}
    before: list[set[int]] = [set() for _ in jobs]
    readers: dict[Value, list[int]] = {}
    for k, w in enumerate(jobs):
        for v in w.reads:
            if v in made:
                before[k].add(made[v])
            readers.setdefault(v, []).append(k)
    commits = {made[v]: var for v, var in updated.items() if v in made}
    needed: list[set[int]] = [set(b) for b in before]
    fails = [k for k, w in enumerate(jobs) if w.fails]
    ancestors = _ancestors(before)
    for k, var in commits.items():
        for other in [*readers.get(var, []), *fails]:
            if other != k and not (ancestors[other] >> k) & 1:
                needed[k].add(other)
    found = _sorted(jobs, needed, commits)
    return found if found is not None else _sorted(jobs, before, commits) or jobs


def _ancestors(before: list[set[int]]) -> list[int]:
    out = [0] * len(before)
    for k, earlier in enumerate(before):  # jobs come in a topological order
        bits = 0
        for j in earlier:
            bits |= out[j] | (1 << j)
        out[k] = bits
    return out


def _sorted(jobs: list[Job], before: list[set[int]], first: dict[int, Any]) -> list[Job] | None:
    waiting = [len(b) for b in before]
    after: list[list[int]] = [[] for _ in jobs]
    for k, b in enumerate(before):
        for j in b:
            after[j].append(k)
    heap = [(k not in first, jobs[k].order, k) for k in range(len(jobs)) if not waiting[k]]
    heapq.heapify(heap)
    out: list[Job] = []
    while heap:
        k = heapq.heappop(heap)[2]
        out.append(jobs[k])
        for j in after[k]:
            waiting[j] -= 1
            if not waiting[j]:
                heapq.heappush(heap, (j not in first, jobs[j].order, j))
    return out if len(out) == len(jobs) else None


def phased(jobs: list[Job], target: Target, commits: Callable[[Work], bool]) -> list[Group]:
    """What happens between two barriers: kernels too small for two threads follow one another
    without any; every other kernel stands alone, and so does a loop or a branch. Failures show at
    barriers, so a kernel that stores into a variable does not follow one that can fail without.
    Launches with a size among their dimensions do not follow the kernel that computes it."""
    out: list[Group] = []
    small = False  # whether what came last is kernels too small for two threads
    for w in jobs:
        if isinstance(w, Held):
            out.append(w)
            small = False
            continue
        single = parts([w], target) == 1
        last = out[-1] if small and single else None
        small = single
        if isinstance(last, list) and not last[-1].tells:
            if not (commits(w) and any(before.fails for before in last)):
                last.append(w)
                continue
        out.append([w])
    return out
