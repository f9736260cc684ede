"""Fixtures: `scene` is what most tests want; `make_scene` builds one to measure; `stack` is Kafka and PostgreSQL,
shared by all tests of a session (USAGEBOX_TEST_STACK=DIR reuses one made by deploy/stack.sh)."""
import signal

import pytest
from harness import Scene
from stack import Stack, tail_of

# kill ends a session as Ctrl-C does: what was started is stopped
signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def stack():
    the_stack = Stack.for_session()
    yield the_stack
    the_stack.close()


@pytest.fixture
def make_scene(request, stack, tmp_path):
    """Builds scenes by Scene's arguments; all end with the test."""
    stack.ensure_running()
    scenes = request.node.scenes = []

    def make(**arguments):
        directory = tmp_path / f"scene-{len(scenes) + 1}"
        directory.mkdir()
        scenes.append(Scene(stack, directory, **arguments))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()


@pytest.fixture
def scene(make_scene):
    return make_scene()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of each log that may explain it."""
    report = (yield).get_result()
    if report.passed or report.skipped:
        return
    for scene in getattr(item, "scenes", []):
        for process in scene.usagebox.processes:
            report.sections.append((f"end of {process.log_path}", tail_of(process.log_path)))
    stack = item.funcargs.get("stack") if hasattr(item, "funcargs") else None
    for name, path in stack.logs().items() if stack else ():
        report.sections.append((f"end of {name}'s log", tail_of(path, 20)))
