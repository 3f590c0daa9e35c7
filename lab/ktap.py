# SPDX-License-Identifier: GPL-2.0-only
"""Results of tests, by the parser of the kernel that is tested; the lists of lab/expect."""
import importlib
import inspect
import io
import re
import sys

# The name under which parse() says what is wrong with the whole output.
WHOLE = "KTAP"


def parse(tree, text):
    """{name: (verdict, why)} of all tests in a program's output or a console.

    tree: a kernel's source; its tools/testing/kunit/kunit_parser.py reads the text. The first
    tree's parser is used for all of a process. verdict: pass, fail or skip; why: what was seen.
    Names of nested tests are joined by ".". A crash, a missing plan, another number of tests
    than planned, a name that is there twice and no test at all are failures.
    """
    folder = f"{tree}/tools/testing/kunit"
    if folder not in sys.path:
        sys.path.append(folder)
    parser = importlib.import_module("kunit_parser")
    # Guests count on the way and print their plan last, which TAP allows and the parser does not.
    text = re.sub(r"^(K?TAP version \d+\n)((?:(?!1\.\.\d).*\n)*)(1\.\.\d+\n)\s*\Z", r"\1\3\2", text,
                  flags=re.M)
    said = io.StringIO()
    lines = parser.extract_tap_lines(text.splitlines())
    if not lines:
        return {WHOLE: ("fail", "no KTAP at all")}
    printer = sys.modules["kunit_printer"].Printer(output=said)
    if "printer" in inspect.signature(parser.parse_test).parameters:
        main = parser.parse_test(lines, 0, [], False, printer)
    else:
        # 6.12 has one for all.
        parser.stdout = printer
        main = parser.parse_test(lines, 0, [], False)
    wrong = re.findall(r"\[ERROR\] (.*)", said.getvalue())
    wrong += [f"more than planned: {line}" for line in lines if parser.TEST_RESULT.match(line)]
    wrong += [f"no plan: {test.name}" for test in (main, *main.subtests)
              if test.expected_count is None and (test is main or test.subtests)]
    seen = dict(re.findall(r"\bok \d+ (?:- )?([^#\n]+?) # (.*)", text))
    status, found = parser.TestStatus, {}

    def walk(tests, prefix):
        for number, test in enumerate(tests, 1):
            # "ok 1 # SKIP NAME (why)" is kselftest.h's, "ok 1 NAME # SKIP why" everybody's.
            skipped = getattr(test, "skip_reason", "")
            name = prefix + (test.name or skipped.partition(" (")[0] or f"test {number}")
            verdict = {status.SUCCESS: "pass", status.SKIPPED: "skip"}.get(test.status, "fail")
            why = skipped or seen.get(test.name) or " ".join(test.log[-3:])
            if verdict == "pass" and test.counts.errors:
                verdict, why = "fail", "; ".join(wrong)
            if name in found:
                verdict, why = "fail", "more than one result"
            found[name] = verdict, why
            walk(test.subtests, f"{name}.")
    walk(main.subtests, "")
    if wrong:
        found[WHOLE] = "fail", "; ".join(wrong)
    return found


def lines_of(path):
    """The lines of a list, in order, without empty ones and comments."""
    with open(path, encoding="utf-8") as f:
        return [line.strip() for line in f if line.strip() and line[0] != "#"]


def for_arch(path, arch):
    """The TEXTs for ARCH of a list of "ARCH...: TEXT", in order."""
    rows = [line.partition(": ") for line in lines_of(path)]
    return [text for archs, _, text in rows if arch in archs.split()]
