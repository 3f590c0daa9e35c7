# SPDX-License-Identifier: GPL-2.0-only
"""pytest's options, what it prints (a line a test, a matrix, one closing line), helpers.

Lines that begin with "@ " are for the terminal of `make test`: what failed, was skipped or took
a second. All lines are in its log.
"""
import functools
import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest

import guest

# The tests of guests that make a column of the matrix; the rest of an id is ARCH-NAME.
COLUMNS = {"test_builds": "builds", "test_boots": "boots", "test_behaviour": "behaviours",
           "test_kunit": "KUnit", "test_kselftest": "kselftest"}


def pytest_addoption(parser):
    archs = " ".join(re.findall(r"^(\w+) ", Path("lab/config/archs").read_text("utf-8"), re.M))
    parser.addoption("--build", help="BUILD, with linux/, base/ and out/",
                     default=subprocess.check_output(["lab/tree.sh", "--name"], text=True).strip())
    parser.addoption("--arch", default=archs, help=f'of "{archs}"')


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    # Inside the build root another user may own the tree.
    os.environ.update(GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="safe.directory",
                      GIT_CONFIG_VALUE_0="*")
    results = f"{config.getoption('--build')}/results"
    os.makedirs(results, exist_ok=True)
    config.option.xmlpath = config.option.xmlpath or f"{results}/junit.xml"
    for arch in config.getoption("--arch").split():
        guest.arch_facts(arch)


@pytest.fixture(scope="session")
def build(pytestconfig):
    """The path of BUILD."""
    return pytestconfig.getoption("--build")


def run(*command, fails=False, **how):
    """stdout and stderr of a command; one that FAILS unexpectedly fails the test with them."""
    r = subprocess.run(command, text=True, errors="replace", check=False, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, **how)
    if r.returncode and not fails:
        pytest.fail(f"{' '.join(command)}: {r.returncode}\n{r.stdout[-3000:]}", pytrace=False)
    return r.stdout


def text_of(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def exceptions(top):
    """{name: reason} of ports/VERSION/except: what the version in TOP cannot have."""
    version = ".".join(re.findall(r"^(?:VERSION|PATCHLEVEL) = (\d+)$",
                                  text_of(f"{top}/base/Makefile"), re.M))
    path = f"ports/{version}/except"
    return dict(re.findall("^([^#].*?) # (.*)$", text_of(path) if os.path.exists(path) else "", re.M))


def assert_none(wrong):
    """WRONG: lines, one a mistake."""
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def kernel(top, arch, tree="series"):
    """The folder of a debug kernel; one that is not there fails the test."""
    name = f"{arch}-debug-{tree}"
    if not os.path.exists(f"{top}/out/{name}/.complete"):
        pytest.fail(f"no kernel, see {top}/logs/kernel-{name}.log", pytrace=False)
    return f"{top}/out/{name}"


@functools.cache
def boot(out, arch, *program, **how):
    """guest.run() with the kernel and guest of OUT, once in a process."""
    how = {"timeout": 900, "silence": 300, "log": f"{out}/{'-'.join(program)}", **how}
    return guest.run(out, arch, list(program), **how)


def build_kernel(top, arch, **env):
    """lab/build.sh: the debug kernel of what TOP/linux has checked out; returns its folder."""
    run("lab/build.sh", top, arch, "debug", "series", env={**os.environ, **env})
    return f"{top}/out/{arch}-debug-series"


@functools.cache
def programs():
    """What a kept result depends on beside its kernel."""
    files = [*Path("lab/config").iterdir(), *Path("lab/guest").rglob("*.[ch]"),
             *Path("lab/expect").iterdir(), *Path("lab").glob("*.py"), Path("lab/build.sh")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


def kept(config, words, make):
    """What make() returns, or has returned in an earlier run for the same WORDS."""
    key = f"vfr/{hashlib.sha256(repr((programs(), words)).encode()).hexdigest()}"
    result = config.cache.get(key, None)
    if result is None:
        result = make()
        config.cache.set(key, result)
    return result


def why(report):
    """Why a test failed or was skipped, or what it says of itself, in a line."""
    if report.passed:
        return dict(report.user_properties).get("why", "")
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else report.longreprtext).splitlines()[0]


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
    slow = f" ({report.duration:.0f} s)" if report.duration >= 1 else ""
    said = f": {why(report)}" if why(report) else ""
    print(f"{'@ ' if slow or not report.passed else ''}{mark} {name}{slow}{said}", flush=True)


def cell(reports):
    """The text of a cell of the matrix: the REPORTS of its tests, or none."""
    count, seconds = dict.fromkeys(("passed", "failed", "skipped"), 0), 0
    for report in reports:
        facts = dict(report.user_properties)
        count[report.outcome] += facts.get("count", 1) if report.passed else 1
        count["skipped"] += facts.get("skipped", 0)
        seconds += facts.get("seconds", report.duration)
    words = ", ".join(f"{n} {what}" for what, n in count.items() if n)
    return f"{words.replace('failed', 'FAILED')}, {seconds:.0f} s" if reports else "not run"


def matrix(reports, archs):
    """Lines: architectures x COLUMNS; none if no test of COLUMNS ran."""
    rows = [("", *COLUMNS.values())]
    for arch in archs:
        ids = [re.compile(rf"::{name}\[{arch}[-@\]]") for name in COLUMNS]
        rows.append((arch, *(cell([r for r in reports if i.search(r.nodeid)]) for i in ids)))
    if {text for _, *cells in rows[1:] for text in cells} == {"not run"}:
        return []
    width = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(map(str.ljust, row, width)).rstrip() for row in rows]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """Behind all others: the matrix, and the last line. No test that passed is a failure, too."""
    yield
    if config.option.collectonly:
        return
    passed, skipped, failed, error = (terminalreporter.stats.get(category, []) for category in
                                      ("passed", "skipped", "failed", "error"))
    lines = matrix(passed + skipped + failed + error, config.getoption("--arch").split())
    if lines:
        path = Path(config.getoption("--build"), "results/matrix.txt")
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        terminalreporter.write("".join(f"@ {line}\n" for line in ("", *lines, "")))
    wrong = max(len(failed + error), int(exitstatus != 0 or not passed))
    config.pluginmanager.get_plugin("session").exitstatus = exitstatus or int(wrong != 0)
    terminalreporter.write_line(f"{len(passed)} passed, {wrong} failed, {len(skipped)} skipped")
