"""Usage as producers send it: skewed customers, agent runs, several meters and models, repeats, late ones, broken
ones. The same seed gives the same records."""
import json
import random
import time
import uuid

METERS = ["llm_tokens_in", "llm_tokens_out", "gpu_minutes", "tool_calls"]
MODELS = ["claude-4.5-sonnet", "gpt-5", "llama-4-70b", ""]
BROKEN = [b"", b"{", b"[1]", b'{"event_id":"x"}', b"\xff\xfe", b'{"event_id":"x","customer_id":"c-1","meter":"m","quantity":"NaN"}',
          b'{"event_id":"x","customer_id":"c-1","meter":"m","quantity":-5}', b'{"a":1,"a":2}']


class Workload:
    def __init__(self, seed, customers=50, duplicates=0.01, late=0.01, bad=0.005, spread_s=3600):
        self.random = random.Random(seed)
        self.customers = [f"c-{n}" for n in range(customers)]
        self.weights = [1 / (n + 1) for n in range(customers)]
        self.duplicates, self.late, self.bad, self.spread_s = duplicates, late, bad, spread_s
        self.now_s = time.time()
        self.count = 0
        self.recent = []

    def event(self, **more):
        self.count += 1
        age_s = self.random.random() * self.spread_s
        if self.random.random() < self.late:
            age_s = self.random.random() * 30 * 3600
        run = self.count // 20
        quantity = self.random.choice([self.random.randrange(1, 20000), f"{self.random.randrange(1, 10**9)}e-6", "0.000000001"])
        event = {
            "event_id": str(uuid.UUID(int=self.random.getrandbits(128))),
            "customer_id": self.random.choices(self.customers, self.weights)[0],
            "meter": self.random.choice(METERS),
            "quantity": quantity,
            "timestamp": int((self.now_s - age_s) * 1000),
            "model": self.random.choice(MODELS),
            "metadata": {"run_id": f"run-{run}", "agent_id": f"agent-{run % 7}", "operation": "chat", "note": "é ☃ \" \\"},
        }
        event.update(more)
        return event

    def records(self, count):
        """(value, arguments of send) of so many records."""
        for _ in range(count):
            dice = self.random.random()
            if dice < self.bad:
                yield self.random.choice(BROKEN), {"key": self.random.choice(self.customers)}
            elif dice < self.bad + self.duplicates and self.recent:
                yield self._repeat(), {}
            else:
                event = self.event()
                self.recent = self.recent[-200:] + [event]
                yield event, {}

    def _repeat(self):
        event = dict(self.random.choice(self.recent))
        if self.random.random() < 0.2:
            event["quantity"] = 7777
        return event


def send(producer, workload, count):
    for value, where in workload.records(count):
        if isinstance(value, bytes):
            producer.send(value, **where)
        else:
            producer.send(json.dumps(value).encode(), key=value["customer_id"], **where)
