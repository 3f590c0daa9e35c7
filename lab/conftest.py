# SPDX-License-Identifier: GPL-2.0-only
"""pytest's options, what it prints (a line a test, a matrix, one closing line), the memo of boots.

Lines that begin with "@ " are for the terminal of `make test`: what failed, was skipped or took
a second. All lines are in its log.
"""
import functools
import os
import re
import subprocess

import pytest

import guest

# The tests of guests that make a column of the matrix; the rest of an id is ARCH-NAME.
COLUMNS = {"test_builds": "builds", "test_boots": "boots", "test_behaviour": "behaviours",
           "test_kunit": "KUnit", "test_kselftest": "kselftest"}


def pytest_addoption(parser):
    with open("lab/config/archs", encoding="utf-8") as f:
        archs = " ".join(re.findall(r"^(\w+) ", f.read(), re.M))
    parser.addoption("--build", help="BUILD, with linux/, base/ and out/",
                     default=subprocess.check_output(["lab/tree.sh", "--name"], text=True).strip())
    parser.addoption("--arch", default=archs, help=f'of "{archs}"')


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    # Inside the build root another user may own the tree.
    os.environ.update(GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="safe.directory", GIT_CONFIG_VALUE_0="*")
    results = f"{config.getoption('--build')}/results"
    os.makedirs(results, exist_ok=True)
    config.option.xmlpath = config.option.xmlpath or f"{results}/junit.xml"
    for arch in config.getoption("--arch").split():
        guest.arch_facts(arch)


@pytest.fixture(scope="session")
def build(pytestconfig):
    """The path of BUILD."""
    return pytestconfig.getoption("--build")


@functools.cache
def boot(out, arch, *program, **how):
    """guest.run() with the kernel and guest of OUT, once in a process.

    A kernel that is not there is a failure, which names the log of its build."""
    if not os.path.exists(f"{out}/.complete"):
        build, _, name = out.partition("/out/")
        pytest.fail(f"no kernel, see {build}/logs/kernel-{name}.log", pytrace=False)
    how = {"timeout": 900, "silence": 300, "log": f"{out}/{'-'.join(program)}", **how}
    return guest.run(out, arch, list(program), **how)


def why(report):
    """Why a test failed or was skipped, in words."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash else report.longreprtext


def cell(reports):
    """The text of a cell of the matrix: the REPORTS of its tests, or none."""
    if not reports:
        return "not run"
    facts = [dict(report.user_properties) for report in reports]
    count = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for report, fact in zip(reports, facts):
        count[report.outcome] += fact.get("count", 1) if report.passed else 1
        count["skipped"] += fact.get("skipped", 0)
    seconds = sum(fact.get("seconds", report.duration) for report, fact in zip(reports, facts))
    words = [f"{n} {what}" for what, n in count.items() if n]
    return ", ".join(words).replace("failed", "FAILED") + f", {seconds:.0f} s"


def matrix(reports, archs):
    """Lines: architectures x COLUMNS."""
    cells = {(arch, name): [] for arch in archs for name in COLUMNS}
    for report in reports:
        found = re.search(r"::(\w+)\[(\w+)", report.nodeid)
        if found and (found[2], found[1]) in cells:
            cells[found[2], found[1]].append(report)
    rows = [("", *COLUMNS.values()),
            *((arch, *(cell(cells[arch, name]) for name in COLUMNS)) for arch in archs)]
    width = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(map(str.ljust, row, width)).rstrip() for row in rows]


@pytest.hookimpl(wrapper=True)
def pytest_report_teststatus():
    """No dots: pytest_runtest_logreport() below prints."""
    category, _, _ = yield
    return category, "", ""


def pytest_runtest_logreport(report):
    if os.environ.get("PYTEST_XDIST_WORKER") or (report.passed and report.when != "call"):
        return
    name = re.sub(r"^.*?::|@[\w-]+$", "", report.nodeid)
    mark = {"passed": "ok     ", "failed": "FAILED ", "skipped": "skipped"}[report.outcome]
    line = f"{mark} {name}" + (f" ({report.duration:.0f} s)" if report.duration >= 1 else "")
    if not report.passed:
        line += f": {why(report).splitlines()[0]}"
    print(("@ " if not report.passed or report.duration >= 1 else "") + line, flush=True)


def counts(config):
    """{category: reports}, errors among the failures."""
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    return {"passed": stats.get("passed", []), "skipped": stats.get("skipped", []),
            "failed": stats.get("failed", []) + stats.get("error", [])}


def pytest_terminal_summary(terminalreporter, config):
    reports = sum(counts(config).values(), [])
    lines = matrix(reports, config.getoption("--arch").split())
    with open(f"{config.getoption('--build')}/results/matrix.txt", "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    terminalreporter.write("".join(f"@ {line}\n" for line in ("", *lines, "")))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """No test that passed is a failure, too."""
    config = session.config
    if not hasattr(config, "workerinput") and not config.option.collectonly:
        count = counts(config)
        session.exitstatus = session.exitstatus or int(not count["passed"] or bool(count["failed"]))
        config.failed = max(len(count["failed"]), int(bool(session.exitstatus)))


def pytest_unconfigure(config):
    """The last line."""
    if hasattr(config, "failed"):
        count = counts(config)
        print(f"{len(count['passed'])} passed, {config.failed} failed, {len(count['skipped'])} skipped")
