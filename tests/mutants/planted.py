"""The lists of mutants, *.txt here. A mutant reads:

    == NAME
    file: consumer/intake.c
    why: one line: why somebody could write that
    tests: unit/test_batch simulate server/test_counting.py::test_x     (left out: those of the list's first line)
    -    the line as it is
    +    the line as the mutant has it
         lines with neither sign are there in both; a line of @@ begins another place

The text as it is must stand exactly once in the file: a mutant that does not is an error of the list."""
import dataclasses
import pathlib

HERE = pathlib.Path(__file__).resolve().parent


class ListError(Exception):
    """The list is wrong, or does not fit the code any more."""


@dataclasses.dataclass
class Mutant:
    name: str
    file: str = ""
    why: str = ""
    tests: list = dataclasses.field(default_factory=list)  # from cheap to dear
    places: list = dataclasses.field(default_factory=lambda: [("", "")])  # (before, after)

    def add_line(self, line):
        before, after = self.places[-1]
        sign, text = line[:1], line[1:] + "\n"
        if line == "@@":
            self.places.append(("", ""))
        elif sign in ("-", "+", " "):
            self.places[-1] = (before + text * (sign != "+"), after + text * (sign != "-"))
        elif line.strip():
            raise ListError(f"{self.name}: what is {line!r}?")

    def apply(self, root):
        """The file with the bug in it."""
        path = root / self.file
        if not self.file or not path.is_file():
            raise ListError(f"{self.name}: there is no file {self.file!r}")
        text = path.read_text()
        for before, after in self.places:
            if before == after or not before:
                raise ListError(f"{self.name}: it changes nothing")
            if text.count(before) != 1:
                raise ListError(f"{self.name}: stands {text.count(before)} times in {self.file}:\n{before}")
            text = text.replace(before, after)
        return text


def read_list(path):
    mutants, tests = [], []
    for line in path.read_text().splitlines():
        key, _, value = line.partition(": ")
        if line.startswith("== "):
            mutants.append(Mutant(line[3:], tests=tests))
        elif line.startswith("#"):
            continue
        elif not mutants:
            tests = value.split() if key == "tests" else tests
        elif key == "tests":
            mutants[-1].tests = value.split()
        elif key in ("file", "why"):
            setattr(mutants[-1], key, value)
        else:
            mutants[-1].add_line(line)
    return mutants


def read_lists():
    mutants = [mutant for path in sorted(HERE.glob("*.txt")) for mutant in read_list(path)]
    names = [mutant.name for mutant in mutants]
    for mutant in mutants:
        if not mutant.why or not mutant.tests or names.count(mutant.name) > 1:
            raise ListError(f"{mutant.name}: needs a name of its own, a why, and tests")
    return mutants
