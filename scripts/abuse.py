#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The harness under abuse: what must stay true when a run is killed, the disk is full,
the network away, the cache damaged, or the input wrong. Runs on the host.

    abuse.py BUILD ROOT CACHE [WORD...]

WORD: only the tests whose name has it; -WORD: but for those. AT=COMMIT tries that commit's scripts, not HEAD's.

Each test works in clones of its own below build/abuse, with caches of their own. They
use the real build root through a symbolic link (it is only read), and a base kernel in
small: the files that the series touches, with a stand-in for the kernel's makefiles, so
that a step takes seconds. So what is tested is the scripts, not the kernel's build. The
tests of the root step make small roots, from a mirror on this machine that fetches each
file from the real one once.

Prints a line a test and "N passed, N failed, N skipped"; fails when anything failed.
"""
import ctypes
import functools
import glob
import hashlib
import http.server
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import traceback
import urllib.request

import test

TOP = "build/abuse"
ARCH = "x86_64"
VERSION = "0mini-1"

# Single steps, without those they depend on.
GOALS = """include Makefile
only-%: STEPS = $@
only-root:
	$(STEP) scripts/root.sh '$(ROOT)'
only-base:
	$(STEP) $(IN) scripts/base.sh
only-trees:
	$(STEP) $(IN) scripts/tree.sh $(B)
only-kernel:
	$(STEP) $(IN) scripts/kernel.sh $(B) x86_64 debug series
only-programs:
	$(STEP) $(IN) env NO_KSELFTESTS=1 scripts/guest.sh $(B) x86_64 debug series
only-guest:
	$(STEP) $(IN) scripts/guest.py $(B)/out/x86_64-debug-series x86_64 --timeout 100 -- $(PROGRAM)
"""

# What kernel.sh and guest.sh call of a kernel's makefiles: twelve objects, an image. As
# kbuild, it writes .X.cmd when X is done.
STAND_IN = r"""OBJS := $(foreach n,1 2 3 4 5 6 7 8 9 10 11 12,$(O)/o$n.o)
all: $(O)/arch/x86/boot/bzImage
$(O)/arch/x86/boot/bzImage: $(OBJS)
	mkdir -p $(@D)
	cat $^ > $@.tmp
	mv $@.tmp $@
$(O)/o%.o:
	sleep 0.3
	echo 'int f$*(int a) { return a + $*; }' > $(O)/o$*.c
	$(CC) -c -o $@ $(O)/o$*.c
	: > $(O)/.o$*.o.cmd
tinyconfig:
	: > $(O)/.config
modules:
	: > $(M)/vfr.ko
olddefconfig headers:
	:
"""
MERGE_CONFIG = r"""#!/bin/sh
# merge_config.sh -m -O OUT CONFIG FRAGMENT...: the last line on a symbol counts.
out=$3
shift 4
awk '/^CONFIG_/ { split($0, w, "="); have[w[1]] = $0 }
	/^# CONFIG_.* is not set$/ { delete have[$2] }
	END { for (s in have) print have[s] }' "$@" > "$out/.config"
"""


class Wrong(Exception):
    """What must hold does not; the text says what was seen."""


class Skip(Exception):
    """The test cannot be made here; the text says why."""


def expect(holds, why):
    """Raise Wrong(WHY) unless it HOLDS."""
    if not holds:
        raise Wrong(why)


def adopt_orphans():
    """Orphans of what is started here become children of this process, not of init."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(36, 1, 0, 0, 0):	# PR_SET_CHILD_SUBREAPER
        raise OSError(ctypes.get_errno(), "prctl")


def descendants():
    """{pid: command line} of all that was started here and lives, dead children reaped."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
        except ChildProcessError:
            break
    parents = {}
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(stat, encoding="utf-8", errors="replace") as f:
                rest = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        if rest[0] != "Z":
            parents[int(stat.split("/")[2])] = int(rest[1])
    mine, more = {os.getpid()}, True
    while more:
        more = {p for p, parent in parents.items() if parent in mine} - mine
        mine |= more
    found = {}
    for pid in mine - {os.getpid()}:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                found[pid] = f.read().replace(b"\0", b" ").decode("utf-8", "replace")[:150]
        except OSError:
            pass
    return found


def gone(seconds=10.0):
    """Wait so long for all that was started here to end; "" or what did not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        left = descendants()
        if not left:
            return ""
        time.sleep(0.05)
    kill_all()
    return f"{len(left)} processes lived on for {seconds:.0f} s: {'; '.join(left.values())[:600]}"


def kill_all():
    """End whatever was started here."""
    for _ in range(100):
        left = descendants()
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)


def sha(path):
    """The sha256 of a file."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def contents(top, skip=()):
    """{path below TOP: kind and contents' hash}, but for the names in SKIP."""
    found = {}
    for where, dirs, files in os.walk(top):
        for name in [*dirs, *files]:
            path = os.path.join(where, name)
            if os.path.islink(path):
                found[os.path.relpath(path, top)] = "-> " + os.readlink(path)
            elif name in files and name not in skip:
                found[os.path.relpath(path, top)] = sha(path)
    return found


def flip(path, at):
    """Change one byte of a file, in place; AT: a fraction of its size."""
    with open(path, "r+b") as f:
        f.seek(int(os.path.getsize(path) * at))
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 0xff]))


# How a run may be killed. The make alone: by its user, the OOM killer, a CI's runner.
KILLS = [
    ("INT to its group, as ctrl-c", lambda p: os.killpg(p.pid, signal.SIGINT)),
    ("TERM to make", lambda p: os.kill(p.pid, signal.SIGTERM)),
    ("KILL to its group", lambda p: os.killpg(p.pid, signal.SIGKILL)),
    ("KILL to make", lambda p: os.kill(p.pid, signal.SIGKILL)),
]


class Clone:
    """A clone of what is tested, with a cache of its own, below build/abuse/NAME.

    dir, cache: their paths; vfr: the harness's folder in the cache. packages: the list of
    the build root, for a small one of its own; without it the real root, linked."""

    def __init__(self, bench, name, dirname="clone", packages=None, cache=None, base=True):
        self.bench = bench
        self.dir = os.path.abspath(f"{TOP}/{name}/{dirname}")
        self.cache = cache or os.path.abspath(f"{TOP}/{name}/cache{dirname[5:]}")
        self.vfr = f"{self.cache}/vm-fault-retry-hard"
        shutil.rmtree(self.dir, ignore_errors=True)
        if not cache:
            shutil.rmtree(self.cache, ignore_errors=True)
        os.makedirs(f"{self.vfr}/base", exist_ok=True)
        test.sh("git", "clone", "-q", "--no-hardlinks", ".", self.dir)
        test.sh("git", "-C", self.dir, "checkout", "-q", "--detach", bench.commit)
        with open(f"{self.dir}/abuse.mk", "w", encoding="utf-8") as f:
            f.write(GOALS)
        if packages:
            with open(f"{self.dir}/config/packages", "w", encoding="utf-8") as f:
                f.write(packages)
        parts = b"".join(open(f"{self.dir}/{p}", "rb").read()
                         for p in ("config/packages", "scripts/root.sh"))
        self.root = f"{self.vfr}/root-{hashlib.sha256(parts).hexdigest()[:12]}"
        if not packages:
            real = f"{bench.cache}/{os.path.basename(self.root)}"
            if not os.path.exists(f"{real}/.complete"):
                raise Skip(f"no build root {real}: make root in a clone of {bench.commit}")
            if not os.path.lexists(self.root):
                os.symlink(os.path.realpath(real), self.root)
        if base:
            self.pin(VERSION, bench.mini)

    def pin(self, version, tarball):
        """The base kernel: VERSION, TARBALL, in the cache and in base.mk."""
        shutil.copyfile(tarball, f"{self.vfr}/base/{version}.tar.xz")
        with open(f"{self.vfr}/base/{version}.sha256", "w", encoding="utf-8") as f:
            f.write(sha(tarball) + "\n")
        path = f"{self.dir}/base.mk"
        text = open(path, encoding="utf-8").read()
        text = re.sub(r"(?m)^(BASE_VERSION *=).*", rf"\1 {version}", text)
        text = re.sub(r"(?m)^(BASE_SHA256 *=).*", rf"\1 {sha(tarball)}", text)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def start(self, *goals, prefix=(), **env):
        """Start make in a session of its own; the Popen, its output in self.dir/out.txt."""
        env = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8",
               "XDG_CACHE_HOME": self.cache, "NEED_DISK_GB": "0", "NEED_MEMORY_GB": "0",
               "TMPDIR": self.bench.tmp, **env}
        with open(f"{self.dir}/out.txt", "w", encoding="utf-8") as out:
            return subprocess.Popen([*prefix, "make", "-f", "abuse.mk", *goals], cwd=self.dir,
                                    env={k: v for k, v in env.items() if v is not None},
                                    stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=subprocess.STDOUT, start_new_session=True)

    def said(self):
        """What the last make printed."""
        with open(f"{self.dir}/out.txt", encoding="utf-8", errors="replace") as f:
            return f.read()

    def make(self, *goals, timeout=900, **kw):
        """(exit status, output) of make; nothing of it may live on."""
        p = self.start(*goals, **kw)
        try:
            rc = p.wait(timeout)
        except subprocess.TimeoutExpired:
            kill_all()
            raise Wrong(f"make {' '.join(goals)} did not end within {timeout} s: "
                        f"{self.said()[-500:]}") from None
        return rc, self.said()

    def must(self, *goals, **kw):
        """make, which must work; its output."""
        rc, out = self.make(*goals, **kw)
        expect(rc == 0, f"make {' '.join(goals)} failed: {out[-1200:]}")
        return out

    def must_fail(self, pattern, *goals, **kw):
        """make, which must fail and say what PATTERN matches; its output."""
        rc, out = self.make(*goals, **kw)
        expect(rc != 0, f"make {' '.join(goals)} passed: {out[-800:]}")
        expect(re.search(pattern, out), f"not said: {pattern!r}, but: {out[-1200:]}")
        return out

    def build(self, path=""):
        """build/7.3/PATH."""
        return f"{self.dir}/build/7.3/{path}"

    def git(self, *args, tree="linux"):
        """Output of git in a tree of build/7.3."""
        return test.sh("git", "-C", self.build(tree), "-c", "safe.directory=*", *args).strip()

    def read(self, path):
        """The text of build/7.3/PATH, or None."""
        try:
            with open(self.build(path), encoding="utf-8") as f:
                return f.read()
        except FileNotFoundError:
            return None

    # What must hold at any moment, and what at the end of a step.

    def trees_claim_nothing_false(self):
        """What is marked as complete in the trees is complete."""
        ref = self.bench.ref
        if os.path.exists(self.build("base/.vfr-complete")):
            expect(contents(self.build("base")) == ref["base"], "base/ is not complete, but marked")
        if os.path.exists(self.build("linux/.git/vfr-base")):
            expect(self.git("rev-parse", "base^{tree}") == ref["base-tree"], "branch base is wrong")
        said = self.read("linux/.git/vfr-patches")
        if said and not os.path.exists(self.build("linux/.git/vfr-am")):
            expect(said.split()[1:] == [self.git("rev-parse", "series")],
                   f"vfr-patches says {said!r}, series is {self.git('rev-parse', 'series')}")

    def trees_are_whole(self):
        """They are those of an undisturbed run."""
        self.trees_claim_nothing_false()
        ref = self.bench.ref
        expect(os.path.exists(self.build("base/.vfr-complete")), "no base/.vfr-complete")
        expect(self.read("linux/.git/vfr-patches") == ref["vfr-patches"], "vfr-patches differs")
        expect(self.git("rev-parse", "series") == ref["series"], "series is another commit")
        expect(self.git("status", "--porcelain") == "", "linux/ has changes")
        left = [*glob.glob(self.build("*.tmp")), *glob.glob(self.build("linux/.git/*.lock"))]
        expect(not left, f"left: {left}")

    def kernel(self, path=""):
        """A path in the kernel's output."""
        return self.build(f"out/{ARCH}-debug-series/{path}")

    def kernel_claims_nothing_false(self):
        """A kernel marked as complete is that of an undisturbed run."""
        if os.path.exists(self.kernel(".vfr-complete")):
            image = self.kernel("arch/x86/boot/bzImage")
            expect(os.path.exists(image) and sha(image) == self.bench.ref["image"],
                   "a kernel is marked as complete and is not")

    def kernel_is_whole(self):
        """It is that of an undisturbed run."""
        expect(self.read(f"out/{ARCH}-debug-series/.vfr-complete") == self.bench.ref["kernel"],
               ".vfr-complete differs")
        self.kernel_claims_nothing_false()

    def programs_are_whole(self):
        """The initramfs is that of an undisturbed run."""
        expect(os.path.exists(self.kernel("initramfs.id")), "no initramfs.id")
        expect(sha(self.kernel("initramfs.gz")) == self.bench.ref["initramfs"],
               "the initramfs differs")

    def programs_claim_nothing_false(self):
        """One with an id is whole."""
        if os.path.exists(self.kernel("initramfs.id")) and self.read(
                f"out/{ARCH}-debug-series/initramfs.id") == self.bench.ref["initramfs-id"]:
            self.programs_are_whole()

    def root_claims_nothing_false(self):
        """A root that is there by its name is whole."""
        if os.path.exists(self.root):
            self.root_is_whole()

    def root_is_whole(self):
        """It is complete and runs what is in it."""
        expect(os.path.exists(f"{self.root}/.complete"), "no .complete")
        r = subprocess.run([f"{self.dir}/scripts/inroot.sh", self.root, self.vfr,
                            "sh", "-c", "busybox true && apt-get --version && dpkg -l busybox-static"],
                           cwd=self.dir, capture_output=True, text=True, check=False)
        expect(r.returncode == 0, f"the root does not work: {r.stdout[-300:]}{r.stderr[-300:]}")


class Mirror:
    """A Debian mirror on this machine: each file comes from the real one once.

    rate: bytes a second, or 0; cut_after: after so many bytes each connection is cut."""

    def __init__(self, upstream):
        self.upstream, self.rate, self.cut_after, self.sent = upstream, 0, None, 0
        shutil.rmtree(f"{TOP}/mirror/dists", ignore_errors=True)	# they change
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """GET only."""
            protocol_version = "HTTP/1.1"

            def do_GET(self):	# pylint: disable=invalid-name
                """Serve a file."""
                path = mirror.fetch(self.path)
                if not path:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(os.path.getsize(path)))
                self.end_headers()
                with open(path, "rb") as f:
                    while data := f.read(1 << 16):
                        if mirror.cut_after is not None and mirror.sent > mirror.cut_after:
                            self.connection.close()
                            return
                        self.wfile.write(data)
                        mirror.sent += len(data)
                        if mirror.rate:
                            time.sleep(len(data) / mirror.rate)

            def log_message(self, *_):	# pylint: disable=arguments-differ
                """Say nothing."""

            def handle(self):
                try:
                    super().handle()
                except (OSError, ValueError):
                    pass	# the client was killed

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.lock = threading.Lock()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/debian"

    def fetch(self, path):
        """The path of a copy of a file of the mirror, or None."""
        if not re.fullmatch(r"/debian(/[\w.+~%:-]+)+", path) or "/.." in path:
            return None
        kept = f"{TOP}/mirror{path.removeprefix('/debian')}"
        with self.lock:
            if not os.path.exists(kept):
                os.makedirs(os.path.dirname(kept), exist_ok=True)
                try:
                    with urllib.request.urlopen(self.upstream + path.removeprefix("/debian"),
                                                timeout=60) as r, open(kept + ".tmp", "wb") as f:
                        shutil.copyfileobj(r, f)
                except OSError:
                    return None
                os.rename(kept + ".tmp", kept)
        return kept

    def healthy(self):
        """No faults from now on."""
        self.rate, self.cut_after, self.sent = 0, None, 0


class Bench:
    """What all tests share.

    mini: the tarball of the small base; tmp: TMPDIR of all runs; ref: what an undisturbed
    run leaves."""

    def __init__(self, build, root, cache, commit):
        self.build, self.root, self.cache, self.commit = build, root, cache, commit
        self.mini = f"{TOP}/mini.tar.xz"
        # What a run leaves in TMPDIR is left here, whoever it is.
        self.tmp = os.path.abspath(f"{TOP}/tmp")
        shutil.rmtree(self.tmp, ignore_errors=True)
        os.makedirs(self.tmp)
        os.chmod(self.tmp, 0o1777)
        self.make_mini()

    def make_mini(self):
        """The files the series touches, out of the base in the cache, and the stand-ins."""
        names = sorted({n for p in test.patches() for n in
                        re.findall(r"(?m)^--- a/(\S+)", open(p, encoding="utf-8").read())} |
                       {".gitattributes"})	# says how diffs are written
        ident = hashlib.sha256(repr((names, STAND_IN, MERGE_CONFIG)).encode()).hexdigest()
        if os.path.exists(self.mini) and os.path.exists(self.mini + ".id") and \
                open(self.mini + ".id", encoding="utf-8").read() == ident:
            return
        version = open(f"{self.cache}/base/current", encoding="utf-8").read().strip()
        tree = f"{TOP}/mini"
        shutil.rmtree(tree, ignore_errors=True)
        os.makedirs(f"{tree}/scripts/kconfig")
        with tarfile.open(f"{self.cache}/base/{version}.tar.xz") as tar:
            for member in tar:
                path = member.name.split("/", 1)[-1]
                if path in names:
                    member.name = path
                    tar.extract(member, tree)
        for path, text in (("Makefile", STAND_IN), ("scripts/kconfig/merge_config.sh", MERGE_CONFIG)):
            with open(f"{tree}/{path}", "w", encoding="utf-8") as f:
                f.write(text)
            os.chmod(f"{tree}/{path}", 0o755)
        test.sh("tar", "-C", TOP, "--sort=name", "--owner=0", "--group=0", "--mtime=@0",
                "-cJf", f"{self.mini}.tmp", "mini")
        os.rename(self.mini + ".tmp", self.mini)
        with open(self.mini + ".id", "w", encoding="utf-8") as f:
            f.write(ident)

    @functools.cached_property
    def ref(self):
        """What a run leaves that nothing disturbs."""
        c = Clone(self, "ref")
        start = time.monotonic()
        c.must("only-base", "only-trees", "only-kernel", "only-programs")
        print(f"the undisturbed run took {time.monotonic() - start:.0f} s", flush=True)
        return {"base": contents(c.build("base")),
                "base-tree": c.git("rev-parse", "base^{tree}"),
                "series": c.git("rev-parse", "series"),
                "vfr-patches": c.read("linux/.git/vfr-patches"),
                "kernel": c.read(f"out/{ARCH}-debug-series/.vfr-complete"),
                "image": sha(c.kernel("arch/x86/boot/bzImage")),
                "initramfs": sha(c.kernel("initramfs.gz")),
                "initramfs-id": c.read(f"out/{ARCH}-debug-series/initramfs.id")}

    @functools.cached_property
    def mirror(self):
        """See Mirror; Skip when the real one cannot be reached."""
        upstream = test.sh("scripts/mirror.sh").strip()
        m = Mirror(upstream)
        if not upstream or not m.fetch("/debian/dists/trixie/Release"):
            raise Skip("no Debian mirror can be reached")
        return m

    @functools.cached_property
    def small(self):
        """A clone with a small build root, made once; copy its root."""
        c = Clone(self, "small", packages="busybox-static\n", base=False)
        self.mirror.healthy()
        c.must("only-root", DEBIAN_MIRROR=self.mirror.url)
        c.root_is_whole()
        return c

    def with_small_root(self, name):
        """A clone with a copy of the small root, and no base."""
        small = self.small
        c = Clone(self, name, packages="busybox-static\n", base=False)
        test.sh("cp", "-a", "--reflink=auto", small.root, c.root)
        return c

    def with_trees(self, name, **kw):
        """A clone with whole trees."""
        _ = self.ref
        c = Clone(self, name, **kw)
        c.must("only-base", "only-trees")
        return c

    def with_kernel(self, name):
        """A clone with the trees and the stand-in kernel of the undisturbed run."""
        _ = self.ref
        c = Clone(self, name)
        shutil.copytree(os.path.abspath(f"{TOP}/ref/clone/build"), f"{c.dir}/build", symlinks=True)
        return c


def killed(clone, step, moment, how, env=None, grace=10.0):
    """Start STEP, kill it MOMENT seconds after it has begun; nothing of it may live on.

    GRACE: seconds it has to end. Whether it was still at work."""
    log = clone.build(f"logs/only-{step}.log")
    if os.path.exists(log):
        os.unlink(log)
    p = clone.start(f"only-{step}", **(env or {}))
    while not os.path.exists(log) and p.poll() is None:
        time.sleep(0.005)
    try:
        p.wait(moment)
        return False
    except subprocess.TimeoutExpired:
        how(p)
    p.wait(60)
    left = gone(grace)
    expect(not left, left)
    return True


def kill_and_go_on(clone, step, moments, sound, whole, anew=None, env=None, grace=10.0):
    """Kill a step at each of MOMENTS (seconds) in each way of KILLS by turns; start it again.

    sound(): what must hold after each death; whole(): after the run that nothing kills;
    anew(): makes it begin anew after that, so that the next is killed, too."""
    n = 0
    for i, moment in enumerate(moments):
        name, how = KILLS[i % len(KILLS)]
        try:
            n += killed(clone, step, moment, how, env, grace)
            sound()
            if anew:
                clone.must(f"only-{step}", **(env or {}))
                whole()
                anew()
        except Wrong as e:
            raise Wrong(f"{name} after {moment:.2f} s: {e}") from None
    expect(n >= len(moments) / 2, f"only {n} of {len(moments)} were killed before their end")
    clone.must(f"only-{step}", **(env or {}))
    whole()


def fill(path, size):
    """Mount a small file system of SIZE bytes there; root only."""
    if os.geteuid():
        raise Skip("needs root: to mount a small file system")
    os.makedirs(path, exist_ok=True)
    test.sh("mount", "-t", "tmpfs", "-o", f"size={size}", "abuse", path)


def grow(path):
    """Give it more room."""
    test.sh("mount", "-o", "remount,size=1g", path)


FULL = r"(?i)no space left|GB (are )?(free|needed)|MB free"


def full_and_go_on(clone, path, sizes, step, sound, whole, env=None):
    """STEP with PATH a file system of each of SIZES, bytes; then with room."""
    failed = 0
    for size in sizes:
        fill(path, size)
        try:
            rc, out = clone.make(f"only-{step}", **(env or {}))
            if rc:
                failed += 1
                expect(re.search(FULL, out), f"{size} bytes: says nothing of the full disk: {out[-700:]}")
                sound()
                grow(path)
                clone.must(f"only-{step}", **(env or {}))
            whole()
        except Wrong as e:
            raise Wrong(f"{size} bytes: {e}") from None
        finally:
            kill_all()
            test.sh("umount", path)
    expect(failed, "none of these sizes was too small")


# ---- killed at any moment ----

def kill_trees(b):
    """The trees, killed at many moments."""
    _ = b.ref
    c = Clone(b, "kill-trees")
    c.must("only-base")
    rng = random.Random(1)
    spans = [rng.uniform(0.05, 2.5) for _ in range(12)]
    kill_and_go_on(c, "trees", spans, c.trees_claim_nothing_false, c.trees_are_whole,
                   anew=lambda: shutil.rmtree(c.build()))


def kill_git(b):
    """The trees, killed while git am holds the index' lock."""
    c = b.with_trees("kill-git")
    # As KILL leaves it: in the middle of our own git am.
    c.git("reset", "-q", "--hard", "base")
    for name in ("index.lock", "vfr-am", "HEAD.lock", "refs/heads/series.lock"):
        with open(c.build(f"linux/.git/{name}"), "w", encoding="utf-8"):
            pass
    c.must("only-trees")
    c.trees_are_whole()


def lost_record(b):
    """Commits in the tree are not thrown away when the record of what was applied is lost."""
    c = b.with_trees("lost-record")
    c.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "mine")
    mine = c.git("rev-parse", "series")
    with open(c.build("linux/.git/vfr-patches"), "w", encoding="utf-8"):
        pass	# as a full disk leaves it
    c.must_fail("make series", "only-trees")
    expect(c.git("rev-parse", "series") == mine, "a commit was thrown away")


def kill_kernel(b):
    """A kernel's build: no .vfr-complete after a death, the next run goes on."""
    c = b.with_trees("kill-kernel")

    def anew():
        shutil.rmtree(c.build("out"))
    kill_and_go_on(c, "kernel", [0.3, 1, 1.8, 2.5], c.kernel_claims_nothing_false,
                   c.kernel_is_whole, anew=anew)
    anew()
    p = c.start("only-kernel")
    while not glob.glob(c.kernel(".o*.cmd")):
        expect(p.poll() is None, f"it ended: {c.said()}")
        time.sleep(0.05)
    os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    left = gone()
    expect(not left, left)
    done = {o: os.stat(o).st_mtime_ns for o in glob.glob(c.kernel("o*.o"))
            if os.path.exists(re.sub(r"(o\d+\.o)$", r".\1.cmd", o))}
    expect(0 < len(done) < 12, f"{len(done)} objects were made before the death")
    c.must("only-kernel")
    expect(all(os.stat(o).st_mtime_ns == t for o, t in done.items()), "it began anew")


def cut_object(b):
    """An object that is newer than its .cmd was being made again when the run was killed."""
    c = b.with_kernel("cut-object")
    for f in (".vfr-complete", "arch/x86/boot/bzImage"):
        os.unlink(c.kernel(f))
    time.sleep(0.01)
    os.truncate(c.kernel("o3.o"), 100)
    before = os.stat(c.kernel("o4.o")).st_mtime_ns
    c.must("only-kernel")
    c.kernel_is_whole()
    expect(os.stat(c.kernel("o4.o")).st_mtime_ns == before, "a good object was made anew")


def kill_programs(b):
    """The guest's programs."""
    c = b.with_kernel("kill-programs")

    def anew():
        os.unlink(c.kernel("initramfs.id"))
    anew()
    kill_and_go_on(c, "programs", [0.5, 2, 4, 1], c.programs_claim_nothing_false,
                   c.programs_are_whole, anew=anew)


def real_kernel(b, c):
    """Give a clone a kernel that boots, out of BUILD."""
    out = f"{b.build}/out/{ARCH}-debug-series"
    if not (os.path.exists(f"{out}/.vfr-complete") and os.path.exists(f"{out}/initramfs.id")):
        raise Skip(f"no kernel in {out}: make test makes it")
    os.makedirs(c.kernel("arch/x86/boot"), exist_ok=True)
    for f in ("arch/x86/boot/bzImage", "initramfs.gz"):
        shutil.copyfile(f"{out}/{f}", c.kernel(f))


def kill_guest(b):
    """QEMU does not survive the death of its run."""
    c = Clone(b, "kill-guest")
    real_kernel(b, c)
    for name, how in KILLS:
        p = c.start("only-guest", "PROGRAM=hang")
        end = time.monotonic() + 30
        while not any("qemu-system" in s and "bwrap" not in s for s in descendants().values()):
            expect(time.monotonic() < end and p.poll() is None, f"no QEMU: {c.said()}")
            time.sleep(0.1)
        how(p)
        p.wait(60)
        left = gone()
        expect(not left, f"{name}: {left}")


def kill_series(b):
    """patches/ is the old or the new one, whenever make series is killed."""
    c = b.with_trees("kill-series")
    old = contents(f"{c.dir}/patches")
    c.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty",
          "--amend", "-m", "selftests/mm: another subject\n\nAnd text.")
    c.must("series")
    new = contents(f"{c.dir}/patches")
    expect(new != old, "the series did not change")
    rng = random.Random(2)
    seen = set()
    # test.py kills it behind each of its commands.
    for i in range(10):
        shutil.rmtree(f"{c.dir}/patches")
        test.sh("git", "-C", c.dir, "checkout", "-q", "--", "patches")
        p = c.start("series")
        time.sleep(rng.uniform(0.1, 1.2))
        KILLS[i % 4][1](p)
        p.wait(60)
        left = gone()
        expect(not left, left)
        now = contents(f"{c.dir}/patches")
        expect(now in (old, new), f"patches/ is neither: {sorted(now)}")
        seen.add(now == new)
        c.must("series")
        expect(contents(f"{c.dir}/patches") == new, "the next make series does not mend it")
    expect(c.must("series").endswith("up to date\n"), "not up to date then")


def kill_root(b):
    """The build root, at several moments: then nothing is taken for it, nothing is left."""
    _ = b.small	# so that the mirror has all
    c = Clone(b, "kill-root", packages="busybox-static\n", base=False)
    # mmdebstrap, told to end, ends the program that it runs first.
    kill_and_go_on(c, "root", [0.3, 5, 8, 12, 16], c.root_claims_nothing_false, c.root_is_whole,
                   env={"DEBIAN_MIRROR": b.mirror.url}, grace=90)
    left = [*os.listdir(b.tmp), *glob.glob(f"{c.vfr}/*.tmp*")]
    expect(not left, f"left: {left}")


def kill_base(b):
    """The download of the base kernel."""
    c = b.with_small_root("kill-base")

    def whole():
        version = open(f"{c.vfr}/base/current", encoding="utf-8").read().strip()
        want = open(f"{c.vfr}/base/{version}.sha256", encoding="utf-8").read().strip()
        expect(sha(f"{c.vfr}/base/{version}.tar.xz") == want, "the tarball is not that of its hash")

    def sound():
        for path in glob.glob(f"{c.vfr}/base/*.sha256"):
            expect(sha(path[:-7] + ".tar.xz") == open(path, encoding="utf-8").read().strip(),
                   "a tarball with a hash is not whole")
    b.mirror.rate = 20e6
    kill_and_go_on(c, "base", [0.3, 3, 6, 10], sound, whole)
    b.mirror.healthy()


# ---- disk full ----

def full_trees(b):
    """build/ too small for the trees, in eight sizes."""
    _ = b.ref
    c = Clone(b, "full-trees")
    c.must("only-base")
    full_and_go_on(c, f"{c.dir}/build", [16 << 10, *range(1 << 20, 15 << 20, 2 << 20)], "trees",
                   c.trees_claim_nothing_false, c.trees_are_whole)


def full_kernel(b):
    """The kernel's output directory too small."""
    c = b.with_trees("full-kernel")
    full_and_go_on(c, c.build("out"), [16 << 10, 32 << 10, 64 << 10, 100 << 10, 132 << 10],
                   "kernel", c.kernel_claims_nothing_false, c.kernel_is_whole)


def full_programs(b):
    """No room for the guest's programs."""
    c = b.with_kernel("full-programs")
    out = c.kernel()
    kept = f"{c.dir}/kept"
    os.rename(out, kept)
    for size in (512 << 10, 3 << 20, 8 << 20, 10 << 20, 11 << 20):
        fill(out, size)
        try:
            for f in (".vfr-complete", "arch"):
                test.sh("cp", "-a", f"{kept}/{f}", out)
            rc, said = c.make("only-programs")
            if rc:
                expect(re.search(FULL, said), f"{size}: says nothing of the full disk: {said[-700:]}")
                c.programs_claim_nothing_false()
                grow(out)
                c.must("only-programs")
            elif size == 512 << 10:
                raise Wrong("512 KiB were enough")
            c.programs_are_whole()
        finally:
            test.sh("umount", out)


def full_ccache(b):
    """No room in the cache for ccache: the kernel is built all the same."""
    c = b.with_trees("full-ccache")
    fill(f"{c.vfr}/ccache", 64 << 10)
    try:
        c.must("only-kernel")
        c.kernel_is_whole()
    finally:
        test.sh("umount", f"{c.vfr}/ccache")


def full_root(b):
    """No room for the build root in the cache."""
    _ = b.small
    c = Clone(b, "full-root", packages="busybox-static\n", base=False)
    full_and_go_on(c, c.vfr, [64 << 20], "root", c.root_claims_nothing_false,
                   c.root_is_whole, env={"DEBIAN_MIRROR": b.mirror.url})


def small_tmp(b):
    """/tmp may be small, as Debian 13's in memory is: the build root is made all the same."""
    _ = b.mirror
    c = Clone(b, "small-tmp", packages="busybox-static\n", base=False)
    fill("/tmp", 16 << 20)
    try:
        c.must("only-root", DEBIAN_MIRROR=b.mirror.url, TMPDIR=None)
        c.root_is_whole()
    finally:
        test.sh("umount", "/tmp")


def full_base(b):
    """No room for the base kernel in the cache."""
    c = b.with_small_root("full-base")

    def sound():
        expect(not glob.glob(f"{c.vfr}/base/*.sha256"), "a tarball is taken for complete")

    def whole():
        expect(len(glob.glob(f"{c.vfr}/base/*.tar.xz")) == 1, "no tarball")
    full_and_go_on(c, f"{c.vfr}/base", [16 << 20, 200 << 20], "base", sound, whole)


def need_disk(b):
    """Too little room is said before anything starts, with what to do."""
    c = Clone(b, "need-disk")
    c.must_fail("GB free below build, 999999 GB are needed: make room", "tree",
                NEED_DISK_GB="999999")
    expect(not os.path.exists(c.build("linux")), "it went on")


# ---- no network ----

DEAD = "http://127.0.0.1:9/debian"


def no_mirror_root(b):
    """No build root, no mirror: said at once, nothing left."""
    c = Clone(b, "no-mirror", packages="busybox-static\n", base=False)
    for kw in ({"DEBIAN_MIRROR": DEAD}, {"prefix": ["unshare", "-n"]}):
        out = c.must_fail("check the network.*DEBIAN_MIRROR", "root", **kw)
        expect("FAILED" in out, "not shown as failed")
        expect(not glob.glob(f"{c.vfr}/root-*"), f"left: {os.listdir(c.vfr)}")
    # Past the first check.
    c.must_fail("network.*DEBIAN_MIRROR", "only-root", DEBIAN_MIRROR=DEAD)
    expect(not os.path.exists(c.root), "a root is there")


def network_dies(b):
    """The mirror dies in the middle of the build root: said, and nothing is taken for it."""
    _ = b.small
    c = Clone(b, "network-dies", packages="busybox-static\n", base=False)
    for after in (1 << 20, 30 << 20):
        b.mirror.healthy()
        b.mirror.cut_after = after
        c.must_fail("network.*DEBIAN_MIRROR", "only-root", DEBIAN_MIRROR=b.mirror.url)
        expect(not os.path.exists(c.root), "a root is there")
    b.mirror.healthy()


def no_network_full_cache(b):
    """With a full cache no network is needed."""
    _ = b.ref
    c = Clone(b, "full-cache")
    c.must("tree", "mm-kernel-x86_64-series", prefix=["unshare", "-n"])
    c.trees_are_whole()


def no_network_base(b):
    """No base kernel and no network: said what to do, nothing left."""
    c = Clone(b, "no-network-base")
    for path in glob.glob(f"{c.vfr}/base/*"):
        os.unlink(path)
    c.must_fail("cannot be fetched.*check the network.*KERNEL=.*copy the cache", "tree",
                prefix=["unshare", "-n"])
    expect(not os.path.exists(c.build("linux")), "it went on")
    expect(not glob.glob(f"{c.vfr}/base/*.tar.xz"), "a tarball is there")


def no_network_other_base(b):
    """The pinned base is not in the cache, a newer one is: without a network that serves."""
    c = Clone(b, "other-base")
    text = open(f"{c.dir}/base.mk", encoding="utf-8").read()
    with open(f"{c.dir}/base.mk", "w", encoding="utf-8") as f:
        f.write(text.replace(f"BASE_VERSION = {VERSION}", "BASE_VERSION = 0gone-1"))
    with open(f"{c.vfr}/base/current", "w", encoding="utf-8") as f:
        f.write(VERSION + "\n")
    out = c.must("tree", prefix=["unshare", "-n"])
    expect(f"using {VERSION} instead" in out, "not said")


# ---- two at once ----

def twice_in_one_clone(b):
    """While a run is at work in a clone another one is refused, and the first is well."""
    c = b.with_trees("twice")
    first = c.start("only-kernel")
    out = f"{c.dir}/out.txt"
    while not glob.glob(c.kernel("o*.c")):
        expect(first.poll() is None, f"the first ended: {c.said()}")
        time.sleep(0.05)
    os.rename(out, f"{c.dir}/first.txt")
    for goal in ("only-kernel", "only-trees", "series", "clean"):
        c.must_fail("another run is at work in this clone", goal, timeout=30)
    expect(first.poll() is None, "the first run ended before all were tried")
    expect(first.wait(120) == 0, "the first run failed: " + open(f"{c.dir}/first.txt",
                                                                 encoding="utf-8").read()[-600:])
    c.kernel_is_whole()
    c.must("clean")


def twice_between_steps(b):
    """A run between two of its steps is at work, too."""
    c = b.with_trees("between-steps")
    with open(f"{c.dir}/abuse.mk", "a", encoding="utf-8") as f:
        f.write("first: only-trees\n\tsleep 8\n")
    first = c.start("first")
    os.rename(f"{c.dir}/out.txt", f"{c.dir}/first.txt")
    end = time.monotonic() + 60
    while "sleep" not in open(f"{c.dir}/first.txt", encoding="utf-8").read():
        expect(time.monotonic() < end, "no first step")
        time.sleep(0.05)
    c.must_fail("another run is at work in this clone", "only-trees")
    first.wait(60)
    c.must("only-trees")


def two_clones_one_cache(b):
    """Two clones make the build root of one cache at once: one makes it, the other waits."""
    _ = b.small
    one = Clone(b, "two", packages="busybox-static\n", base=False)
    two = Clone(b, "two", dirname="other", packages="busybox-static\n", base=False,
                cache=one.cache)
    runs = [c.start("only-root", DEBIAN_MIRROR=b.mirror.url) for c in (one, two)]
    for c, p in zip((one, two), runs):
        expect(p.wait(600) == 0, f"failed: {c.said()[-600:]}")
    said = one.said() + two.said()
    expect("waiting" in said, f"the one that waits does not say so: {said}")
    one.root_is_whole()
    expect(not glob.glob(f"{one.vfr}/*.tmp*"), f"left: {os.listdir(one.vfr)}")


def two_bases_one_cache(b):
    """Another clone with another base does not change what base this one is built from."""
    _ = b.ref
    one = Clone(b, "two-bases")
    two = Clone(b, "two-bases", dirname="other", cache=one.cache)
    two.pin("0other-1", b.mini)
    one.must("only-base")
    two.must("only-base")
    one.must("only-trees")
    expect(one.read("linux/.git/vfr-base") == VERSION + "\n",
           f"the base of the other: {one.read('linux/.git/vfr-base')}")
    two.must("only-trees")
    expect(two.read("linux/.git/vfr-base") == "0other-1\n", "the other has the wrong base")


def distclean_in_use(b):
    """make distclean leaves the cache alone while another clone works with it."""
    one = b.with_trees("distclean")
    two = Clone(b, "distclean", dirname="other", cache=one.cache)
    first = one.start("only-kernel")
    while not glob.glob(one.kernel("o*.c")):
        expect(first.poll() is None, f"the first ended: {one.said()}")
        time.sleep(0.05)
    two.must_fail("another run", "distclean")
    expect(first.wait(120) == 0, f"the first run failed: {one.said()[-600:]}")
    two.must("distclean")
    expect(not os.path.exists(one.vfr), "the cache is still there")


# ---- a corrupted cache ----

def bad_base(b):
    """A tarball with a flipped byte or cut short is found by its hash, and not unpacked."""
    c = Clone(b, "bad-base")
    tarball = f"{c.vfr}/base/{VERSION}.tar.xz"
    for how in ("flipped", "cut", "empty"):
        c.pin(VERSION, b.mini)
        if how == "flipped":
            flip(tarball, 0.5)
        else:
            os.truncate(tarball, 0 if how == "empty" else os.path.getsize(tarball) // 2)
        out = c.must_fail("check the network", "tree", prefix=["unshare", "-n"])
        expect("is damaged" in out, f"{how}: not said: {out[-500:]}")
        expect(not os.path.exists(c.build("linux")), f"{how}: it was unpacked")


def bad_base_anew(b):
    """It is fetched anew."""
    c = b.with_small_root("bad-base-anew")
    c.must("only-base")
    tarball, = glob.glob(f"{c.vfr}/base/*.tar.xz")
    want = sha(tarball)
    flip(tarball, 0.3)
    out = c.must("only-base")
    expect(sha(tarball) == want, f"it is not: {out}")
    # And so with garbage in apt's lists.
    os.unlink(tarball)
    for path in glob.glob(f"{c.vfr}/apt/state/lists/*Packages*"):
        with open(path, "wb") as f:
            f.write(os.urandom(5000))
    c.must("only-base")
    expect(sha(tarball) == want, "garbage in apt's lists")


def bad_current(b):
    """Garbage in base/current is put right."""
    _ = b.ref
    c = Clone(b, "bad-current")
    with open(f"{c.vfr}/base/current", "wb") as f:
        f.write(b"\0\xffgarbage")
    c.must("tree")
    c.trees_are_whole()


def bad_root(b):
    """A build root without its stamp, without its compiler or with a file cut short."""
    small = b.small
    c = b.with_small_root("bad-root")
    c.must("only-root", DEBIAN_MIRROR=DEAD)
    for how in ("no stamp", "gone", "status", "cut"):
        if how != "no stamp":
            c = b.with_small_root("bad-root")
        tool = f"{c.root}/usr/bin/busybox"
        if how == "no stamp":
            os.unlink(f"{c.root}/.complete")
        elif how == "gone":
            os.unlink(tool)
        elif how == "cut":
            os.truncate(tool, 1000)
        else:
            os.truncate(f"{c.root}/var/lib/dpkg/status", 100)
        # Found each time; made anew once, which takes long.
        out = c.must_fail("could not be made", "only-root", DEBIAN_MIRROR=DEAD)
        expect(how == "no stamp" or "is damaged: making it anew" in out, f"{how}: not found")
        expect(not os.path.exists(c.root), f"{how}: it is still there")
    c.must("only-root", DEBIAN_MIRROR=b.mirror.url)
    expect(sha(tool) == sha(f"{small.root}/usr/bin/busybox"), "the tool is not made anew")
    c.root_is_whole()
    expect("up to date" in c.must("only-root", DEBIAN_MIRROR=DEAD), "not up to date then")


def bad_ccache(b):
    """ccache with a flipped byte in each of its files: the same kernel comes out."""
    c = b.with_trees("bad-ccache")
    c.must("only-kernel")
    files = [f for f in glob.glob(f"{c.vfr}/ccache/**", recursive=True) if os.path.isfile(f)]
    expect(len(files) > 12, f"{len(files)} files in ccache")
    for how in ("flip", "cut", "garbage"):
        for f in files:
            if not os.path.exists(f) or os.path.getsize(f) == 0:
                continue
            if how == "flip":
                flip(f, 0.8)
            elif how == "cut":
                os.truncate(f, os.path.getsize(f) // 2)
            else:
                with open(f, "wb") as g:
                    g.write(os.urandom(300))
        shutil.rmtree(c.build("out"))
        rc, out = c.make("only-kernel")
        if rc and how == "garbage":	# its own ccache.conf and stats, too
            expect("ccache" in out, f"{how}: the error does not name ccache: {out[-500:]}")
            continue
        expect(rc == 0, f"{how}: {out[-800:]}")
        c.kernel_is_whole()


def bad_image(b):
    """A kernel whose image is gone is not up to date."""
    c = b.with_kernel("bad-image")
    os.unlink(c.kernel("arch/x86/boot/bzImage"))
    c.must("only-kernel")
    c.kernel_is_whole()
    os.unlink(c.kernel("initramfs.gz"))
    c.must("only-programs")
    c.programs_are_whole()


# ---- paths ----

def odd_paths(b):
    """A clone and a cache with blanks, quotes, a dollar and a letter beyond ASCII."""
    _ = b.ref
    for name in ("a b", "it's", "Größe \"2\" $HOME"):
        c = Clone(b, f"paths/{name}")
        c.must("tree", "only-kernel", "only-programs")
        c.trees_are_whole()
        c.kernel_is_whole()
        expect("up to date" in c.must("series"), "make series would change patches/")
        expect(os.listdir(c.cache) == ["vm-fault-retry-hard"], f"cache: {os.listdir(c.cache)}")
        c.must("distclean")
        expect(not os.path.exists(c.vfr) and not os.path.exists(c.build()), "distclean left it")


def odd_path_guest(b):
    """A guest boots from such a clone."""
    c = Clone(b, "paths/it's a guest")
    real_kernel(b, c)
    c.must("only-guest", "PROGRAM=hello")


def odd_kernel_path(b):
    """KERNEL= with blanks, a quote and a letter beyond ASCII."""
    _ = b.ref
    c = Clone(b, "paths/kernel")
    tree = os.path.abspath(f"{TOP}/paths/my löve's tree")
    user_tree(b, tree)
    c.must("tree", f"KERNEL={tree}")


# ---- an ordinary user ----

class User:
    """An ordinary user for a while, of whom nothing is left behind."""

    def __init__(self, subids=True):
        if os.geteuid() or not shutil.which("useradd"):
            raise Skip("needs root, to make a user")
        self.name, self.subids = "vfr-abuse", subids

    def __enter__(self):
        test.sh("useradd", "-r", "-M", "-d", "/nonexistent", "-s", "/bin/sh",
                *(["--add-subids-for-system"] if self.subids else []), self.name)
        return self

    def __exit__(self, *_):
        kill_all()
        test.sh("userdel", self.name)

    def prefix(self, *more):
        """Put before a command, it runs as the user."""
        return ["setpriv", f"--reuid={self.name}", f"--regid={self.name}", "--init-groups", *more]

    def own(self, *paths):
        """These are the user's."""
        test.sh("chown", "-hR", f"{self.name}:{self.name}", *paths)


def mount_real_root(c):
    """The real root, where an ordinary user can get at it: bound, not linked."""
    real = os.readlink(c.root)
    os.unlink(c.root)
    os.mkdir(c.root)
    test.sh("mount", "--bind", "-o", "ro", real, c.root)


def user_all(b):
    """needs, root, trees, a kernel and its programs as an ordinary user."""
    _ = b.ref
    with User() as user:
        c = Clone(b, "user")
        mount_real_root(c)
        try:
            for path in (c.dir, c.cache, f"{c.vfr}/base"):
                user.own(path) if path != c.cache else test.sh("chown", user.name, path, c.vfr)
            real_kernel_there = os.path.exists(f"{b.build}/out/{ARCH}-debug-series/.vfr-complete")
            c.must("needs", "tree", "only-kernel", "only-programs", prefix=user.prefix())
            c.trees_are_whole()
            c.kernel_is_whole()
            expect("up to date" in c.must("series", prefix=user.prefix()), "make series")
            if real_kernel_there:
                real_kernel(b, c)
                user.own(c.build())
                c.must("only-guest", "PROGRAM=hello", prefix=user.prefix())
        finally:
            test.sh("umount", c.root)


def user_root(b):
    """The build root made by an ordinary user."""
    _ = b.small
    with User() as user:
        c = Clone(b, "user-root", packages="busybox-static\n", base=False)
        user.own(c.dir, c.cache)
        env = {"DEBIAN_MIRROR": b.mirror.url, "prefix": user.prefix()}
        killed(c, "root", 8, KILLS[2][1], env, grace=90)
        c.must("needs", "only-root", **env)
        c.root_is_whole()


def user_no_subids(b):
    """One without subordinate ids is told so before anything starts."""
    with User(subids=False) as user:
        c = Clone(b, "user-no-subids", packages="busybox-static\n", base=False)
        user.own(c.dir, c.cache)
        c.must_fail("as root: usermod --add-subuids", "root", prefix=user.prefix(),
                    DEBIAN_MIRROR=b.mirror.url)


def user_no_userns(b):
    """Where user namespaces are not allowed that is said."""
    with User() as user:
        c = Clone(b, "user-no-userns")
        user.own(c.dir, c.cache)
        # In a user namespace of its own, in which it may make no other.
        c.must_fail("allow user namespaces", "tree", prefix=user.prefix(
            "unshare", "-U", "-r", "sh", "-c",
            "echo 0 > /proc/sys/user/max_user_namespaces && "
            'exec setpriv --bounding-set=-all "$@"', "sh"))


def not_writable(b):
    """build/ or the cache made by root, then an ordinary user: said what is in the way."""
    with User() as user:
        c = Clone(b, "not-writable")
        user.own(c.dir)
        mount_real_root(c)
        try:
            c.must_fail("cannot write to .*cache", "tree", prefix=user.prefix())
            test.sh("chown", user.name, c.cache, c.vfr)
            shutil.rmtree(f"{c.dir}/build")
            os.makedirs(c.build("logs"))
            c.must_fail("cannot write to .*build", "tree", prefix=user.prefix())
        finally:
            test.sh("umount", c.root)


# ---- wrong input ----

def user_tree(b, path):
    """A git tree of a user's, of the small base, with changes and a file of their own."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(f"{TOP}/mini", path)
    git = ("git", "-C", path, "-c", "user.name=a", "-c", "user.email=a@b")
    test.sh("git", "init", "-q", "-b", "main", path)
    test.sh(*git, "add", "-A", "-f", ".")
    test.sh(*git, "commit", "-q", "-m", "Linux")
    with open(f"{path}/mm/Kconfig", "a", encoding="utf-8") as f:
        f.write("# mine\n")
    with open(f"{path}/untracked", "w", encoding="utf-8") as f:
        f.write("mine\n")


def kernel_unchanged(b):
    """KERNEL=: the series goes on a copy, the user's own tree stays as it is, to the byte."""
    _ = b.ref
    c = Clone(b, "kernel-tree")
    tree = os.path.abspath(f"{TOP}/kernel-tree/tree")
    user_tree(b, tree)

    def state():
        return contents(tree), {p: os.stat(f"{tree}/{p}").st_mtime_ns for p in contents(tree)}
    before = state()
    c.must("tree", f"KERNEL={tree}")
    made = glob.glob(f"{c.dir}/build/kernel-*/linux")
    expect(len(made) == 1, f"trees: {made}")
    n = int(test.sh("git", "-C", made[0], "rev-list", "--count", "base..series"))
    expect(n == len(test.patches()), f"{n} commits")
    killed_at = f"{c.dir}/build"
    shutil.rmtree(killed_at)
    p = c.start("tree", f"KERNEL={tree}")
    time.sleep(5)
    os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    gone()
    c.must("tree", f"KERNEL={tree}")
    expect(state() == before, "the user's tree has changed")


def bad_kernel(b):
    """KERNEL= that is nothing, no git tree, one without a commit, one of something else."""
    c = Clone(b, "bad-kernel")
    other = os.path.abspath(f"{TOP}/bad-kernel/other")
    os.makedirs(other, exist_ok=True)
    c.must_fail("KERNEL is not a git tree", "tree", "KERNEL=/nonexistent")
    plain = "/usr/share"
    c.must_fail("KERNEL is not a git tree", "tree", f"KERNEL={plain}")
    test.sh("git", "init", "-q", other)
    c.must_fail("KERNEL.*no commit", "tree", f"KERNEL={other}")
    with open(f"{other}/README", "w", encoding="utf-8") as f:
        f.write("no kernel\n")
    test.sh("git", "-C", other, "add", ".")
    test.sh("git", "-C", other, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")
    c.must_fail("no Linux tree", "tree", f"KERNEL={other}")


def bad_arch(b):
    """An unknown architecture or tree is said at once, before anything is made."""
    c = Clone(b, "bad-arch")
    for goal in ("test", "size", "kunit", "bisectable", "mm-selftests"):
        c.must_fail("unknown architecture 'vax'; known: x86_64", goal, "ARCH=vax", timeout=20)
        expect(not os.path.exists(c.build("linux")), f"make {goal} went on")
    c.must_fail("TREE=nonsense", "boot", "TREE=nonsense", timeout=20)
    expect(not os.path.exists(c.build("linux")), "make boot went on")


def bad_patch(b):
    """A patch that does not apply: named, and nothing taken for applied; mended, it goes on."""
    _ = b.ref
    c = Clone(b, "bad-patch")
    patch = sorted(glob.glob(f"{c.dir}/patches/*.patch"))[6]
    good = open(patch, encoding="utf-8").read()
    for how, text in (("another context", good.replace("\n ", "\n x", 40)),
                      ("cut", good[:len(good) // 2]), ("empty", ""),
                      ("binary", "\0\1\2" * 100)):
        with open(patch, "w", encoding="utf-8") as f:
            f.write(text)
        out = c.must_fail(r"does not apply to the base", "tree")
        expect(os.path.basename(patch) in out, f"{how}: the patch is not named")
        c.trees_claim_nothing_false()
        expect(not c.read("linux/.git/vfr-patches"), f"{how}: taken for applied")
    with open(patch, "w", encoding="utf-8") as f:
        f.write(good)
    c.must("tree")
    c.trees_are_whole()


def no_cover(b):
    """patches/ without its cover letter, or empty: said which file is missing."""
    c = b.with_trees("no-cover")
    os.unlink(f"{c.dir}/patches/0000-cover-letter.patch")
    c.must_fail("patches/0000-cover-letter.patch", "series")
    c.must_fail("patches/0000-cover-letter.patch", "only-trees")
    shutil.rmtree(f"{c.dir}/patches")
    c.must_fail("patches/0000-cover-letter.patch.*git", "only-trees")
    expect(c.git("rev-parse", "series") == b.ref["series"], "the tree was reset")
    test.sh("git", "-C", c.dir, "checkout", "-q", "--", "patches")
    c.must("only-trees")
    c.trees_are_whole()


def missing_tool(b):
    """A host without git, mmdebstrap, bwrap: the apt line is said."""
    c = Clone(b, "missing-tool")
    for tool in ("git", "mmdebstrap", "bwrap"):
        path = f"{c.dir}/bin-{tool}"
        os.makedirs(path)
        for d in ("/usr/bin", "/usr/sbin"):
            for f in os.listdir(d):
                if f not in (tool, "apt-get") and not os.path.lexists(f"{path}/{f}"):
                    os.symlink(f"{d}/{f}", f"{path}/{f}")
        c.must_fail(f"missing on this host: {tool}; as root: apt-get install", "tree", PATH=path)


def other_base(b):
    """Trees of another base than the one in base.mk now: refused, and nothing is lost."""
    c = b.with_trees("wrong-base")
    c.pin("0newer-1", b.mini)
    c.must_fail("made from another base.*make series.*make clean", "tree")
    expect(c.git("rev-parse", "series") == b.ref["series"], "the tree is another")
    c.pin(VERSION, b.mini)
    c.must("tree")
    c.trees_are_whole()


TESTS = [
    ("killed: the trees, at 12 moments", kill_trees),
    ("killed: git's locks do not keep the trees from being made again", kill_git),
    ("killed: no commit of the user's is lost with our record", lost_record),
    ("killed: a kernel's build is not taken for complete, and goes on", kill_kernel),
    ("killed: an object that was cut short is made anew", cut_object),
    ("killed: the guest's programs", kill_programs),
    ("killed: QEMU does not survive its run", kill_guest),
    ("killed: patches/ is never half-written, at 10 moments", kill_series),
    ("killed: the build root, at 5 moments", kill_root),
    ("killed: the base kernel's download", kill_base),
    ("disk full: said before anything starts", need_disk),
    ("disk full: trees", full_trees),
    ("disk full: a kernel", full_kernel),
    ("disk full: the guest's programs", full_programs),
    ("disk full: ccache", full_ccache),
    ("disk full: the build root", full_root),
    ("disk full: a small /tmp is enough for the build root", small_tmp),
    ("disk full: the base kernel", full_base),
    ("no network: no build root", no_mirror_root),
    ("no network: it dies while the build root is made", network_dies),
    ("no network: a full cache is enough", no_network_full_cache),
    ("no network: no base kernel", no_network_base),
    ("no network: another base kernel in the cache serves", no_network_other_base),
    ("two at once: in one clone", twice_in_one_clone),
    ("two at once: between the steps of one", twice_between_steps),
    ("two at once: two clones make one build root", two_clones_one_cache),
    ("two at once: two clones with two bases", two_bases_one_cache),
    ("two at once: distclean while another clone works", distclean_in_use),
    ("bad cache: a damaged base kernel is not used", bad_base),
    ("bad cache: a damaged base kernel is fetched anew", bad_base_anew),
    ("bad cache: garbage for the base's name", bad_current),
    ("bad cache: a damaged build root is made anew", bad_root),
    ("bad cache: a damaged ccache", bad_ccache),
    ("bad cache: a kernel without its image", bad_image),
    ("paths: blanks, quotes, a dollar, beyond ASCII", odd_paths),
    ("paths: a guest", odd_path_guest),
    ("paths: KERNEL=", odd_kernel_path),
    ("user: all but the build root", user_all),
    ("user: the build root, killed, too", user_root),
    ("user: without subordinate ids", user_no_subids),
    ("user: without user namespaces", user_no_userns),
    ("user: what root made is in the way", not_writable),
    ("bad input: KERNEL= leaves the user's tree alone", kernel_unchanged),
    ("bad input: KERNEL= of no use", bad_kernel),
    ("bad input: ARCH=, TREE=", bad_arch),
    ("bad input: a patch that does not apply", bad_patch),
    ("bad input: no cover letter, no patches", no_cover),
    ("bad input: a tool is missing", missing_tool),
    ("bad input: trees of another base", other_base),
]


def tried(func, bench):
    """What test.Tests.run() takes: "" or what is wrong, or a skip."""
    try:
        func(bench)
    except Wrong as e:
        return str(e)
    except Skip as e:
        return "skip", str(e)
    except Exception:	# pylint: disable=broad-except
        return traceback.format_exc()
    finally:
        kill_all()
    return ""


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    build, root, cache, words = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(s, lambda *_: sys.exit(130))
    adopt_orphans()
    if not os.geteuid():
        # Mounts of ours are seen by nobody else, and end with us.
        if ctypes.CDLL(None).unshare(0x20000):	# CLONE_NEWNS
            sys.exit("abuse: cannot have mounts of its own")
        test.sh("mount", "--make-rprivate", "/")
    without = [w[1:] for w in words if w.startswith("-")]
    words = [w for w in words if not w.startswith("-")]
    todo = [t for t in TESTS if (not words or any(w in t[0] for w in words)) and
            not any(w in t[0] for w in without)]
    if not todo:
        sys.exit(f"no test has {' or '.join(words)} in its name")
    commit = test.sh("git", "rev-parse", os.environ.get("AT") or "HEAD").strip()
    bench = Bench(build, root, cache, commit)
    os.makedirs(f"{TOP}/results", exist_ok=True)
    t = test.Tests(f"{TOP}/results")
    try:
        for name, func in todo:
            t.run(name, tried, func, bench)
    finally:
        kill_all()
    sys.exit(t.finish())


if __name__ == "__main__":
    main()
