"""usagebox processes that die, sleep, leave and come, and whose clocks step."""
import signal

from fault import Fault


class OfSlots(Fault):
    def __init__(self, field):
        super().__init__(field)
        self.targets = len(field.crew.slots)

    def holds(self, target):
        return (f"slot-{target}",)


class Kill9(OfSlots):
    name, weight = "usagebox killed", 3
    least_s, most_s = 0.05, 4

    def begin(self, target, dice):
        return self.field.crew.kill9(target)

    def end(self, target):
        self.field.crew.start(target)


class ComeOrGo(OfSlots):
    name, weight, after_s = "usagebox joins or leaves", 2, 3

    def begin(self, target, dice):
        crew = self.field.crew
        others = len(crew.running()) - 1
        return crew.start(target) or (others > 0 and crew.terminate(target))


class Hurry(OfSlots):
    """The second signal does not wait for what the first one began."""
    name, weight = "usagebox told twice to stop", 0.5
    least_s, most_s = 0.05, 1

    def begin(self, target, dice):
        return self.field.crew.terminate(target, twice=True)

    def end(self, target):
        self.field.crew.start(target)


class Nap(OfSlots):
    name, weight = "usagebox stopped for a moment", 2
    least_s, most_s = 0.05, 1.5

    def begin(self, target, dice):
        return self.field.crew.signal(target, signal.SIGSTOP)

    def end(self, target):
        self.field.crew.signal(target, signal.SIGCONT)


class Coma(Nap):
    """Its lanes have another owner when it wakes."""
    name, weight = "usagebox stopped past max.poll.interval", 1.5
    least_s, most_s = 7, 10


class ClockStep(OfSlots):
    """Less than events may lie in the future backwards; forwards at times over the end of an hour."""
    name, weight = "clock stepped", 2

    def holds(self, target):
        return (f"clock-{target}",)

    def begin(self, target, dice):
        self.field.crew.clocks[target].set_ahead(dice.choice([0, -1, 1, -5, 7, -60, 90, -240, 900]))


def kinds(field):
    return [kind(field) for kind in (Kill9, ComeOrGo, Hurry, Nap, Coma, ClockStep)]
