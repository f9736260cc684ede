"""When which fault happens to what, from a seed: the same seed and length, the same schedule."""
import random
from typing import NamedTuple

STORM_S, LULL_S = 9.0, 4.0  # faults begin during storms; lulls are for what needs calm to go wrong
GAP_S = 0.9  # between the beginnings of two, on average


class Step(NamedTuple):
    at_s: float
    kind: str
    target: int
    for_s: float
    dice: int  # seeds what else the fault chooses

    def __str__(self):
        return f"{self.at_s:7.2f} s  {self.kind} ({self.target}) for {self.for_s:.2f} s"


def plan(kinds, seed, seconds):
    """kinds: {name: fault}, with weight, targets, least_s, most_s and holds(target), the names of what the fault needs
    for itself. Each kind comes once before any comes again, as far as time allows."""
    dice = random.Random(f"{seed} {seconds}")
    names = sorted(kinds)
    fresh = dice.sample(names, len(names))
    busy_until, at_s = {}, 0.0
    while (at_s := next_at(dice, at_s)) < seconds:
        name = fresh.pop() if fresh and dice.random() < 0.7 else dice.choices(names, [kinds[n].weight for n in names])[0]
        fault = kinds[name]
        target = dice.randrange(fault.targets)
        for_s = min(dice.uniform(fault.least_s, fault.most_s), seconds - at_s)
        step = Step(round(at_s, 3), name, target, round(for_s, 3), dice.randrange(1 << 30))
        if all(busy_until.get(thing, 0) <= at_s for thing in fault.holds(target)):
            busy_until.update({thing: at_s + for_s + fault.after_s for thing in fault.holds(target)})
            yield step
        elif name not in fresh:
            fresh.insert(0, name)


def next_at(dice, at_s):
    at_s += dice.expovariate(1 / GAP_S)
    into_s = at_s % (STORM_S + LULL_S)
    return at_s if into_s < STORM_S else at_s - into_s + STORM_S + LULL_S
