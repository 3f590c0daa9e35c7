# SPDX-License-Identifier: GPL-2.0-only
"""What scale.py models, which see: a clock, servers with a queue, the mmap_lock, faults."""
import collections
import heapq
import random

US, MS = 1e-6, 1e-3


class Sim:
    """Processes are generators: they yield seconds to sleep, or None to sleep until wake()."""

    def __init__(self, seed):
        self.now, self.heap, self.serial, self.current = 0.0, [], 0, None
        self.random = random.Random(seed)

    def wake(self, process, delay=0.0):
        self.serial += 1
        heapq.heappush(self.heap, (self.now + delay, self.serial, process))

    def run(self, end):
        while self.heap and self.heap[0][0] <= end:
            self.now, _, self.current = heapq.heappop(self.heap)
            delay = next(self.current, None)
            if delay is not None:
                self.wake(self.current, delay)


class Servers:
    """So many of a kind with one queue: the CPUs, or the places of the disk."""

    def __init__(self, sim, number):
        self.sim, self.free, self.queue = sim, number, collections.deque()

    def get(self):
        if self.free:
            self.free -= 1
        else:
            self.queue.append(self.sim.current)
            yield None

    def put(self):
        if self.queue:
            self.sim.wake(self.queue.popleft())
        else:
            self.free += 1


class Waiter:
    """Who waits for the mmap_lock."""

    def __init__(self, sim, write):
        self.process, self.since, self.write, self.woken = sim.current, sim.now, write, False


class Rwsem:
    """The mmap_lock. Who asks for it has a CPU, and gives it up to wait."""
    HANDOFF, BATCH, WAKE_UP = 4 * MS, 256, 5 * US  # RWSEM_WAIT_TIMEOUT, MAX_READERS_WAKEUP

    def __init__(self, sim, cpus, atomic):
        self.sim, self.cpus, self.atomic, self.line = sim, cpus, atomic, 0.0
        self.readers, self.writer, self.handoff, self.queue = 0, False, False, collections.deque()

    def touch(self):
        """How long one atomic operation takes, with its wait for the cache line."""
        self.line = max(self.line, self.sim.now) + self.atomic
        return self.line - self.sim.now

    def read(self):
        yield self.touch()
        if self.writer or self.handoff or (self.queue and self.readers):
            self.queue.append(Waiter(self.sim, False))
            self.cpus.put()
            yield None
            yield from self.cpus.get()
        else:
            self.readers += 1

    def write(self):
        yield self.touch()
        if self.writer or self.readers or self.queue:
            me = Waiter(self.sim, True)
            self.queue.append(me)
            while True:
                self.cpus.put()
                yield None
                yield from self.cpus.get()
                if not self.writer and not self.readers:
                    break
                me.woken = False
                self.handoff = self.handoff or self.sim.now - me.since > self.HANDOFF
            assert self.queue.popleft() is me
        self.writer, self.handoff = True, False

    def wake_first(self):
        if self.queue and self.queue[0].write:
            if not self.readers and not self.queue[0].woken:
                self.queue[0].woken = True
                self.sim.wake(self.queue[0].process, self.WAKE_UP)
        elif self.queue:
            left = collections.deque()
            for waiter in self.queue:
                if waiter.write or self.readers >= self.BATCH:
                    left.append(waiter)
                else:
                    self.readers += 1
                    self.sim.wake(waiter.process, self.WAKE_UP)
            self.queue, self.handoff = left, False

    def end_read(self):
        yield self.touch()
        assert self.readers and not self.writer
        self.readers -= 1
        if not self.readers:
            self.wake_first()

    def end_write(self, downgrade=False):
        yield self.touch()
        assert self.writer and not self.readers
        self.writer, self.readers = False, int(downgrade)
        if not downgrade or (self.queue and not self.queue[0].write):
            self.wake_first()


class Program:
    """A process whose threads fault. is_lost(program, reads that had ended, when): is the page gone?"""
    MAP = 4 * US  # mmap, or munmap with the lock held for writing: half of E1's 7.7 us

    def __init__(self, kernel, cpus, seed, cost, read, is_lost, places=256, atomic=0.1 * US):
        self.sim, self.kernel, self.cost, self.read, self.is_lost = Sim(seed), kernel, cost, read, is_lost
        self.random, self.cpus, self.disk = self.sim.random, Servers(self.sim, cpus), Servers(self.sim, places)
        self.lock, self.n, self.stop = Rwsem(self.sim, self.cpus, atomic), collections.Counter(), False
        self.held, self.locked, self.fork = collections.Counter(), 0, None  # VMAs below are write-locked
        self.took = {"fork": [], "bystander": []}

    def read_page(self):
        yield from self.disk.get()
        yield self.read * (0.9 + 0.2 * self.random.random())
        self.disk.put()
        self.n["reads"] += 1

    def fault(self, vma):
        waits, under_vma, may_drop, mark, since = 0, True, True, None, self.sim.now
        self.n["begun"] += 1
        there = False
        while not there:
            yield from self.cpus.get()
            by_vma = under_vma and vma >= self.locked
            if by_vma:
                self.held[vma] += 1
            else:
                yield from self.lock.read()
            if mark:
                there = not self.is_lost(self, *mark)
                self.n["retries"] += 1
                self.n["lost"] += not there
            yield self.cost[1] * 2 if there else self.cost[0]
            if not there and ((self.kernel == "hold") if by_vma else not may_drop):
                self.cpus.put()
                yield from self.read_page()
                yield from self.cpus.get()
                yield self.cost[1]
                there = True
            if by_vma:
                self.held[vma] -= 1
                if not self.held[vma]:
                    del self.held[vma]
                    if self.fork and vma < self.locked:
                        self.sim.wake(self.fork)
                        self.fork = None
            else:
                yield from self.lock.end_read()
            self.cpus.put()
            if not there:
                yield from self.read_page()
                mark, waits = (self.n["reads"], self.sim.now), waits + 1
                under_vma = may_drop = self.kernel == "series" and waits < 3
        self.n["ended"] += 1
        self.n["seconds"] += self.sim.now - since

    def write(self, seconds, unmap=0):
        """mmap, or with unmap munmap."""
        yield from self.cpus.get()
        yield from self.lock.write()
        yield seconds
        yield from self.lock.end_write(downgrade=bool(unmap))
        if unmap:
            yield unmap
            yield from self.lock.end_read()
        self.cpus.put()

    def reader(self, number, waits, unmap):
        """Reads its file again and again, and maps it anew each time if unmap is not 0."""
        at = self.random.randrange(waits)
        yield self.random.random() * MS
        while not self.stop:
            yield from self.fault(number)
            at = (at + 1) % waits
            if unmap and not at:
                yield from self.write(self.MAP, unmap)
                yield from self.write(self.MAP)

    def toucher(self, vmas):
        yield self.random.random() * self.read
        while not self.stop:
            yield from self.fault(self.random.randrange(vmas))

    def forker(self, vmas, pause, fixed, each, step=40):
        while not self.stop:
            yield pause
            since = self.sim.now
            yield from self.cpus.get()
            yield fixed
            yield from self.lock.write()
            for at in range(0, vmas, step):
                self.locked = min(at + step, vmas)
                while any(vma < self.locked for vma in self.held):
                    self.fork = self.sim.current
                    self.cpus.put()
                    yield None
                    yield from self.cpus.get()
                yield each * (self.locked - at)
            self.locked = 0
            yield from self.lock.end_write()
            self.cpus.put()
            self.took["fork"].append(self.sim.now - since)

    def bystander(self):
        while not self.stop:
            yield MS
            since = self.sim.now
            yield from self.write(self.MAP)
            yield from self.write(self.MAP)
            self.took["bystander"].append(self.sim.now - since)

    def start(self, *processes):
        for process in processes:
            self.sim.wake(process)

    def measure(self, warm, seconds):
        """What was counted a second, with the part of retries that found their page lost."""
        self.sim.run(warm)
        before = collections.Counter(self.n)
        self.took = {name: [] for name in self.took}
        self.sim.run(warm + seconds)
        rate = {key: (count - before[key]) / seconds for key, count in self.n.items()}
        rate["lost"] = rate.get("lost", 0) / rate["retries"] if rate.get("retries") else 0
        return rate
