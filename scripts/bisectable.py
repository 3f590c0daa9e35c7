#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Build and boot every commit of the series on every architecture.

    bisectable.py BUILD FROM ARCH...

BUILD is a build directory of its own, whose BUILD/linux is a clone of the tree
with the series (see the Makefile). For each architecture the commits are built
in order, those before number FROM left out, with the debug configuration, and each
kernel runs guest/behave:

  - No commit may add a compiler warning.
  - From the architecture's own commit on, all behaviours must pass; before it,
    only those may fail that fail on the base kernel.
  - What one commit brings to all architectures (BRINGS) must pass from that one on,
    and may fail before it.

insns (QEMU -icount) counts the instructions of a fault that succeeds at once, before
and with the architecture's own commit. It is told, not judged: these are debug
kernels (`make run` counts them in others, on x86-64).

A kernel that is the same to the bit as one that has run is not run again, and a
commit is not built that changes no file which the kernel before was built from
(by kbuild's dependency files). What is done is kept in BUILD/results/bisectable.json, builds by the commit's tree and
runs by the kernel, with all else that goes into the verdict, and not done again.
Prints the matrix; exits non-zero unless everything is well.
"""
import collections
import concurrent.futures
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

import guest
import test

FAULT = {"x86_64": "x86"}

# Behaviours, by the first word of their names, and the subject of the commit they need.
BRINGS = {"B12": "userfaultfd: wake the waiters of all modes",
          "C11": "mm: count hard retries"}


def git(tree, *args):
    return subprocess.run(["git", "-C", tree, *args], check=True, text=True,
                          capture_output=True).stdout


def file_hash(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def insns(out, arch):
    """{kind: instructions} of a fault that succeeds at once, or {} if it did not run."""
    r = guest.run(out, arch, ["insns"], accel="tcg,thread=single", cpus=1,
                  extra=["-icount", "shift=0,sleep=off"], log=f"{out}/insns", timeout=120)
    return {m[1]: int(m[2]) for m in re.finditer(r"how=(\w+) insns=(\d+)", r.output)}


def run(out, arch, converted, missing):
    """behave and insns on the kernel in OUT; {text, bad: what is wrong or "", insns}.

    CONVERTED: whether the architecture has its commit; MISSING: the words of BRINGS
    whose commit is still to come."""
    r = guest.run(out, arch, ["behave"], log=f"{out}/behave", timeout=900, silence=300)
    if r.verdict not in ("ok", "failed"):
        return {"text": r.verdict, "insns": {},
                "bad": f"{r.verdict}: {r.reason}; console: {r.console}"}
    may_fail = [n for n in test.lines_of("tests/base-fails")
                if n.split()[0] in missing or not converted and not n.startswith("B12")]
    got = test.judged(r.output, arch)
    bad = [f"{n}: {why}" for n, (verdict, why) in got.items()
           if verdict == "fail" and n not in may_fail]
    count = collections.Counter(verdict for verdict, _ in got.values())
    return {"text": f"{count['pass']}/{len(got) - count['skip']}", "bad": "\n".join(bad),
            "insns": insns(out, arch)}


def build(top, arch, commit):
    """Build one commit; {vmlinux: its hash, bad, seconds, converted}."""
    linux, out = f"{top}/linux", f"{top}/out/{arch}-debug-series"
    git(linux, "checkout", "-q", "-f", "--detach", commit)
    start = time.monotonic()
    r = subprocess.run(["scripts/kernel.sh", top, arch, "debug", "series"],
                       capture_output=True, text=True, errors="replace", check=False)
    if r.returncode:
        return {"bad": "does not build: " + (r.stdout + r.stderr)[-1500:], "vmlinux": ""}
    with open(f"{out}/warnings.log", encoding="utf-8", errors="replace") as f:
        warned = sorted(test.warnings(f.read()).elements())
    with open(f"{linux}/arch/{FAULT.get(arch, arch)}/mm/fault.c", encoding="utf-8") as f:
        converted = "fault_retry_under_vma_lock(" in f.read()
    return {"bad": "\n".join(warned), "vmlinux": file_hash(f"{out}/vmlinux"),
            "seconds": round(time.monotonic() - start), "converted": converted}


def unread(top, arch, old, new):
    """Whether the build in out/ read none of the files that differ between two commits.

    kbuild keeps in .*.cmd what each object was made from."""
    files = git(f"{top}/linux", "diff", "--name-only", old, new).split()
    if any(re.search(r"(^|/)(Kconfig|Kbuild|Makefile)|^scripts/|\.(sh|py|pl|lds\.S)$", f)
           for f in files):
        return False
    r = subprocess.run(["grep", "-rqF", "--include=.*.cmd", *(f"-e/{f}" for f in files),
                        f"{top}/out/{arch}-debug-series"], check=False)
    return r.returncode == 1


def keep_to_run(top, arch, name):
    """Copy the kernel just built, with its initramfs, to a place of its own."""
    out, kept = f"{top}/out/{arch}-debug-series", f"{top}/runs/{arch}-{name}"
    subprocess.run(["scripts/guest.sh", top, arch, "debug", "series"], check=True,
                   stdout=subprocess.DEVNULL, env={**os.environ, "NO_KSELFTESTS": "1"})
    shutil.rmtree(kept, ignore_errors=True)
    for file in (guest.arch_facts(arch)["IMAGE"], "initramfs.gz"):
        os.makedirs(os.path.dirname(f"{kept}/{file}"), exist_ok=True)
        shutil.copy(f"{out}/{file}", f"{kept}/{file}")
    return kept


def main():
    if len(sys.argv) < 4 or not sys.argv[2].isdigit():
        sys.exit(__doc__)
    top, first, archs = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    os.makedirs(f"{top}/results", exist_ok=True)
    linux, store = f"{top}/linux", f"{top}/results/bisectable.json"
    everyone = git(linux, "rev-list", "--reverse", "base..series").split()
    before_them, commits = everyone[:max(first, 1) - 1], everyone[max(first, 1) - 1:]
    if not commits:
        sys.exit(f"bisectable: the series has less than {first} commits")
    subject = {c: git(linux, "log", "-1", "--format=%s", c).strip() for c in everyone}
    tree = {c: git(linux, "rev-parse", f"{c}^{{tree}}").strip() for c in commits}
    done = {}
    if os.path.exists(store):
        with open(store, encoding="utf-8") as f:
            done = json.load(f)

    def save():
        with open(store + ".tmp", "w", encoding="utf-8") as f:
            json.dump(done, f, indent=1)
        os.replace(store + ".tmp", store)

    start, n, built, runs, todo = time.monotonic(), 0, {}, {}, {}

    def note(*words):
        t = int(time.monotonic() - start)
        print(f"@ {t // 60}:{t % 60:02}", *words, flush=True)

    # One builds, another runs what is built.
    with concurrent.futures.ThreadPoolExecutor(1) as runner:
        for arch in archs:
            of_build = hashlib.sha256("".join(map(file_hash, [
                "config/common.config", "config/debug.config", "config/series-tests.config",
                "scripts/kernel.sh", *glob.glob(f"config/debug-{arch}.config"),
                f"config/{arch}.config", f"config/{arch}.env"])).encode()).hexdigest()[:12]
            of_run = hashlib.sha256("".join(map(file_hash, [
                "guest/behave.c", "guest/insns.c", "guest/init.c", "guest/driver/vfr.c",
                "guest/vfr.h", "tests/behaviours", "tests/base-fails", "tests/skips",
                f"config/{arch}.env"])).encode()).hexdigest()[:12]
            before = None
            for c in commits:
                n += 1
                key = f"build {arch} {tree[c]} {of_build}"
                new, how = key not in done, "kept"
                out = f"{top}/out/{arch}-debug-series"
                if new and before and os.path.exists(f"{out}/vmlinux") and \
                        built[arch, before]["vmlinux"] == file_hash(f"{out}/vmlinux") and \
                        unread(top, arch, before, c):
                    done[key] = {**built[arch, before], "seconds": 0}
                    how = "changes nothing that the kernel was built from"
                elif new:
                    done[key] = build(top, arch, c)
                    how = f"built in {done[key].get('seconds')} s"
                save()
                b, before = done[key], c
                built[arch, c] = b
                note(f"{n} of {len(archs) * len(commits)}, {arch}: {subject[c][:50]}:", how,
                     "FAILED: " + b["bad"][:300] if b["bad"] else "")
                if not b["vmlinux"]:
                    continue
                key = f"run {arch} {b['vmlinux']} {of_run}"
                runs[arch, c] = key
                if key in done or key in todo:
                    continue
                if not new:	# built in another session: what is in out/ is of another commit
                    done[f"build {arch} {tree[c]} {of_build}"] = b = build(top, arch, c)
                kept = keep_to_run(top, arch, b["vmlinux"][:12])

                there = [subject[x] for x in before_them + commits[:commits.index(c) + 1]]
                missing = [word for word, line in BRINGS.items()
                           if not any(text.startswith(line) for text in there)]

                def job(key=key, kept=kept, arch=arch, converted=b["converted"], missing=missing):
                    done[key] = run(kept, arch, converted, missing)
                    note("run", os.path.basename(kept), done[key]["text"], done[key]["bad"][:300])
                todo[key] = runner.submit(job)
        for future in todo.values():
            future.result()
            save()

    bad, lines = 0, ["  ".join([f"{'commit':<52}", *(f"{a:<10}" for a in archs)]).rstrip()]
    for i, c in enumerate(commits):
        cells = []
        for a in archs:
            r = done.get(runs.get((a, c)), {"text": "no build", "bad": "it"})
            wrong = built[a, c]["bad"] or r["bad"]
            bad += bool(wrong)
            same = i and built[a, c]["vmlinux"] == built[a, commits[i - 1]]["vmlinux"]
            cells.append(("FAILED " if wrong else "= " if same else "") + r["text"])
        lines.append("  ".join([f"{subject[c][:52]:<52}", *(f"{x:<10}" for x in cells)]).rstrip())
    if first > 1:
        lines.append(f"Patches 1 to {first - 1} were left out of this run.")
    lines += ["Behaviours passed, of those the architecture can have; =: the kernel is the same",
              "to the bit as that of the commit before.", "",
              "Instructions of a fault that succeeds at once in these debug kernels, before and",
              "with the commit of the architecture:"]
    for a in archs:
        for before, after in zip(commits, commits[1:]):
            if built[a, after].get("converted") and not built[a, before].get("converted"):
                old, new = (done.get(runs.get((a, c)), {}).get("insns", {})
                            for c in (before, after))
                lines.append(f"  {a:<10} " + (", ".join(
                    f"{k} {old.get(k)} -> {n}" for k, n in new.items()) or "not counted"))
    with open(f"{top}/results/bisectable.txt", "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    print("\n".join("@ " + line for line in lines))
    print(f"{bad} failed")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
