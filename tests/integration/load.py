"""Records that keep coming while a test does something to who reads them."""
import threading

from stack import wait_until
from workload import Workload, send


class Load:
    """Produces in the background, so that there is always something under way. Its records when it has ended."""

    def __init__(self, scene, seed=0, chunk=400, pause_s=0.05, workload=None):
        self.scene, self.workload, self.chunk, self.pause_s = scene, workload or Workload(seed=seed), chunk, pause_s
        self.records, self.failure = [], None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join()
        if self.failure:
            raise self.failure

    def _run(self):
        # else a record whose acknowledgement is lost lies in the log twice, once where nobody knows of it
        producer = self.scene.topics.producer(**{"enable.idempotence": True, "socket.timeout.ms": 10000})
        try:
            while not self._ends.wait(self.pause_s):
                send(producer, self.workload, self.chunk)
                self.records += producer.flush(timeout_s=180)  # brokers may be away for a while
        except Exception as error:  # it is the test's to tell
            self.failure = error


def batches(scene):
    return scene.value("SELECT count(DISTINCT batch_id) FROM batch_ledger")


def wait_progress(scene):
    """At least one more batch."""
    before = batches(scene)
    wait_until(lambda: batches(scene) > before, 30, "another batch")
