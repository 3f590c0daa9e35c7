#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The tests behind `make test`, after the kernels are built.

    test.py BUILD ARCH...

Prints a line a test as it ends, a table of the behaviours (series beside base),
the matrix of the architectures and "N passed, N failed, N skipped". Leaves the
results as JUnit XML in BUILD/results/junit.xml, the matrix in matrix.txt beside
it. Exits non-zero when anything failed or is missing.
"""
import collections
import concurrent.futures
import fnmatch
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import xml.etree.ElementTree as ET

import audit
import guest

SPARSE = "/vfr/scripts/sparse.sh"

# The architecture to compile drivers for, see config/drivers.config.
DRIVERS = "arm64"
DRIVER_OBJECTS = ["drivers/gpu/drm/panthor/panthor_gem.o"]

# The architecture whose base kernel is tested, too.
BASE_ARCH = "x86_64"


COLUMNS = ("builds", "boots", "behaviours", "integrity", "KUnit", "kselftest")


class Tests:
    """Collects results; prints each one when it is there. Threads may share it."""

    def __init__(self, results):
        self.results = []
        self.cells = collections.defaultdict(dict)
        self.dir = results
        self.lock = threading.Lock()

    def add(self, name, verdict, why="", seconds=0.0):
        """verdict: pass, fail or skip; why: needed for the last two."""
        mark = {"pass": "ok     ", "fail": "FAILED ", "skip": "skipped"}[verdict]
        with self.lock:
            self.results.append((name, verdict, why, seconds))
            print(f"@ {mark} {name}" + (f" ({seconds:.0f} s)" if seconds >= 1 else "") +
                  (f": {why}" if why else ""), flush=True)

    def cell(self, arch, column, text, seconds=0.0):
        """A cell of the matrix at the end."""
        self.cells[arch][column] = text + (f" {seconds:.0f} s" if seconds else "")

    def run(self, name, func, *args):
        """func returns an error text, "" for a pass, or (skip, why)."""
        start = time.monotonic()
        try:
            r = func(*args)
        except subprocess.CalledProcessError as e:
            r = f"{e}: {(e.stderr or e.stdout or '')[-500:]}"
        seconds = time.monotonic() - start
        if isinstance(r, tuple):
            self.add(name, "skip", r[1], seconds)
        else:
            self.add(name, "fail" if r else "pass", r, seconds)
        return not r

    def junit(self):
        """What continuous integration systems read: a suite an architecture."""
        root = ET.Element("testsuites")
        groups = collections.defaultdict(list)
        for name, *rest in self.results:
            group, _, name = name.partition(": ")
            groups[group].append((name, *rest))
        for group, tests in groups.items():
            suite = ET.SubElement(
                root, "testsuite", name=group, tests=str(len(tests)),
                failures=str(sum(v == "fail" for _, v, *_ in tests)),
                skipped=str(sum(v == "skip" for _, v, *_ in tests)),
                time=f"{sum(s for *_, s in tests):.1f}")
            for name, verdict, why, seconds in tests:
                case = ET.SubElement(suite, "testcase", classname=group, name=name,
                                     time=f"{seconds:.1f}")
                # What XML cannot hold, a guest may have sent.
                why = re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd]", "?", why)
                if verdict == "fail":
                    ET.SubElement(case, "failure", message=why.partition("\n")[0]).text = why
                elif verdict == "skip":
                    ET.SubElement(case, "skipped", message=why)
        ET.ElementTree(root).write(f"{self.dir}/junit.xml", encoding="utf-8",
                                   xml_declaration=True)

    def matrix(self, archs):
        rows = [("", *COLUMNS), *((a, *(self.cells[a].get(c, "FAILED") for c in COLUMNS))
                                  for a in archs)]
        width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        text = "\n".join("  ".join(c.ljust(w) for c, w in zip(r, width)).rstrip() for r in rows)
        with open(f"{self.dir}/matrix.txt", "w", encoding="utf-8") as f:
            f.write(text + "\n")
        print("@")
        for line in text.splitlines():
            print("@ " + line)
        print("@", flush=True)

    def finish(self):
        count = collections.Counter(v for _, v, *_ in self.results)
        self.junit()
        print(f"{count['pass']} passed, {count['fail']} failed, {count['skip']} skipped")
        return 1 if count["fail"] or not count["pass"] else 0


def sh(*cmd, **kw):
    """Run a command, return its stdout; raises when it fails."""
    return subprocess.run(cmd, check=True, capture_output=True, text=True,
                          errors="replace", **kw).stdout


def lines_of(path):
    with open(path, encoding="utf-8") as f:
        return [line.strip() for line in f if line.strip() and not line.startswith("#")]


# ---- the series as patches ----

def patches(folders=("fixes", "patches")):
    """In the order in which they apply, without the cover letter."""
    return [p for d in folders for p in sorted(glob.glob(f"{d}/*.patch")) if "/0000-" not in p]


def test_am(build):
    """All patches apply with git am to the base, in a clone of their own."""
    with tempfile.TemporaryDirectory(dir=build) as tmp:
        git = ("git", "-C", tmp)
        sh("git", "clone", "-q", "--shared", "--branch", "base", f"{build}/linux", tmp)
        sh(*git, "-c", "user.name=test", "-c", "user.email=test@localhost", "am", "-q",
           *(os.path.abspath(p) for p in patches()))
        got = sh(*git, "rev-parse", "HEAD^{tree}")
    want = sh("git", "-C", f"{build}/linux", "rev-parse", "series^{tree}")
    return "" if got == want else "the result is not the tree that was built"


def test_regenerated(build, pinned):
    with tempfile.TemporaryDirectory() as tmp:
        sh("scripts/series.sh", build, tmp)
        old, new = ({os.path.relpath(p, d): open(p, encoding="utf-8").read()
                     for p in glob.glob(f"{d}/fixes/*") + glob.glob(f"{d}/patches/*")}
                    for d in (".", tmp))
    if pinned:
        bad = sorted(n for n in {*old, *new} if old.get(n) != new.get(n))
        return f"make series would change {' '.join(bad)}" if bad else ""

    def ids(texts):
        return [sh("git", "patch-id", "--stable", input=t).split()[:1]
                for _, t in sorted(texts.items())]
    if ids(old) != ids(new):
        return "the patch-ids differ"
    return "skip", "another base than the pinned one: the patch-ids are equal, the bytes were not compared"


def test_checkpatch(build, patch):
    r = subprocess.run(["perl", "scripts/checkpatch.pl", "--strict", "--codespell",
                        "--show-types", os.path.abspath(patch)],
                       cwd=f"{build}/linux", capture_output=True, text=True, check=False)
    if "lines checked" not in r.stdout:
        return "checkpatch did not run: " + r.stdout[-300:] + r.stderr[-300:]
    found = re.findall(r"^(?:ERROR|WARNING|CHECK):(\w+): .*", r.stdout, re.M)
    # The commits of Fixes: lines are not in our tree, which has no history.
    bad = [t for t in found if t not in ("MISSING_SIGN_OFF", "UNKNOWN_COMMIT_ID")]
    return f"{' '.join(bad)}:\n{r.stdout}" if bad else ""


def test_trailers(patch):
    text = open(patch, encoding="utf-8").read().split("\n---\n")[0]
    for bad in ("Signed-off-by", "Acked-by", "Reviewed-by", "Tested-by"):
        if re.search(rf"^{bad}:", text, re.M):
            return f"carries a {bad} that nobody gave"
    for need in ("Assisted-by: LLM", *(["Fixes: "] if patch.startswith("fixes/") else [])):
        if not re.search(rf"^{need}", text, re.M):
            return f"has no '{need}'"
    return ""


def test_cover():
    text = open("patches/0000-cover-letter.patch", encoding="utf-8").read()
    if "*** " in text or "BLURB HERE" in text:
        return "is a template"
    return "" if "Linux 7.3" in text else "names no base"


def test_recipients(build):
    """The cover letter's Cc: lines are what get_maintainer.pl says."""
    said = sh("perl", "scripts/get_maintainer.pl", "--no-git", "--no-git-fallback", "--norolestats",
              *(os.path.abspath(p) for p in patches(["patches"])),
              cwd=f"{build}/linux").splitlines()
    with open("patches/0000-cover-letter.patch", encoding="utf-8") as f:
        ours = re.findall(r"^Cc: (.*)$", f.read(), re.M)
    return "\n".join([f"left out: {a}" for a in said if a not in ours] +
                     [f"not said: {a}" for a in ours if a not in said])


def test_audit(build):
    return "\n".join(audit.check(f"{build}/base"))


def test_audit_fails(build):
    """A new producer, a new handler and a function that is gone are all found."""
    with tempfile.TemporaryDirectory() as tmp:
        for file, _ in audit.table("audit/retry.md"):
            os.makedirs(os.path.dirname(f"{tmp}/{file}"), exist_ok=True)
            shutil.copy(f"{build}/base/{file}", f"{tmp}/{file}")
        os.makedirs(f"{tmp}/drivers/new")
        with open(f"{tmp}/drivers/new/new.c", "w", encoding="utf-8") as f:
            f.write("static vm_fault_t new_fault(struct vm_fault *vmf)\n{\n"
                    "\treturn VM_FAULT_RETRY;\n}\n\n"
                    "static const struct vm_operations_struct new_ops = {\n"
                    "\t.huge_fault = other_fault,\n};\n")
        os.rename(f"{tmp}/mm/hmm.c", f"{tmp}/mm/hmm2.c")
        wrong = "\n".join(audit.check(tmp))
    missed = [w for w in ("drivers/new/new.c:new_fault: takes part", "other_fault (drivers/new/new.c)",
                          "mm/hmm.c:hmm_do_fault: has a row") if w not in wrong]
    return f"not found: {missed}" if missed else ""


# ---- the steps ----

def test_one_run(build):
    """A second run in one clone is refused; a step ends with its make, and so does its job."""
    with tempfile.TemporaryDirectory(dir=build) as tmp:
        shutil.copytree("scripts", f"{tmp}/scripts")

        def step(make, job):
            return subprocess.Popen(["scripts/step.sh", "step", "build/log", "step", "sh", "-c", job],
                                    cwd=tmp, env={**os.environ, "VFR_RUN": str(make)}, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with subprocess.Popen(["sleep", "1000"]) as make, \
                step(make.pid, "echo $$ > build/job; sleep 1000") as first:
            try:
                while first.poll() is None and not os.path.exists(f"{tmp}/build/job"):
                    time.sleep(0.05)
                with step(os.getpid(), "true") as other:
                    said = other.communicate(timeout=200)[0]
                if not other.returncode or "another run is at work in this clone" not in said:
                    return f"a second run is not refused: {said}"
                make.kill()
                make.wait()
                said = first.communicate(timeout=200)[0]
                job = int(lines_of(f"{tmp}/build/job")[0])
                if "interrupted" not in said or os.path.exists(f"/proc/{job}"):
                    return f"a step lives on without its make: {said}"
                for run in (None, "", f"{job} 1"):	# dead; a full disk's; the id is another's
                    if run is not None:
                        with open(f"{tmp}/build/.run", "w", encoding="utf-8") as f:
                            f.write(run)
                    with step(os.getpid(), "true") as other:
                        said = other.communicate(timeout=200)[0]
                    if other.returncode:
                        return f"after the run '{run}': {said}"
                return ""
            except subprocess.TimeoutExpired:
                return "a step lives on without its make, or a second run waits"
            finally:
                make.kill()
                first.terminate()


def test_series_killed(build):
    """Each folder is the old one or the new one when series.sh is killed behind any command."""
    folders = ("fixes", "patches")
    with tempfile.TemporaryDirectory(dir=build) as tmp:
        shutil.copytree("scripts", f"{tmp}/scripts")
        os.mkdir(f"{tmp}/patches")
        shutil.copy("patches/0000-cover-letter.patch", f"{tmp}/patches")
        git = ("git", "-C", f"{tmp}/build/linux", "-c", "user.name=a", "-c", "user.email=a@b")
        sh("git", "init", "-q", "-b", "base", f"{tmp}/build/linux")
        sh(*git, "commit", "-q", "--allow-empty", "-m", "base")
        sh(*git, "config", "branch.series.description", "A series\n\nText.")
        for branch, n in (("fixes", "1"), ("series", "2")):
            sh(*git, "checkout", "-q", "-b", branch)
            with open(f"{tmp}/build/linux/{n}", "w", encoding="utf-8") as f:
                f.write(n)
            sh(*git, "add", n)
            sh(*git, "commit", "-q", "-m", f"patch {n}")
        with open(f"{tmp}/build/linux/.git/vfr-base", "w", encoding="utf-8"):
            pass

        def series():
            """The status of series.sh, and what is in the folders then."""
            rc = subprocess.run(["scripts/series.sh", "build"], cwd=tmp, check=False,
                                capture_output=True).returncode
            return rc, {d: {os.path.basename(p): open(p, encoding="utf-8").read()
                            for p in glob.glob(f"{tmp}/{d}/*")} for d in folders}

        script, tried = f"{tmp}/scripts/series.sh", 0
        text = open(script, encoding="utf-8").read()
        old = series()
        for change in folders:
            for d in folders:
                shutil.copytree(f"{tmp}/{d}", f"{tmp}/old-{change}/{d}")
            sh(*git, "checkout", "-q", "fixes" if change == "fixes" else "series")
            sh(*git, "commit", "-q", "--amend", "-m", "another subject")
            sh(*git, "rebase", "-q", "--onto", "fixes", "series~1", "series")
            new = series()
            if old[0] or new[0] or [d for d in folders if old[1][d] != new[1][d]] != [change]:
                return f"series.sh does not work: {change}"
            for m in re.finditer(r"^\t*(?:rm|cp|mv|sync) .*\n", text, re.M):
                with open(script, "w", encoding="utf-8") as f:
                    f.write(f"{text[:m.end()]}kill -9 $$\n{text[m.end():]}")
                for d in folders:
                    shutil.rmtree(f"{tmp}/{d}", ignore_errors=True)
                    shutil.copytree(f"{tmp}/old-{change}/{d}", f"{tmp}/{d}")
                rc, now = series()
                tried += rc == -9
                with open(script, "w", encoding="utf-8") as f:
                    f.write(text)
                for d in folders:
                    if now[d] not in (old[1][d], new[1][d]):
                        return f"after '{m[0].strip()}' {d}/ has {sorted(now[d])}"
                if series() != new:
                    return f"after '{m[0].strip()}' the next make series does not mend it"
            old = new
        return "" if tried > 5 else f"killed at {tried} places only"


# ---- the kernels ----

def touched(build, suffixes=(".c", ".h")):
    names = sh("git", "-C", f"{build}/linux", "diff", "--name-only", "base..series").split()
    return [n for n in names if n.endswith(suffixes)]


def warnings(text):
    """Compiler, sparse or kernel-doc warnings without their line numbers."""
    found = collections.Counter()
    for line in text.splitlines():
        if re.search(r"\b(warning|error):|^Warning:", line, re.I):
            line = re.sub(r"/vfr/build/[^/]+/(linux|base|out/docs-(base|series))/", "", line.strip())
            line = re.sub(r"^(?:\.\./)*(?:linux|base)/", "", line)
            found[re.sub(r":\d+(:\d+)?(?=[: ])", "", line)] += 1
    return found


def new_warnings(base, series):
    old, new = warnings(base), warnings(series)
    # What sparse says of its own macros, once for each file, tells nothing of the file.
    for w in list(new):
        if w.startswith("builtin:") and w in old:
            del new[w]
    return sorted((new - old).elements())


def test_kernel_doc(build):
    out = {}
    for tree in ("base", "linux"):
        files = [f for f in touched(build) if os.path.exists(f"{build}/{tree}/{f}")]
        r = subprocess.run(["python3", "tools/docs/kernel-doc", "-none", "-Wall", *files],
                           cwd=f"{build}/{tree}", capture_output=True, text=True, check=False)
        if "Traceback" in r.stderr or not files:
            return f"kernel-doc did not run: {r.stderr[-300:]}"
        out[tree] = r.stdout + r.stderr
    bad = new_warnings(out["base"], out["linux"])
    return "\n".join(bad)


def test_kernel_doc_fails(build):
    """The check above can fail: an argument's description taken away."""
    path = f"{build}/linux/include/linux/mm.h"
    with tempfile.TemporaryDirectory() as tmp:
        text = open(path, encoding="utf-8").read()
        cut = text.replace(" * @fault: Result of handle_mm_fault()", " * Result", 1)
        if cut == text:
            return "the line to take away is not there"
        with open(f"{tmp}/mm.h", "w", encoding="utf-8") as f:
            f.write(cut)
        r = {p: subprocess.run(["python3", "tools/docs/kernel-doc", "-none", "-Wall", p],
                               cwd=f"{build}/linux", capture_output=True, text=True,
                               check=False).stderr
             for p in (os.path.abspath(path), f"{tmp}/mm.h")}
    bad = new_warnings(*r.values())
    return "" if bad else "a missing description goes unnoticed"


def sphinx(build, tree, sections):
    """What `make htmldocs` says of the Documentation/ SECTIONS of a tree, kept by the tree."""
    out = f"{build}/out/docs-{tree}"
    ident = sh("git", "-C", f"{build}/linux", "rev-parse", f"{tree}^{{tree}}") + " ".join(sections)
    if os.path.exists(f"{out}.log"):
        with open(f"{out}.log", encoding="utf-8") as f:
            if f.readline() + f.readline() == ident + "\n":
                return f.read()
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    r = subprocess.run(["make", "-s", "-C", f"{build}/{'linux' if tree == 'series' else 'base'}",
                        f"O=/vfr/{out}", f"SPHINXDIRS={' '.join(sections)}", "htmldocs"],
                       capture_output=True, text=True, errors="replace", check=False)
    pages = [p for s in sections for p in glob.glob(f"{out}/Documentation/output/{s}/**/*.html", recursive=True)]
    shutil.rmtree(out, ignore_errors=True)
    if r.returncode or not pages:
        raise subprocess.CalledProcessError(r.returncode, "make htmldocs", r.stdout, r.stderr)
    with open(f"{out}.tmp", "w", encoding="utf-8") as f:
        f.write(f"{ident}\n{r.stdout}{r.stderr}")
    os.rename(f"{out}.tmp", f"{out}.log")
    return r.stdout + r.stderr


def test_sphinx(build):
    sections = sorted({os.path.dirname(n).partition("/")[2] for n in touched(build, (".rst",))})
    if not sections:
        return "the series touches no documentation"
    return "\n".join(new_warnings(*(sphinx(build, tree, sections) for tree in ("base", "series"))))


def test_no_warnings(build, arch, flavour, tree):
    text = open(f"{build}/out/{arch}-{flavour}-{tree}/warnings.log", encoding="utf-8").read()
    if tree == "series":
        base = f"{build}/out/{arch}-{flavour}-base/warnings.log"
        bad = new_warnings(open(base, encoding="utf-8").read() if os.path.exists(base) else "", text)
    else:
        bad = []
    return "\n".join(bad)


def test_model(build):
    """The Spin models: what must hold does, and what must be found is."""
    r = subprocess.run(["model/check.sh", f"{build}/model"], check=False, capture_output=True,
                       text=True, errors="replace")
    bad = [line for line in r.stdout.splitlines() if line.startswith("not ok")]
    return "\n".join(bad) or r.stderr[-500:] or "failed" if r.returncode else ""


def lint(build, arch, tree):
    """W=1 and sparse on the touched files; the output, cached by what it is of."""
    facts = guest.arch_facts(arch)
    out = f"{build}/out/{arch}-debug-series"
    src = f"{build}/{'linux' if tree == 'series' else 'base'}"
    # Drivers that no guest has are compiled for one architecture.
    drivers = "config/drivers.config" if arch == DRIVERS else os.devnull
    ident = "".join(open(f, encoding="utf-8").read() for f in
                    (f"{out}/.vfr-complete", drivers, SPARSE)) + " ".join(touched(build))
    cache, stamp = f"{build}/out/{arch}-lint-{tree}.log", f"{build}/out/{arch}-lint-{tree}.id"
    if os.path.exists(stamp) and open(stamp, encoding="utf-8").read() == ident:
        return open(cache, encoding="utf-8").read()
    objs = [f[:-2] + ".o" for f in touched(build, (".c",))
            if f.startswith(f"arch/{'x86' if arch == 'x86_64' else arch}/") or
            (not f.startswith(("tools/", "arch/")) and
             (arch == DRIVERS or not f.startswith("drivers/")))]
    if arch == DRIVERS:
        objs += [o for o in DRIVER_OBJECTS if o not in objs]
    # What the series adds is not in the base.
    objs = [o for o in objs if os.path.exists(f"{src}/{o[:-2]}.c")]
    # An output directory of its own: W=1 must not touch the kernel's.
    lint_out = f"{build}/out/{arch}-lint-{tree}"
    shutil.rmtree(lint_out, ignore_errors=True)
    os.makedirs(lint_out)
    with open(f"{lint_out}/.config", "w", encoding="utf-8") as f:
        for part in (f"{out}/.config", drivers):
            f.write(open(part, encoding="utf-8").read())
    make = ["make", "-s", "-C", src, f"O=/vfr/{lint_out}", f"ARCH={facts['KARCH']}",
            f"CROSS_COMPILE={facts['CROSS']}", f"-j{os.cpu_count()}"]
    env = {**os.environ, "CCACHE_DIR": "/cache/ccache"}
    cc = f"CC=ccache {facts['CROSS']}gcc"
    sh(*make, cc, "olddefconfig", env=env)
    sh(*make, cc, "prepare", env=env)
    r = subprocess.run([*make, "-k", cc, "W=1", "C=2", f"CHECK={SPARSE}", *objs],
                       capture_output=True, text=True, errors="replace", env=env,
                       check=False)
    if "sparse is not available" in r.stderr or "specified, but" in r.stderr:
        raise subprocess.CalledProcessError(1, "sparse", r.stderr)
    missing = [o for o in objs if not os.path.exists(f"{lint_out}/{o}")]
    if r.returncode or missing:
        raise subprocess.CalledProcessError(r.returncode, "make W=1 C=2", r.stdout,
                                            f"not built: {missing}\n{r.stderr}")
    shutil.rmtree(lint_out)
    with open(cache, "w", encoding="utf-8") as f:
        f.write(r.stdout + r.stderr)
    with open(stamp, "w", encoding="utf-8") as f:
        f.write(ident)
    return r.stdout + r.stderr


def test_lint_fails(build):
    """The check below can fail: sparse finds a user pointer that is dereferenced."""
    r = subprocess.run([SPARSE, "-"], capture_output=True, text=True, check=False,
                       input="int f(int __attribute__((noderef, address_space(__user))) *p)"
                             " { return *p; }\n")
    return "" if "dereference" in r.stderr and warnings(r.stderr) else \
        f"sparse says nothing of a mistake: {r.stderr}"


def test_lint(build, arch):
    series = lint(build, arch, "series")
    # Without a warning there is nothing to compare.
    return "\n".join(new_warnings(lint(build, arch, "base"), series)) if warnings(series) else ""


# ---- the guests ----

def ktap(output):
    """{name: (verdict, what was seen)} of a guest's KTAP lines."""
    found = {}
    for m in re.finditer(r"^(not )?ok \d+ ([^#\n]*?) *(?:# *(.*))?$", output, re.M):
        why = m[3] or ""
        found[m[2]] = ("skip" if why.startswith("SKIP") else "fail" if m[1] else "pass", why)
    return found


def of_arch(path, arch):
    """What the lines "ARCH...: TEXT" of a list say for ARCH."""
    return {line.partition(": ")[2] for line in lines_of(path)
            if arch in line.partition(": ")[0].split()}


def judged(output, arch):
    """{name: (verdict, what was seen)} for each of tests/behaviours.

    One without a result has failed, and so has a skip that tests/skips does not
    know, or one it knows that is none."""
    got, may_skip, verdicts = ktap(output), of_arch("tests/skips", arch), {}
    for name in lines_of("tests/behaviours"):
        verdict, why = got.get(name, ("fail", "no result"))
        if (verdict == "skip") != (name in may_skip) and verdict != "fail":
            verdict, why = "fail", why or "no longer skipped: take it out of tests/skips"
        verdicts[name] = verdict, why
    return verdicts


def boot_behave(build, arch, tree):
    out = f"{build}/out/{arch}-debug-{tree}"
    return guest.run(out, arch, ["behave"], log=f"{out}/behave", timeout=300, silence=90)


def behaviours(t, build, arch):
    """The series must do as promised; the base must fail what is new in it."""
    wanted = lines_of("tests/behaviours")
    must_fail, may_fail = lines_of("tests/base-fails"), lines_of("tests/base-may-fail")
    trees = ("series", "base") if arch == BASE_ARCH else ("series",)
    r = {tree: boot_behave(build, arch, tree) for tree in trees}
    got = {tree: ktap(r[tree].output) for tree in r}

    for tree in trees:
        name = f"{arch}: {tree} kernel boots, runs behave and complains of nothing"
        # A failed behaviour is reported below by its name.
        ok = r[tree].verdict in ("ok", "failed")
        t.add(name, "pass" if ok else "fail", "" if ok else
              f"{r[tree].verdict}: {r[tree].reason}; console: {r[tree].console}", r[tree].seconds)
    if r["series"].verdict in ("ok", "failed"):
        t.cell(arch, "boots", "ok")
    passed = skipped = 0
    for name, (verdict, why) in judged(r["series"].output, arch).items():
        t.add(f"{arch}: {name}", verdict, "" if verdict == "pass" else why)
        passed += verdict == "pass"
        skipped += verdict == "skip"
    ok = passed + skipped == len(wanted) and r["series"].verdict == "ok"
    t.cell(arch, "behaviours", f"{passed}/{len(wanted)}" +
           (f", {skipped} skipped" if skipped else "") + ("" if ok else " FAILED"),
           r["series"].seconds)
    extra = sorted(set(got["series"]) - set(wanted))
    if extra:
        t.add(f"{arch}: only known behaviours", "fail", f"not in tests/behaviours: {extra}")
    if (r["series"].verdict == "ok") != all(v != "fail" for v, _ in got["series"].values()):
        t.add(f"{arch}: behave's exit status", "fail", "contradicts its lines")

    if arch != BASE_ARCH:
        return
    wrong = []
    for name in wanted:
        verdict, why = got["base"].get(name, ("missing", ""))
        if verdict == "missing":
            wrong.append(f"{name}: no result")
        elif verdict == "pass" and name in must_fail:
            wrong.append(f"{name}: passes on base ({why}), so it proves nothing")
        elif verdict == "fail" and name not in must_fail and name not in may_fail:
            wrong.append(f"{name}: fails on base ({why}), which is not expected")
    t.add(f"{arch}: base fails what the series changes, and nothing else",
          "fail" if wrong else "pass", "\n".join(wrong))

    table = ["@", f"@ {'behaviour':<52} {'series':<46} base"]
    for name in wanted:
        s, b = (got[k].get(name, ("missing", "")) for k in ("series", "base"))
        cell = [f"{v[0]}: {v[1]}" if v[1] else v[0] for v in (s, b)]
        table.append(f"@ {name:<52} {cell[0]:<46} {cell[1]}")
    with t.lock:
        print("\n".join([*table, "@"]), flush=True)


# Seconds of guest/integrity.c in `make test`; `make integrity` is the long form.
INTEGRITY_SECONDS = 12


def boot_integrity(build, arch, tree, *args):
    """guest/integrity.c in a guest of its own: what guest.run() says."""
    out = f"{build}/out/{arch}-debug-{tree}"
    # It ends by itself when a thread hangs, and takes two minutes more on a slow machine.
    limit = (0 if args[0] == "selftest" else int(args[0]) + 120) + 240
    return guest.run(out, arch, ["integrity", *args], log=f"{out}/integrity-{args[0]}",
                     append=guest.arch_facts(arch).get("INTEGRITY_APPEND", ""),
                     timeout=limit, silence=120)


def integrity_verdict(r, arch):
    """(what is wrong with a run of integrity or "", {"checks", "mismatches", "retries"}).

    Each of tests/integrity must be there and pass, or be skipped as tests/skips says."""
    got, may_skip, wrong = ktap(r.output), of_arch("tests/skips", arch), []
    for name in lines_of("tests/integrity"):
        verdict, why = got.pop(name, ("fail", "no result"))
        if verdict == "fail" or (verdict == "skip") != (name in may_skip):
            wrong.append(f"{name}: {verdict}, {why}")
    if got:
        wrong.append(f"not in tests/integrity: {sorted(got)}")
    count = {what: int((re.search(pattern, r.output, re.M) or [0, 0])[1]) for what, pattern in (
        ("checks", r"^ok .* integrity total # (\d+) checks, 0 mismatches"),
        ("mismatches", r" integrity total # \d+ checks, (\d+) mismatches"),
        ("retries", r"^ok .* integrity retries # vma_lock_retry \+(\d+)"))}
    if r.verdict != "ok" or not count["checks"] or not count["retries"]:
        wrong.append(f"{r.verdict} {r.reason}, {count}; see {r.console}")
    if wrong:
        wrong += re.findall(r"^# .*$", r.output, re.M)
    return "\n".join(wrong), count


def integrity(t, build, arch):
    """Right data while everything happens to the mappings: the series, one architecture's base."""
    for tree in ("series", "base") if arch == BASE_ARCH else ("series",):
        r = boot_integrity(build, arch, tree, str(INTEGRITY_SECONDS))
        why, n = integrity_verdict(r, arch)
        t.add(f"{arch}: integrity" + (" on base" if tree == "base" else "") +
              f", {n['checks']} checks, {n['retries']} retries", "fail" if why else "pass",
              why, r.seconds)
        if tree == "series":
            t.cell(arch, "integrity", "FAILED" if why else f"{n['checks']} checks", r.seconds)
    if arch == BASE_ARCH:
        t.run(f"{arch}: integrity finds each page that is corrupted on purpose",
              test_integrity_selftest, build, arch)


def test_integrity_selftest(build, arch):
    r = boot_integrity(build, arch, "series", "selftest")
    got = ktap(r.output)
    plan = re.search(r"^1\.\.(\d+)$", r.output, re.M)
    wrong = [f"{name}: {why}" for name, (verdict, why) in got.items() if verdict != "pass"]
    if r.verdict != "ok" or not plan or int(plan[1]) != len(got):
        wrong.append(f"{r.verdict} {r.reason}, {len(got)} results, plan "
                     f"{plan[0] if plan else 'missing'}; see {r.console}")
    return "\n".join(wrong)


def test_integrity_fails(build):
    """The verdict above can be a failure: a good run, with one thing made wrong at a time."""
    good = "".join(f"ok {i} {name} # vma_lock_retry +5\n"
                   for i, name in enumerate(lines_of("tests/integrity"), 1))
    good = good.replace("total # vma_lock_retry +5", "total # 7 checks, 0 mismatches")
    names = lines_of("tests/integrity")
    cases = [("all is well", good, "ok", True),
             ("a mismatch", good.replace("ok 1 ", "not ok 1 "), "failed", False),
             ("no checks", good.replace("7 checks", "0 checks"), "ok", False),
             ("no retries", good.replace("retry +5", "retry +0"), "ok", False),
             ("a region is not there", good.partition("\n")[2], "ok", False),
             ("a skip nobody knows", good.replace(f"{names[0]} #", f"{names[0]} # SKIP"), "ok", False),
             ("a result nobody knows", good + "ok 99 integrity other # x\n", "ok", False),
             ("a lost guest", good, "hang", False),
             ("nothing at all", "", "ok", False)]
    return "\n".join(what for what, output, verdict, want in cases if want == bool(
        integrity_verdict(guest.Result(verdict, output, "", 0.0, build), BASE_ARCH)[0]))


def test_assertion(build, arch, program):
    """A handler that breaks the contract (C1) makes the patched kernel warn."""
    out = f"{build}/out/{arch}-debug-series"
    want = "handle_mm_fault"
    if program == "bad-held":
        want = "lock held when returning to user space"
        if "CONFIG_LOCKDEP=y" not in lines_of(f"{out}/.config"):
            return "skip", f"no lockdep in this kernel, see config/{arch}.config"
        if "CONFIG_GENERIC_IRQ_ENTRY=y" not in lines_of(f"{out}/.config"):
            return "skip", "this architecture does not ask lockdep at the return to user mode"
    r = guest.run(out, arch, ["behave", program], log=f"{out}/{program}", timeout=60)
    if r.verdict != "splat" or want not in r.reason:
        return f"expected '{want}' in a warning, got {r.verdict}: {r.reason}"
    return ""


def test_verdict(build, arch, program, want, kw):
    out = f"{build}/out/{arch}-debug-series"
    r = guest.run(out, arch, [program], log=f"{out}/verdict-{program}",
                  **{"timeout": 60, "silence": 30, **kw})
    if r.verdict != want:
        return f"judged '{r.verdict}' ({r.reason}), expected '{want}'"
    return "" if want == "ok" or r.reason else "no reason given"


VERDICTS = [
    ("a guest that is well is 'ok'", "hello", "ok", {}),
    ("a guest that panics is 'panic'", "panic", "panic", {}),
    # Boots in 4 s here; slow machines get the longer limit by the first test.
    ("a guest that hangs is 'hang'", "hang", "hang", {"timeout": 15, "silence": 12}),
    ("a guest that falls silent is 'silent'", "silent", "silent", {"silence": 8}),
    ("a guest without its end marker is 'no end'", "noend", "no end", {}),
    ("a guest whose program fails is 'failed'", "nosuchprogram", "failed", {}),
    ("a kernel warning is 'splat'", "splat", "splat", {}),
    ("a QEMU that dies is 'qemu lost'", "hang", "qemu lost", {"lose_qemu_after": 6}),
    ("a QEMU that does not start is 'qemu lost'", "hello", "qemu lost",
     {"extra": ["-device", "nosuchdevice"]}),
]


def kunit_verdict(build, console, suites):
    """(what the kernel's own kunit.py makes of a console, what is wrong or "").

    SUITES must have run; one that was skipped as a whole has not."""
    r = subprocess.run(["python3", "tools/testing/kunit/kunit.py", "parse",
                        os.path.abspath(console)], cwd=f"{build}/linux",
                       capture_output=True, text=True, check=False)
    m = re.search(r"Testing complete\. Ran (\d+) tests: (.*)", r.stdout)
    bad = "" if m and not r.returncode and "passed" in m[2] else (r.stdout + r.stderr)[-600:]
    for suite in suites:
        if not re.search(rf"\[PASSED\] {re.escape(suite)} =", r.stdout):
            bad = bad or f"suite {suite} did not run"
    return r.stdout, bad


def kunit(t, build, arch):
    """KUnit suites built into the debug kernel."""
    out, bad = kunit_verdict(build, f"{build}/out/{arch}-debug-series/behave.console",
                             lines_of("tests/kunit-suites"))
    known = of_arch("tests/kunit-skips", arch)
    skipped = set(re.findall(r"\[SKIPPED\] (\S+)", out))
    if skipped != known and not bad:
        bad = f"skipped {sorted(skipped)}, tests/kunit-skips has {sorted(known)}"
    m = re.search(r"Ran \d+ tests: (.*)", out)
    t.cell(arch, "KUnit", "FAILED" if bad else re.sub(r"passed: (\d+)", r"\1 passed", m[1]))
    t.add(f"{arch}: KUnit" + (f", {m[1]}" if m else ""), "fail" if bad else "pass", bad)


def boot_kselftest(build, arch, tree, line):
    """A line of tests/kselftests in a guest of its own: what guest.run() says."""
    program, *args = line.split()
    out = f"{build}/out/{arch}-debug-{tree}"
    return guest.run(out, arch, [f"kselftest-{program}", *args],
                     log=f"{out}/kselftest-{'-'.join([program, *args])}",
                     append="hugepages=16 FAULT_RETRY_EXPECTED=1", timeout=900, silence=900)	# prints at its end


def kselftest_on_base(build, arch, line):
    """The base kernel must fail what is new with the series, and nothing else."""
    r = boot_kselftest(build, arch, "base", line)
    got = ktap(r.output)
    m = re.search(r"^# Totals: .*$", r.output, re.M)
    if not got or not m or r.verdict not in ("ok", "failed"):
        return f"{r.verdict} {r.reason}, no totals; see {r.console}"
    must = {s.partition(": ")[2] for s in of_arch("tests/kselftest-base-fails", arch)
            if s.partition(": ")[0] == line}
    may = {s.partition(": ")[2] for s in lines_of("tests/base-may-fail")
           if s.partition(": ")[0] == line}
    wrong = [f"{k} matches no test" for k in sorted({*must, *may}) if not fnmatch.filter(got, k)]
    for name, (verdict, _) in got.items():
        new = any(fnmatch.fnmatchcase(name, k) for k in must)
        if name in may:
            continue
        if new and verdict != "fail":
            wrong.append(f"{name}: {verdict} on base, so it proves nothing")
        elif not new and verdict == "fail":
            wrong.append(f"{name}: fails on base, which is not expected")
    return "\n".join(wrong)


def kselftests(t, build, arch):
    """Programs of tools/testing/selftests/mm in the guest, by their own TAP."""
    passed, spent, failed = 0, 0.0, False
    for line in sorted(of_arch("tests/kselftests", arch)):
        r = boot_kselftest(build, arch, "series", line)
        m = re.search(r"^# Totals: pass:(\d+) fail:(\d+) .*$", r.output, re.M)
        why = "" if r.verdict == "ok" and m and int(m[1]) and not int(m[2]) else \
            f"{r.verdict} {r.reason}, {m[0] if m else 'no totals'}; see {r.console}\n{r.output[-500:]}"
        # kselftest_harness.h puts the name before the mark, ksft_test_result_skip() behind.
        skipped = {a or b for a, b in
                   re.findall(r"^ok \d+ (?:([^#\n]+?) *# SKIP|# SKIP ([^(\n]+?) *(?:\(|$))", r.output, re.M)}
        known = {s.partition(": ")[2] for s in of_arch("tests/kselftest-skips", arch)
                 if s.partition(": ")[0] == line}
        ran = set(re.findall(r"^(?:not )?ok \d+ ([^#\n]+?) *$", r.output, re.M))
        new = sorted(n for n in skipped if not any(fnmatch.fnmatchcase(n, k) for k in known))
        old = sorted(k for k in known
                     if fnmatch.filter(ran, k) or not fnmatch.filter(skipped, k))
        if (new or old) and not why:
            why = f"skipped, but not in tests/kselftest-skips: {new}; " \
                f"in there, but not skipped: {old}"
        t.add(f"{arch}: kselftest mm/{line}" + (f", {m[0][2:]}" if m else ""),
              "fail" if why else "pass", why, r.seconds)
        passed += int(m[1]) if m else 0
        failed |= bool(why)
        spent += r.seconds
    t.cell(arch, "kselftest", "FAILED" if failed else f"{passed} passed", spent)
    if arch == BASE_ARCH:
        for line in sorted({s.partition(": ")[0] for s in of_arch("tests/kselftest-base-fails", arch)}):
            t.run(f"{arch}: base fails what is new in kselftest mm/{line}, and nothing else",
                  kselftest_on_base, build, arch, line)


def builds(t, build, arch):
    """Whether the kernels of ARCH are there, built without a new warning."""
    for tree in ("series", "base") if arch == BASE_ARCH else ("series",):
        out = f"{build}/out/{arch}-debug-{tree}"
        if not (os.path.exists(f"{out}/.vfr-complete") and os.path.exists(f"{out}/initramfs.id")):
            t.add(f"{arch}: {tree} builds", "fail",
                  f"see {build}/logs/kernel-{arch}-debug-{tree}.log")
            return False
    seconds = float(open(f"{build}/out/{arch}-debug-series/build.seconds", encoding="utf-8").read())
    if t.run(f"{arch}: builds without a new warning", test_no_warnings, build, arch, "debug", "series"):
        t.cell(arch, "builds", "ok", seconds)
    return True


def one_arch(t, build, arch):
    """All tests of one architecture, one after the other; a mistake in them is a failure."""
    try:
        if builds(t, build, arch):
            arch_tests(t, build, arch)
    except Exception:	# pylint: disable=broad-except
        t.add(f"{arch}: the tests themselves", "fail", traceback.format_exc())


def arch_tests(t, build, arch):
    """What one_arch() does when there is a kernel."""
    t.run(f"{arch}: W=1 and sparse find nothing new", test_lint, build, arch)
    behaviours(t, build, arch)
    integrity(t, build, arch)
    for program, what in (("bad-alone", "RETRY_HARD without RETRY"),
                          ("bad-mmap", "RETRY_HARD under mmap_lock"),
                          ("bad-tried", "TRIED under the VMA lock"),
                          ("bad-held", "a VMA lock kept beyond the fault")):
        t.run(f"{arch}: C1, {what} is warned of", test_assertion, build, arch, program)
    kunit(t, build, arch)
    kselftests(t, build, arch)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    build, archs = sys.argv[1], sys.argv[2:]
    os.makedirs(f"{build}/results", exist_ok=True)
    base = open(f"{build}/linux/.git/vfr-base", encoding="utf-8").read().strip()
    pinned = f"BASE_VERSION = {base}\n" in open("base.mk", encoding="utf-8").read()
    t = Tests(f"{build}/results")

    t.run("series: applies with git am", test_am, build)
    t.run("series: fixes/ and patches/ equal their regeneration", test_regenerated, build, pinned)
    t.run("series: cover letter", test_cover)
    # A tree of the user's own has its own list.
    if pinned:
        t.run("series: recipients", test_recipients, build)
    for p in patches():
        n = f"{'fix' if p.startswith('fixes/') else 'patch'} {os.path.basename(p)[:4]}"
        t.run(f"series: {n}, checkpatch --strict", test_checkpatch, build, p)
        t.run(f"series: {n}, trailers", test_trailers, p)
    t.run("series: kernel-doc has no new warning", test_kernel_doc, build)
    t.run("series: the kernel-doc test can fail", test_kernel_doc_fails, build)
    t.run("series: make htmldocs has no new warning", test_sphinx, build)
    t.run("series: the sparse test can fail", test_lint_fails, build)
    t.run("model: the loop of attempts, and each mutant of it is found", test_model, build)
    t.run("audit: every part of a fault retry in the base is in audit/retry.md", test_audit, build)
    t.run("audit: the test above can fail", test_audit_fails, build)
    t.run("integrity: its verdict can be a failure", test_integrity_fails, build)
    # Guests wait more than they compute: two at a time.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for arch in archs:
            pool.submit(one_arch, t, build, arch)
    t.run("harness: one run at a time in a clone, and a step ends with its make", test_one_run, build)
    t.run("harness: fixes/ and patches/ are the old or the new ones when make series is killed",
          test_series_killed, build)
    for name, program, want, kw in VERDICTS:
        t.run(f"harness: {name}", test_verdict, build, archs[0], program, want, kw)
    t.matrix(archs)
    sys.exit(t.finish())


if __name__ == "__main__":
    main()
