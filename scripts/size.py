#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What the series adds to each architecture's fault handler: bytes and instructions.

    size.py BUILD ARCH...

Compiles arch/*/mm/fault.o of both trees with the configuration of the guests, less
the debug options, and has the kernel's scripts/bloat-o-meter compare them. And counts
the instructions on the shortest path through the handler, called functions left out,
on which a fault succeeds at the first attempt under the VMA lock: such a fault must
not pay for the retry of others. Exits non-zero if one pays more than tests/size-more
says, or less. Prints a table; leaves it, with all that bloat-o-meter says, in
BUILD/results/size.txt.
"""
import heapq
import os
import re
import subprocess
import sys

import guest


def sh(*cmd, **kw):
    return subprocess.run(cmd, check=True, capture_output=True, text=True, **kw).stdout


def fault_o(build, arch, tree):
    """Compile the fault handler of ARCH; the path of the object."""
    facts = guest.arch_facts(arch)
    out = f"{build}/out/{arch}-size-{tree}"
    src = f"{build}/{'linux' if tree == 'series' else 'base'}"
    make = ["make", "-s", "-C", src, f"O=/vfr/{out}", f"ARCH={facts['KARCH']}",
            f"CROSS_COMPILE={facts['CROSS']}", f"-j{os.cpu_count()}",
            f"CC=ccache {facts['CROSS']}gcc"]
    env = {**os.environ, "CCACHE_DIR": "/cache/ccache", "CCACHE_DEPEND": "1"}
    os.makedirs(out, exist_ok=True)
    sh(*make, "tinyconfig", env=env)
    sh("scripts/kconfig/merge_config.sh", "-m", "-O", f"/vfr/{out}", f"/vfr/{out}/.config",
       *(f"/vfr/config/{f}.config" for f in ("common", arch)), cwd=src, env=env)
    sh(*make, "olddefconfig", env=env)
    name = f"arch/{'x86' if arch == 'x86_64' else arch}/mm/fault.o"
    sh(*make, name, env=env)
    return f"{out}/{name}"


def instructions(objdump, obj, name):
    """[(mnemonic, operands, symbols of its relocations, index of its target or None)]
    of the function NAME in OBJ."""
    sym = next(re.search(r" F (\S+)\s+([0-9a-f]+)", line)
               for line in sh(objdump, "-t", obj).splitlines() if line.split()[-1:] == [name])
    start = int(sym.string.split()[0], 16)
    rows, section = [], ""
    for line in sh(objdump, "-dr", "--no-show-raw-insn", obj).splitlines():
        if line.startswith("Disassembly of section "):
            section = line.split()[-1].rstrip(":")
        if m := re.match(r"\s+[0-9a-f]+:\s+R_\S+\s+(\S+)", line):
            if rows:
                rows[-1][3].append(m[1])
        elif (m := re.match(r"\s*([0-9a-f]+):\s+(\S+)\s*(.*)", line)) and section == sym[1]:
            rows.append((int(m[1], 16), m[2], m[3], []))
    rows = [r for r in rows if start <= r[0] < start + int(sym[2], 16)]
    index = {r[0]: k for k, r in enumerate(rows)}
    # A target is "1f4 <do_page_fault+0x44>", or "# 1f4 <...>" behind a distance. A
    # relocation to anything but a local label leads out of the function.
    at = [re.search(r"\b([0-9a-f]+) <", r[2]) for r in rows]
    return [(r[1], r[2], r[3], index.get(int(m[1], 16)) if m and
             all(s.startswith(".L") for s in r[3]) else None) for r, m in zip(rows, at)]


CALL = r"(call|bl|blx|brasl|jalr?|auipc)$"	# auipc: the first half of riscv's call
JUMP = r"(jmp|b|j|jg|jr|br|bx|b\.n|b\.w)$"
RETURN = r"(ret|retq|blr)$"
# vma_end_read(): what tells a success from a retry, which is shorter.
RELEASE = r"(lock|ldadd\w*|ldxr|ldrex|lr\.w\S*|amoadd\S*|ll\.w|amadd\S*|lwarx|laal?|asi|csy?)"
WAY = ("lock_vma_under_rcu", "handle_mm_fault")


def success_path(insns):
    """The number of instructions from entry to exit of a fault that succeeds at once."""
    def after(k):
        mnemonic, operands, symbols, target = insns[k]
        if re.match(RETURN, mnemonic) or re.match(r"(pop|ldm)", mnemonic) and "pc}" in operands:
            return []
        if re.match(CALL, mnemonic):
            return [k + 1]
        nexts = [target] if target is not None and re.match(r"[bjct]", mnemonic) else []
        # A jump out of the function is its exit, but for one that is patched to a no-op.
        if not re.match(JUMP, mnemonic) or any(s.startswith(".altinstr") for s in symbols):
            nexts.append(k + 1)
        return nexts

    def passed(k, stage):
        mnemonic, operands, symbols, _ = insns[k]
        here = " ".join([operands, *symbols])
        if stage < len(WAY):
            return stage + bool(re.search(rf"\b{WAY[stage]}\b", here))
        return stage + (stage == len(WAY) and bool(re.fullmatch(RELEASE, mnemonic)))

    seen, heap = set(), [(1, 0, 0)]
    while heap:
        length, k, stage = heapq.heappop(heap)
        if (k, stage) in seen or "lock_mm_and_find_vma" in " ".join([insns[k][1], *insns[k][2]]):
            continue
        seen.add((k, stage))
        stage = passed(k, stage)
        nexts = after(k)
        if not nexts and stage > len(WAY):
            return length
        for n in nexts:
            if n < len(insns):
                heapq.heappush(heap, (length + 1, n, stage))
    raise SystemExit("cannot follow the fault handler: the disassembly has changed its looks")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    build, archs = sys.argv[1], sys.argv[2:]
    with open("tests/size-more", encoding="utf-8") as f:
        more = {k: int(v) for k, v, *_ in (line.split() for line in f if line[0] != "#")}
    details, wrong = [], []
    table = [f"{'':<10}  {'handler':<18} {'bytes':>6} {'series':>6} {'':>5}   "
             f"{'success':>7} {'series':>6} {'':>3}"]
    for i, arch in enumerate(archs, 1):
        old, new = (fault_o(build, arch, tree) for tree in ("base", "series"))
        text = sh("python3", f"{build}/linux/scripts/bloat-o-meter", old, new)
        details.append(f"{arch}\n{text}")
        rows = re.findall(r"^(\S+)\s+(\d+|-)\s+(\d+|-)\s+([+-]\d+)$", text, re.M)
        # The largest of them is the handler, whatever else is called like it.
        name, a, b, d = max((r for r in rows if re.search("page_fault$|^do_exception$", r[0])),
                            key=lambda row: int("0" + row[1].strip("-")))
        objdump = guest.arch_facts(arch)["CROSS"] + "objdump"
        was, now = (success_path(instructions(objdump, o, name)) for o in (old, new))
        table.append(f"{arch:<10}  {name:<18} {a:>6} {b:>6} {d:>5}   {was:>7} {now:>6} {now - was:>+3}")
        if max(now - was, 0) != more.get(arch, 0):
            wrong.append(f"{arch}: {now - was:+} instructions, not {more.get(arch, 0):+}")
        print(f"@ {i} of {len(archs)}: {arch}", flush=True)
    os.makedirs(f"{build}/results", exist_ok=True)
    with open(f"{build}/results/size.txt", "w", encoding="utf-8") as f:
        f.write("\n".join([*table, "", *details]) + "\n")
    print("\n".join("@ " + line for line in table))
    if wrong:
        sys.exit("what a fault pays that succeeds at once is not what tests/size-more says: "
                 + "; ".join(wrong))


if __name__ == "__main__":
    main()
