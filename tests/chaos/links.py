"""The proxy's other end: starting it, and giving it orders."""
import json
import pathlib
import subprocess
import sys


class Links:
    """ports: {name: (port to listen on, port of the server)}. Pieces that were under way are lost with close()."""

    def __init__(self, ports):
        self.ports = ports
        program = pathlib.Path(__file__).with_name("proxy.py")
        arguments = [f"{name}:{listen}:{server}" for name, (listen, server) in ports.items()]
        self._proxy = subprocess.Popen([sys.executable, str(program), *arguments], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        assert self._proxy.stdout.readline() == "ready\n"

    def order(self, link, mode, **more):
        """See proxy.py."""
        print(json.dumps({"link": link, "mode": mode, **more}), file=self._proxy.stdin, flush=True)

    def clear(self):
        for name in self.ports:
            self.order(name, "clear")

    def is_alive(self):
        return self._proxy.poll() is None

    def close(self):
        self._proxy.stdin.close()
        self._proxy.wait(10)
        self._proxy.stdout.close()
