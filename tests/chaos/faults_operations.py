"""What people and other processes do meanwhile: ceilings that change, days that are sealed, epochs raised under an
owner, late flags of a process that was replaced, transactions that are aborted, a look whether all is right."""
import re
import uuid

from enforcing import read_flags, say_late
from fault import Fault
from traffic import Traffic
from workload import send


class Apply(Fault):
    """Ceilings raised and lowered, or taken away."""
    name, weight = "ceilings changed", 2

    def holds(self, target):
        return ("config",)

    def begin(self, target, dice):
        return self.field.rules.change(dice)


class Seal(Fault):
    name, weight = "day sealed", 1

    def __init__(self, field):
        super().__init__(field)
        self.targets = len(field.old_days)

    def holds(self, target):
        return ("seal",)

    def begin(self, target, dice):
        day = self.field.old_days[target].date().isoformat()
        return self.field.scene.usagebox.command("seal", "--now", "--day", day, check=False).returncode == 0


class RaiseEpoch(Fault):
    """The owner commits nothing more, and has to take its lane over again."""
    name, weight = "epoch raised", 1

    def __init__(self, field):
        super().__init__(field)
        self.targets = field.scene.topics.partitions

    def holds(self, target):
        return ("pg",)

    def begin(self, target, dice):
        self.field.scene.query("UPDATE consumer_offset SET epoch = epoch + 1 WHERE kafka_partition = %s", target)


class LateFlag(Fault):
    name, weight = "late flag of a former owner", 1

    def holds(self, target):
        return ("broker-0", "broker-1", "broker-2")

    def begin(self, target, dice):
        flags = [flag for flag in read_flags(self.field.scene) if flag.value and flag.sequence[0] > 1]
        if flags:
            flag = dice.choice(flags)
            say_late(self.field.scene, flag, flag.sequence[0] - 1, flag.sequence[1] + 1000)
        return bool(flags)


class Transaction(Fault):
    """Aborted, or committed: records, a marker, and readers that wait for it meanwhile."""
    name, weight = "producer's transaction", 1

    def holds(self, target):
        return ("broker-0", "broker-1", "broker-2")

    def begin(self, target, dice):
        producer = self.field.scene.topics.producer(**{"transactional.id": str(uuid.uuid4())})
        producer.kafka.init_transactions(20)
        producer.kafka.begin_transaction()
        send(producer, Traffic(dice.random(), self.field.old_days), 50)
        producer.flush()
        end = dice.choice([producer.kafka.abort_transaction, producer.kafka.commit_transaction])
        end(20)


class Verify(Fault):
    """Beside the running pipeline."""
    name, weight = "verified meanwhile", 0.5

    def holds(self, target):
        return ("pg", "table")

    def begin(self, target, dice):
        done = self.field.scene.usagebox.command("verify", check=False)
        away = re.search(r"SQLSTATE (57P|53|58|55P03)|[Cc]onnection|server closed", done.stderr)
        if done.returncode != 0 and not away:
            self.field.fail(f"verify, while it runs:\n{done.stderr}{done.stdout}")
        return done.returncode == 0


def kinds(field):
    return [kind(field) for kind in (Apply, Seal, RaiseEpoch, LateFlag, Transaction, Verify)]
