"""A slice of the campaign, always the same, and what it stands on."""
from collections import Counter

from chaos import one_round
from schedule import plan


class Anything:
    weight, targets, least_s, most_s, after_s = 1, 4, 0, 3, 0.5

    def holds(self, target):
        return (f"thing-{target}",)


KINDS = {name: Anything() for name in ("one", "two", "three")}


def test_one_seed_is_one_schedule():
    assert list(plan(KINDS, 7, 60)) == list(plan(KINDS, 7, 60))
    assert list(plan(KINDS, 7, 60)) != list(plan(KINDS, 8, 60))


def test_no_two_faults_hold_the_same_thing_at_once():
    free_at = Counter()
    steps = list(plan(KINDS, 7, 600))
    for step in steps:
        assert free_at[step.target] <= step.at_s
        free_at[step.target] = step.at_s + step.for_s
    assert {step.kind for step in steps} == set(KINDS) and len(steps) > 100


def test_a_deployment_counts_once_whatever_breaks():
    assert one_round(None, seed=1, seconds=20, brokers=1, total=Counter())
