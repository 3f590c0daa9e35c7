# SPDX-License-Identifier: GPL-2.0-only
"""What figures.py measures: the workloads, and the rows of their tables.

A workload is a guest program with its arguments, and is run in a boot of its own. The
program prints lines "R w=CODE how=HOW key=value ...", and a row is a number of them. For a
new workload add a line here, and rows if it prints something new.
"""
from typing import NamedTuple


class Row(NamedTuple):
    """words, with the unit; better: "less", "more", or "" where neither is; value: "KEY",
    "KEY/KEY", or "HOW:" before either (without it the line with how=own)."""
    words: str
    better: str
    value: str


class Workload(NamedTuple):
    """words: what happens; program: of the guest, with its arguments; rows: of its table,
    the ones that are told in few words first; cpus: of the guest; append: to its command
    line; kernels: the columns of the table that it is for, if not for all."""
    words: str
    program: str
    rows: tuple
    cpus: int = 2
    append: str = ""
    kernels: tuple = ()


# One thread (the writer) changes the address space, and 32 others fault.
WRITER = (
    Row("mean wait, us", "less", "w_mean_us"),
    Row("99th percentile, us", "less", "w_p99_us"),
    Row("stalled (waits over 10 ms), ms", "less", "w_stalled_ms"),
    Row("median, us", "less", "w_p50_us"),
    Row("longest wait, us", "less", "w_max_us"),
    Row("faults a second", "more", "faults_s"),
    Row("median of a fault, us", "less", "f_p50_us"),
    Row("99th percentile of a fault, us", "less", "f_p99_us"),
    Row("major faults in vmstat per fault", "less", "pgmajfault/faults"),
    Row("failed VMA look-ups per fault", "", "vma_lock_abort/faults"),
)
# The same; the faults are stores.
STORES = (
    *WRITER[:5],
    Row("stores a second", "more", "faults_s"),
    Row("median of a store, us", "less", "f_p50_us"),
    Row("99th percentile of a store, us", "less", "f_p99_us"),
)
# The writer beside the faults of another process: it meets them on CPUs and disk alone.
FLOOR = (
    Row("mean wait, us", "", "floor:w_mean_us"),
    Row("99th percentile, us", "", "floor:w_p99_us"),
    Row("stalled (waits over 10 ms), ms", "", "floor:w_stalled_ms"),
)
# Another thread beside the writer changes the address space, too.
BYSTANDER = (
    *WRITER[:3],
    Row("the bystander's mean wait, us", "less", "c_mean_us"),
    Row("the bystander's 99th percentile, us", "less", "c_p99_us"),
    Row("the bystander stalled, ms", "less", "c_stalled_ms"),
    *WRITER[3:],
)
# All threads fault, and call madvise().
ADVISE = (
    Row("pages a second", "more", "faults_s"),
    Row("mean madvise(), us", "less", "w_mean_us"),
    Row("median of madvise(), us", "less", "w_p50_us"),
    Row("99th percentile of madvise(), us", "less", "w_p99_us"),
    Row("99th percentile of a fault, us", "less", "f_p99_us"),
)
# Threads that read through mappings what does not fit into memory. A round is 16 MiB.
READERS = (
    Row("rounds a second", "more", "rounds_s"),
    Row("MiB read from disk a round", "less", "mb_round"),
    Row("major faults a page", "less", "pgmajfault/pages"),
    Row("refaults a page", "less", "workingset_refault_file/pages"),
    Row("retries under the VMA lock a page", "", "vma_lock_retry/pages"),
)
SWAP = (
    Row("passes a second", "more", "passes_s"),
    Row("swap-ins a page", "less", "pswpin/pages"),
    Row("retries under the VMA lock a page", "", "vma_lock_retry/pages"),
)
FAULTS = (
    Row("faults a second, 1 thread", "more", "1t:faults_s"),
    Row("faults a second, 2 threads", "more", "2t:faults_s"),
)
INSNS = (
    Row("instructions, anonymous page", "less", "anon:insns"),
    Row("instructions, page of a file", "less", "file:insns"),
)

WORKLOADS = {
    "e1": Workload("mmap+munmap elsewhere", "writer e1", WRITER),
    "e1m": Workload("mmap+munmap next to the faulted mapping, merging with it",
                    "writer e1m", WRITER),
    "e1i": Workload("mmap+munmap elsewhere, idle faults, busy CPUs", "writer e1i", WRITER),
    "e1w": Workload("mmap+munmap elsewhere, faults at cpu.weight 1, busy CPUs",
                    "writer e1w", WRITER),
    "e1l": Workload("mmap+munmap elsewhere, idle faults, busy CPUs, pages get lost",
                    "writer e1l", WRITER),
    "e2": Workload("mprotect of the faulted mapping", "writer e2", WRITER),
    "e2l": Workload("mprotect of the faulted mapping, pages get lost", "writer e2l", WRITER),
    "e2s": Workload("mprotect of the faulted mapping, swapped-out memory", "writer e2s", WRITER),
    "e3": Workload("fork of 300 faulted mappings", "writer e3", WRITER),
    "e3r": Workload("fork of 300 faulted mappings, pages get lost", "writer e3r", WRITER),
    "e2i": Workload("mprotect of the faulted mapping, idle faults, busy CPUs, and a bystander",
                    "writer e2i", BYSTANDER),
    "e3i": Workload("fork of 300 faulted mappings, idle faults, busy CPUs, and a bystander",
                    "writer e3i", BYSTANDER),
    "e3x": Workload("fork of 8,000 mappings, 300 threads, pages get lost, and a bystander",
                    "writer e3x", BYSTANDER),
    "e3xl": Workload("as E3x, faults throttled by io.max", "writer e3xl", BYSTANDER),
    "e6": Workload("mmap+touch+munmap, faults throttled by io.max", "writer e6", WRITER),
    "e7": Workload("mmap+munmap elsewhere, idle faults served by userfaultfd, busy CPUs",
                   "writer e7", WRITER),
    "e8": Workload("mprotect of the mapping beside throttled stores", "writer e8", STORES),
    "e8m": Workload("mmap+munmap elsewhere beside throttled stores", "writer e8m", STORES),
    "e8f": Workload("fork beside throttled stores", "writer e8f", STORES),
    "e8p": Workload("/proc/PID/cmdline read by others beside throttled stores",
                    "writer e8p", STORES),
    "e9": Workload("32 threads use madvise and mincore on what they touch, busy CPUs", "writer e9",
                   ADVISE),
    "e1-floor": Workload("E1, but the faults are another process's", "writer floor e1", FLOOR),
    "e1w-floor": Workload("E1w, but the faults are another process's", "writer floor e1w", FLOOR),
    "e1l-floor": Workload("E1l, but the faults are another process's", "writer floor e1l", FLOOR),
    "e2-floor": Workload("E2, but the faults are another process's", "writer floor e2", FLOOR),
    "e3-floor": Workload("E3, but the faults are another process's", "writer floor e3", FLOOR),
    "e4": Workload("48 threads read 16 MiB each in 64 MiB, 1 ms a read", "throughput e4", READERS),
    "e4r": Workload("as E4, without readahead", "throughput e4r", READERS),
    "e4s": Workload("as E4, 10 ms a read", "throughput e4s", READERS),
    "e4-1": Workload("as E4, on one CPU", "throughput e4", READERS, cpus=1),
    "e4m": Workload("as E4, and each round maps and unmaps its file", "throughput e4m", READERS),
    "es1": Workload("as E4, 1 thread", "throughput es1", READERS),
    "es16": Workload("as E4, 16 threads", "throughput es16", READERS),
    "er": Workload("as E4, at random", "throughput er", READERS),
    "er1": Workload("as E4, at random, 1 thread", "throughput er1", READERS),
    "er16": Workload("as E4, at random, 16 threads", "throughput er16", READERS),
    "e5": Workload("4 threads read swapped-out memory, 2 page it out", "throughput e5", SWAP),
    "e5s": Workload("as E5, one page after the other", "throughput e5s", SWAP),
    "e5z": Workload("as E5s, from zram", "throughput e5z", SWAP),
    "em1l": Workload("as E1l, multi-generational LRU", "writer e1l", WRITER, append="lru_gen=y"),
    "em4": Workload("as E4, multi-generational LRU", "throughput e4", READERS,
                    append="lru_gen=y"),
    "em5": Workload("as E5, multi-generational LRU", "throughput e5", SWAP, append="lru_gen=y"),
    "pf1": Workload("page_fault1: anonymous memory, no waits", "throughput pf1", FAULTS),
    "pf2": Workload("page_fault2: private file, no waits", "throughput pf2", FAULTS),
    "pf3": Workload("page_fault3: shared file, no waits", "throughput pf3", FAULTS),
    "insns": Workload("a fault that succeeds at once", "insns", INSNS, cpus=1),
}
# The kernels of alternatives/n.patch: so many attempts may drop their lock. n1 is base, n3 the
# series; on n3stay a fault that waited under the mmap_lock stays there.
N = ("n1", "n2", "n3", "n4", "n3stay")
# What comes before the hyphen, and of 100 pages so many are lost before each attempt.
for _code in ("e1i", "e2", "e3", "e4"):
    for _lost in (0, 10, 25, 50):
        WORKLOADS[f"{_code}-{_lost}"] = WORKLOADS[_code]._replace(
            words=f"{WORKLOADS[_code].words}, {_lost} % of the pages get lost",
            append=f"vfr_lose={_lost}", kernels=N)
# What `make run` measures, and the groups of the picture, in its order.
QUICK = ("e1l", "e2l", "e3r", "e8", "e3")
PICTURE = ("e1l", "e2l", "e3r", "e8")
# The kernels in the picture and what they are called there.
BARS = {"base": "today", "series": "this series", "hold": "holding the lock"}
# So many rows of a workload are in the table of `make run`.
TOLD = 3
# What counts instructions, and makes no sense by the host's clock.
OWN_TIME_ONLY = ("insns",)
# The memory of a guest, by program.
MEMORY = {"writer": "2G", "throughput": "3G", "insns": "1G"}
