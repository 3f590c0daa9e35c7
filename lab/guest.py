#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Boot one guest and say how it went.

    guest.py OUT ARCH PROGRAM [ARG...]
    guest.py OUT ARCH --shell

OUT is the output directory of a kernel with its initramfs. A guest is judged by
what it sends over a virtio-serial port of its own, by its console and by QEMU:

    ok           the program ended with 0, and said so
    failed       the program ended with another status, and said so
    splat        it may have ended well, but the kernel complained on the way
    panic        the kernel panicked
    hang         output to the last, but no end within the time limit
    silent       no output at all for the silence limit
    no end       QEMU ended well, the guest without its END line
    qemu lost    QEMU did not start, or died

Nothing but "ok" is a pass.
"""
import collections
import os
import re
import shlex
import subprocess
import sys
import time

# What no log may contain, whatever the programs said.
SPLATS = re.compile(
    r"^.*(?:\bWARNING: |\bBUG: |\bBUG at |\bOops\b|\bINFO: (?:task|rcu_|possible|suspicious|trying)"
    r"|\bgeneral protection fault\b|\bUnable to handle kernel\b|\bkernel BUG\b"
    r"|KASAN:|KCSAN:|UBSAN:|\bsoft lockup\b|\bhard LOCKUP\b|\bpossible recursive locking\b"
    r"|\bpossible circular locking\b|\binvalid context\b|\bself-detected stall\b"
    r"|\bBad page\b|\bBad rss-counter\b|\bmm: bad\b).*$", re.M)
PANIC = re.compile(r"^.*Kernel panic.*$", re.M)
END = re.compile(r"^END (\d+)$", re.M)


# verdict: see above; output: what the program sent; reason: one line of why; seconds: wall
# time; console: the path of the console's log
Result = collections.namedtuple("Result", "verdict output reason seconds console")


def arch_facts(arch):
    """The row of lab/config/archs as a dict; SystemExit if there is none."""
    keys = ("NAME", "KARCH", "CROSS", "IMAGE", "CONSOLE", "SERIAL", "APPEND", "QEMU")
    with open("lab/config/archs", encoding="utf-8") as f:
        rows = [line.split(None, 7) for line in f if line.strip() and line[0] != "#"]
    for row in rows:
        if row[0] == arch:
            return {key: "" if value == "-" else value for key, value in zip(keys, row)}
    sys.exit(f"unknown architecture '{arch}'; known: {' '.join(row[0] for row in rows)}")


def qemu_line(out, arch, append, accel="tcg", cpus=2, memory="1G", extra=(), initrd=None):
    """The QEMU command up to its console and ports, as a list; initrd: not OUT's own."""
    facts = arch_facts(arch)
    return [*facts["QEMU"].split(), "-accel",
            "tcg,thread=multi" if accel == "tcg" else accel,
            "-smp", str(cpus), "-m", memory, "-nodefaults", "-display", "none",
            "-no-reboot", "-kernel", f"{out}/{facts['IMAGE']}",
            "-initrd", initrd or f"{out}/initramfs.gz", "-append",
            f"console={facts['CONSOLE']} panic=-1 oops=panic "
            f"{facts['APPEND'].replace(',', ' ')} {append}",
            "-device", facts["SERIAL"], *extra]


def read_tail(path, size=1 << 24):
    try:
        with open(path, "rb") as f:
            return f.read(size).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def watch(qemu, files, timeout, silence, lose_after):
    """Wait for QEMU, which writes FILES: None, or (verdict, reason) if it has to be stopped."""
    start = seen_at = time.monotonic()
    seen = -1
    while qemu.poll() is None:
        time.sleep(0.1)
        now, size = time.monotonic(), sum(map(os.path.getsize, files))
        if size != seen:
            seen, seen_at = size, now
        if lose_after is not None and now - start > lose_after:
            qemu.kill()
        elif now - seen_at > silence:
            return "silent", f"no output for {silence:.0f} s"
        elif now - start > timeout:
            return "hang", f"no end within {timeout:.0f} s"
    return None


def judge(stopped, status, console, output, errors):
    """(verdict, reason) of a guest that has ended with STATUS, or was STOPPED."""
    panic, splat = PANIC.search(console), SPLATS.search(console)
    end = END.search(output)
    last = f"its last line: {console.rstrip()[-200:].splitlines()[-1:]}"
    if panic:
        return "panic", panic[0].strip()
    if stopped:
        return stopped[0], f"{stopped[1]}, {last}"
    if status:
        return "qemu lost", f"QEMU ended with {status}: {errors.strip().splitlines()[-1][:200]}"
    if not end:
        return "no end", f"the guest ended without its END line, {last}"
    if splat:
        return "splat", splat[0].strip()
    return ("failed", f"the program ended with {end[1]}") if int(end[1]) else ("ok", "")


def run(out, arch, program, *, append="", log=None, timeout=300.0, silence=60.0,
        lose_qemu_after=None, **kw):
    """Boot OUT's kernel, run PROGRAM (a list) as its one program, judge it.

    log: prefix of the log files (OUT/guest.log by default); timeout, silence:
    seconds; lose_qemu_after: kill QEMU after so many seconds, to test that;
    kw: see qemu_line(). Returns a Result; never raises for a bad guest.
    """
    log = log or f"{out}/guest"
    os.makedirs(os.path.dirname(log), exist_ok=True)
    console, port, errors = log + ".console", log + ".result", log + ".qemu"
    for path in (console, port):
        with open(path, "wb"):
            pass
    line = qemu_line(out, arch, f"{append} -- {' '.join(program)}", **kw)
    line += ["-serial", f"file:{console}", "-chardev", f"file,id=result,path={port}",
             "-device", "virtserialport,chardev=result,name=result"]
    start = time.monotonic()
    with open(errors, "w", encoding="utf-8") as err:
        err.write(shlex.join(line) + "\n")
        err.flush()
        qemu = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
        try:
            stopped = watch(qemu, (console, port), timeout, silence, lose_qemu_after)
        finally:
            qemu.kill()
            qemu.wait()
    output = read_tail(port)
    verdict, reason = judge(stopped, qemu.returncode, read_tail(console), output,
                            read_tail(errors))
    end = END.search(output)
    if end:
        output = output[:end.start()].rstrip("\n") + "\n"
    return Result(verdict, output, reason, time.monotonic() - start, console)


def choose_accel(out, arch, wanted):
    """tcg, or kvm if that was asked for and a probe guest ran: /dev/kvm proves nothing."""
    if wanted not in ("", "tcg", "kvm"):
        sys.exit(f"ACCEL={wanted}? tcg (the default) or kvm")
    if wanted == "kvm":
        r = run(out, arch, ["hello"], accel="kvm", timeout=15, silence=15, log=f"{out}/kvm-probe")
        if r.verdict == "ok":
            return "kvm"
        print(f"@ KVM was asked for, but a guest did not run ({r.verdict}: {r.reason}): TCG")
    return "tcg"


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    _, out, arch, *program = sys.argv
    if program == ["--shell"]:
        line = qemu_line(out, arch, "-- sh")
        os.execvp(line[0], line + ["-serial", "mon:stdio"])
    r = run(out, arch, program)
    sys.stdout.write(r.output)
    print(f"guest: {r.verdict} {r.reason} ({r.seconds:.0f} s, console: {r.console})")
    sys.exit(0 if r.verdict == "ok" else 1)


if __name__ == "__main__":
    main()
