"""Running ./usagebox: commands to their end, and `run` in the background."""
import ctypes
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request

from stack import ROOT, tail_of, wait_until

BINARY = pathlib.Path(os.environ.get("USAGEBOX", ROOT / "usagebox")).resolve()
PR_SET_PDEATHSIG = 1


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def write_config(path, tree):
    """YAML that a person might have written, from nested dicts, lists and scalars. Who reads it meanwhile has the old
    one or the new one."""
    path = pathlib.Path(path)
    new = path.with_name(path.name + ".new")
    new.write_text("".join(f"{line}\n" for line in _yaml(tree)))
    new.replace(path)


def _yaml(tree, indent=""):
    for key, node in tree.items():
        if isinstance(node, dict) and node:
            yield f"{indent}{key}:"
            yield from _yaml(node, indent + "  ")
        else:
            yield f"{indent}{key}: {_inline(node)}"


def _inline(node):
    if isinstance(node, dict):
        return "{" + ", ".join(f"{key}: {_inline(value)}" for key, value in node.items()) + "}"
    if isinstance(node, (list, tuple)):
        return "[" + ", ".join(map(_inline, node)) + "]"
    if isinstance(node, bool):
        return "true" if node else "false"
    plain = isinstance(node, int) or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", str(node))
    return str(node) if plain else json.dumps(str(node), ensure_ascii=False)


class Usagebox:
    """The program with one configuration file. Each process gets an HTTP port of its own."""

    def __init__(self, config_path, log_directory):
        self.config_path = config_path
        self.log_directory = pathlib.Path(log_directory)
        self.processes = []

    def command(self, *arguments, stdin=None, check=True, timeout_s=300, env=None):
        """Runs a command to its end; stdout and stderr are text. stdin: text or bytes."""
        assert BINARY.exists(), f"{BINARY} is not there: run make"
        stdin = stdin.encode() if isinstance(stdin, str) else stdin or b""
        done = subprocess.run(self._line(arguments), input=stdin, capture_output=True, timeout=timeout_s,
                              env={**os.environ, **(env or {})}, check=False)
        done.stdout, done.stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert not check or done.returncode == 0, \
            f"usagebox {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}{done.stdout}"
        return done

    def start(self, *arguments, env=None, ready=True):
        """Starts `run` (or another command) in the background; waits until it is ready unless told not to."""
        number = len(self.processes) + 1
        process = Process(self._line(arguments or ("run",)), self.log_directory / f"usagebox-{number}.log", env or {})
        self.processes.append(process)
        return process.wait_ready() if ready else process

    def stop_all(self):
        for process in self.processes:
            process.kill9()

    def _line(self, arguments):
        name, *rest = map(str, arguments)
        return [str(BINARY), name, "-c", str(self.config_path), *rest]


class Process:
    def __init__(self, line, log_path, env):
        assert BINARY.exists(), f"{BINARY} is not there: run make"
        self.log_path = log_path
        self.http_address = f"127.0.0.1:{free_port()}"
        libc = ctypes.CDLL(None)
        with open(log_path, "wb") as log:
            # dies with the tests, however they end
            self._child = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "USAGEBOX_HTTP_LISTEN": self.http_address, **env},
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.pid = self._child.pid

    def is_alive(self):
        return self._child.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_log(self, pattern, timeout_s=30):
        """Waits for a line that the pattern matches; returns the match."""
        return wait_until(lambda: self._assert_alive() and re.search(pattern, self.log()), timeout_s,
                          f"{pattern!r} in {self.log_path}")

    def http(self, path, timeout_s=5):
        """Status and body, whatever the status."""
        try:
            with urllib.request.urlopen(f"http://{self.http_address}{path}", timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self):
        """{'name{label="x"}': float}."""
        status, body = self.http("/metrics")
        assert status == 200, body
        lines = (line.rsplit(" ", 1) for line in body.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def wait_ready(self, timeout_s=60):
        wait_until(lambda: self._assert_alive() and self.http("/readyz")[0] == 200, timeout_s,
                   f"/readyz of process {self.pid}")
        return self

    def wait(self, timeout_s=180):
        """The exit code; negative: ended by that signal."""
        return self._child.wait(timeout_s)

    def signal(self, number):
        if self.is_alive():
            self._child.send_signal(number)

    def terminate(self, timeout_s=180):
        """SIGTERM, then the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill9(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def sigstop(self):
        self.signal(signal.SIGSTOP)

    def sigcont(self):
        self.signal(signal.SIGCONT)

    def _assert_alive(self):
        code = self._child.poll()
        assert code is None, f"usagebox ended with {code}:\n{tail_of(self.log_path)}"
        return True
