"""The ceilings of a campaign: steady ones, whose every transition can be worked out from the events alone; hourly ones,
which the clock clears as well; one of a meter whose events belong to days that are sealed meanwhile, and so are counted
when PostgreSQL has answered; and one that people change under way."""
from enforcing import apply, ceiling
from traffic import OLD_METER

STEADY = [
    ceiling("day", 90_000, meter="llm_tokens_in", clear_level=60_000),
    ceiling("month", 40_000, meter="tool_calls", period="month", policy="alert"),
    ceiling("plan", 20_000, meter="llm_tokens_out", period="month", plan="pro", clear_level=0),
    ceiling("own", 100_000, meter="gpu_minutes", customer="c-1"),
]
HOURLY = [ceiling("hour", 10_000, meter="tool_calls", period="hour")]
OLD = [ceiling("old", 10_000, meter=OLD_METER, period="month")]
MOVING = "moving"


class Rules:
    def __init__(self, scene):
        self.scene = scene
        self.moving = [self._moving(50_000)]

    def _moving(self, limit):
        return ceiling(MOVING, limit, meter="gpu_minutes", period="month")

    @property
    def all(self):
        return STEADY + HOURLY + OLD + self.moving

    def apply(self):
        """Before anything runs."""
        apply(self.scene, *self.all)

    def change(self, dice):
        """False: the command failed, and so it may or may not have changed them."""
        limit = dice.choice([None, 0, 100, 1_000, 50_000, 200_000])
        self.moving = [] if limit is None else [self._moving(limit)]
        self.scene.configure({"ceilings": self.all})
        return self.scene.usagebox.command("ceilings", "apply", check=False).returncode == 0

    def settle(self):
        """Whatever became of the changes."""
        self.scene.configure({"ceilings": self.all})
        self.scene.usagebox.command("ceilings", "apply")
