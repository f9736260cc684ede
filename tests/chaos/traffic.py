"""What producers send during a campaign: the usual workload, and what makes ceilings cross and clear again and repeats
hard to find: corrections, plans, repeats from long ago, records in the wrong place."""
import json

from workload import Workload

PLANS = ["", "free", "pro"]
KEPT = 5000
CORRECTIONS = 0.26  # so many take back as much as the others use
BURSTS = 0.03
OLD_METER = "memory_operations"  # events of sealed days are counted behind later ones: no steady ceiling looks at it


class Traffic(Workload):
    def __init__(self, seed, old_times):
        """old_times: some days ago; some events are of the hours behind them."""
        super().__init__(seed, customers=40, duplicates=0.01, late=0.05, bad=0.01)
        self.old_times = old_times
        self.long_ago = []

    def event(self, **more):
        event = super().event(**more)
        dice = self.random.random()
        if dice < CORRECTIONS:
            event.update(kind="correction", corrects="another", reason="miscounted",
                         quantity=-self.random.randrange(1, 20000))
        if self.random.random() < 0.03:
            old = self.random.choice(self.old_times).timestamp()
            event.update(meter=OLD_METER, timestamp=int((old + 3600 * self.random.random()) * 1000))
        event["policy_metadata"] = {"plan_tier": PLANS[int(event["customer_id"][2:]) % len(PLANS)]}
        return event

    def records(self, count):
        """At times a burst, for which a batch takes long."""
        if self.random.random() < BURSTS:
            count *= 40
        for value, where in super().records(count):
            if isinstance(value, bytes):
                yield value, where
            elif self.random.random() < 0.003:
                yield json.dumps(value).encode(), {"key": self.random.choice(self.customers)}
            else:
                yield self._otherwise(value), where

    def _otherwise(self, value):
        dice = self.random.random()
        if dice < 0.01 and self.long_ago:
            return self.random.choice(self.long_ago)
        if len(self.long_ago) < KEPT:
            self.long_ago.append(value)
        elif dice < 0.05:
            self.long_ago[self.random.randrange(KEPT)] = value
        return value
