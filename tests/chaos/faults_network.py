"""Connections, by way of the proxy. The first links lead to PostgreSQL, one from each process, the others to brokers."""
from fault import Fault


class OfLinks(Fault):
    least_s, most_s = 0.3, 4

    def __init__(self, field, name, mode, weight=0.8, longest_s=None, **order):
        super().__init__(field)
        self.name, self.mode, self.weight, self.order = name, mode, weight, order
        self.links = list(field.links.ports)
        self.targets = len(self.links)
        self.most_s = longest_s or self.most_s

    def holds(self, target):
        return (self.links[target],)

    def begin(self, target, dice):
        order = {key: dice.choice(value) for key, value in self.order.items()}
        self.field.links.order(self.links[target], self.mode, **order)

    def end(self, target):
        self.field.links.order(self.links[target], "clear")


class OfStoreLinks(OfLinks):
    """Of those to PostgreSQL alone."""

    def __init__(self, *arguments, **order):
        super().__init__(*arguments, **order)
        self.targets = len(self.field.crew.slots)


def kinds(field):
    return [OfLinks(field, "connections delayed", "delay", delay_s=[0.02, 0.1, 0.5]),
            OfLinks(field, "connections stalled", "stall", longest_s=9),
            OfLinks(field, "connections black-holed", "hole", longest_s=9),
            OfLinks(field, "connections cut", "cut", weight=1.5, share=[0.5, 1]),
            OfLinks(field, "connections halved", "halve", weight=1.5, towards=["client", "server"]),
            OfLinks(field, "connections refused", "refuse"),
            OfStoreLinks(field, "COMMIT's answer cut off", "swallow", weight=2, text=["COMMIT\0"])]
