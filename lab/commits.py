#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Build and boot every commit of the series on every architecture.

    commits.py BUILD ARCH...

BUILD/linux is a clone of the tree (lab/clone.sh). For each architecture the commits are built
in order, with the debug configuration, and each kernel runs the attempts:

  - No commit may add a compiler warning.
  - From the architecture's own commit on, all behaviours must pass; before it, only those may
    fail that fail on the base kernel (lab/expect/base-fails).
  - What one commit brings to all architectures (BRINGS) must pass from that one on, and may
    fail before it.

A kernel that is the same to the bit as one that has run is not run again. What is done is kept
in BUILD/results/bisect.json and not done again. Leaves the table in BUILD/results/bisect.txt;
exits non-zero unless everything is well. (git rebase -x would end at the first failure.)
"""
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import guest
import ktap

# Behaviours, by the first word of their names, and the subject of the commit they need.
BRINGS = {"B12": "userfaultfd: wake the waiters of all modes",
          "C11": "mm: count hard retries"}
WARNING = re.compile(r"^.*(?:\bwarning: |\berror: |^Warning: ).*$", re.M)


def git(top, *args):
    """The output of git in TOP/linux; raises when it fails."""
    return subprocess.run(["git", "-c", "safe.directory=*", "-C", f"{top}/linux", *args],
                          check=True, text=True, capture_output=True).stdout.strip()


def concerns(arch, path):
    """Whether a change of PATH can change the kernel of ARCH."""
    folder = "x86" if arch == "x86_64" else arch
    return not re.match(rf"Documentation/|MAINTAINERS|tools/testing/|arch/(?!{folder}/)\w+/", path)


def build(top, arch):
    """Build what is checked out: {kernel: its hash or "", bad: what is wrong or ""}."""
    out = f"{top}/out/{arch}-debug-series"
    made = subprocess.run(["lab/build.sh", top, arch, "debug", "series"], check=False, text=True,
                          errors="replace", capture_output=True,
                          env={**os.environ, "NO_KSELFTESTS": "1"})
    if made.returncode:
        return {"kernel": "", "bad": "does not build: " + (made.stdout + made.stderr)[-1500:]}
    warned = WARNING.findall(Path(out, "warnings.log").read_text("utf-8", "replace"))
    return {"kernel": hashlib.sha256(Path(out, "vmlinux").read_bytes()).hexdigest(),
            "bad": "\n".join(warned)}


def run(top, arch, there):
    """The attempts on the kernel just built: {text, bad}; THERE: subjects of its commits."""
    out = f"{top}/out/{arch}-debug-series"
    r = guest.run(out, arch, ["attempts"], log=f"{out}/attempts", timeout=900, silence=300)
    if r.verdict not in ("ok", "failed"):
        return {"text": r.verdict, "bad": f"{r.verdict}: {r.reason}; console: {r.console}"}
    fault = Path(top, "linux/arch", "x86" if arch == "x86_64" else arch, "mm/fault.c")
    converted = "fault_retry_under_vma_lock(" in fault.read_text(encoding="utf-8")
    missing = [word for word, subject in BRINGS.items()
               if not any(text.startswith(subject) for text in there)]
    may_fail = [name for name in ktap.lines_of("lab/expect/base-fails")
                if name.split()[0] in missing or (not converted and not name.startswith("B12"))]
    may_skip, got = ktap.for_arch("lab/expect/skips", arch), ktap.parse(f"{top}/linux", r.output)
    bad, count = [], {"pass": 0, "fail": 0, "skip": 0}
    for name in [*ktap.lines_of("lab/expect/behaviours"), *({ktap.WHOLE} & got.keys())]:
        verdict, why = got.get(name, ("fail", "no result"))
        count[verdict] += 1
        if name not in {"pass": (name,), "fail": may_fail, "skip": may_skip}[verdict]:
            bad.append(f"{name}: {verdict}: {why}")
    return {"text": f"{count['pass']}/{count['pass'] + count['fail']}", "bad": "\n".join(bad)}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    top, archs = sys.argv[1], sys.argv[2:]
    commits = git(top, "rev-list", "--reverse", "base..series").split()
    subject = {c: git(top, "log", "-1", "--format=%s", c) for c in commits}
    used = hashlib.sha256(b"".join(p.read_bytes() for p in sorted([
        *Path("lab/config").iterdir(), *Path("lab/guest").rglob("*.[ch]"),
        *(Path("lab/expect", name) for name in ("behaviours", "base-fails", "skips")),
        Path("lab/build.sh"), Path("lab/commits.py")]))).hexdigest()
    store = Path(top, "results/bisect.json")
    store.parent.mkdir(parents=True, exist_ok=True)
    done = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    rows, failed = {c: f"{subject[c][:52]:<52}" for c in commits}, 0
    for arch in archs:
        before = None
        for n, commit in enumerate(commits, 1):
            key = f"{arch} {git(top, 'rev-parse', commit + '^{tree}')} {used}"
            files = git(top, "diff", "--name-only", f"{commit}~", commit).split()
            if key not in done and before and not any(concerns(arch, f) for f in files):
                done[key] = {**before}
            elif key not in done:
                git(top, "checkout", "-q", "-f", "--detach", commit)
                done[key] = build(top, arch)
                kernel = f"{arch} {done[key]['kernel']} {used}"
                if done[key]["kernel"] and kernel not in done:
                    done[kernel] = run(top, arch, [subject[c] for c in commits[:n]])
            store.write_text(json.dumps(done, indent=1), encoding="utf-8")
            made = done[key]
            ran = done.get(f"{arch} {made['kernel']} {used}", {"text": "no build", "bad": ""})
            bad = made["bad"] or ran["bad"]
            failed += bool(bad)
            same = before and made["kernel"] == before["kernel"]
            cell = ("FAILED " if bad else "= " if same else "") + ran["text"]
            rows[commit] += f"  {cell:<12}"
            before = made
            print(f"@ {n} of {len(commits)}, {arch}: {subject[commit][:50]}: {cell} {bad[:300]}",
                  flush=True)
    text = [f"{'commit':<52}" + "".join(f"  {arch:<12}" for arch in archs), *rows.values(), "",
            "Behaviours passed, of those that the architecture can have; =: the kernel is the",
            "same to the bit as that of the commit before.", f"{failed} failed"]
    Path(top, "results/bisect.txt").write_text(
        "\n".join(line.rstrip() for line in text) + "\n", encoding="utf-8")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
