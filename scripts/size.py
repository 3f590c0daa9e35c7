#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The size of each architecture's fault handler, base against series.

    size.py BUILD ARCH...

Compiles arch/*/mm/fault.o of both trees with the configuration of the guests, less
the debug options, and has the kernel's scripts/bloat-o-meter compare them. Prints a
table; leaves it, with all that bloat-o-meter says, in BUILD/results/size.txt.
"""
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


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    build, archs = sys.argv[1], sys.argv[2:]
    table, details = [f"{'':<10}  {'handler':<22} {'base':>6} {'series':>6} {'':>5}"], []
    for i, arch in enumerate(archs, 1):
        old, new = (fault_o(build, arch, tree) for tree in ("base", "series"))
        text = sh("python3", f"{build}/linux/scripts/bloat-o-meter", old, new)
        details.append(f"{arch}\n{text}")
        rows = re.findall(r"^(\S+)\s+(\d+|-)\s+(\d+|-)\s+([+-]\d+)$", text, re.M)
        table += [f"{arch:<10}  {name:<22} {a:>6} {b:>6} {d:>5}" for name, a, b, d in rows] or \
            [f"{arch:<10}  unchanged"]
        print(f"@ {i} of {len(archs)}: {arch}", flush=True)
    os.makedirs(f"{build}/results", exist_ok=True)
    with open(f"{build}/results/size.txt", "w", encoding="utf-8") as f:
        f.write("\n".join([*table, "", *details]) + "\n")
    print("\n".join("@ " + line for line in table))


if __name__ == "__main__":
    main()
