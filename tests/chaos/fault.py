"""What all faults have in common."""


class Broken(Exception):
    """A promise is: no fault excuses it."""


class Fault:
    name = ""
    weight = 1.0
    least_s, most_s = 0.0, 0.0  # between beginning and end
    after_s = 0.5  # what it held is left alone for so long
    targets = 1

    def __init__(self, field):
        self.field = field

    def holds(self, target):
        """Names of what no other fault touches meanwhile."""
        return ()

    def begin(self, target, dice):
        """False: there was nothing to do it to."""
        raise NotImplementedError

    def end(self, target):
        """After a beginning that was not False."""
