"""A clock for usagebox that a test moves."""
import mmap
import struct
import subprocess
import time

from stack import ROOT


class MovedClock:
    """env: for Usagebox.start(). Starts with the true time."""

    def __init__(self, directory):
        library, path = directory / "moved_clock.so", directory / "clock"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", library,
                        ROOT / "tests/integration/moved_clock.c"], check=True)
        path.write_bytes(struct.pack("q", 0))
        with open(path, "r+b") as file:
            self._ahead = mmap.mmap(file.fileno(), 8)
        self.env = {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(path)}

    def now_s(self):
        return time.time() + self._ahead_s()

    def move_to(self, now_s):
        """Forwards."""
        ahead_s = int(now_s - time.time()) + 1
        assert ahead_s >= self._ahead_s()
        self.set_ahead(ahead_s)

    def set_ahead(self, ahead_s):
        """Of the true time; backwards too."""
        self._ahead[:] = struct.pack("q", ahead_s)

    def _ahead_s(self):
        return struct.unpack("q", self._ahead[:])[0]
