// SPDX-License-Identifier: GPL-2.0-only
import java.lang.management.GarbageCollectorMXBean;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.concurrent.atomic.LongAdder;

/**
 * A heap that does not fit its memory, threads that read it at random and make garbage,
 * and one that starts a thread every 10 ms: a stack is mapped and its guard pages are
 * protected, by which the process changes its address space.
 *
 * Arguments: MiB of live data, reading threads, seconds. Prints one line of figures.
 */
public class Heap {
	static final int SIZE = 4000;
	static volatile boolean stop;
	static volatile byte[] garbage;

	public static void main(String[] args) throws Exception {
		int live = (int) (Long.parseLong(args[0]) * (1 << 20) / SIZE);
		int readers = Integer.parseInt(args[1]);
		double seconds = Double.parseDouble(args[2]);
		byte[][] data = new byte[live][];
		LongAdder reads = new LongAdder();
		Thread[] thread = new Thread[readers];

		for (int i = 0; i < live; i++) {
			data[i] = new byte[SIZE];
			Arrays.fill(data[i], (byte) i);
		}
		for (int k = 0; k < readers; k++) {
			long seed = k + 1;
			thread[k] = new Thread(() -> read(data, seed, reads));
			thread[k].start();
		}
		Thread.sleep(1000);
		long gcs = 0, gcMs = 0, before = reads.sum();
		for (GarbageCollectorMXBean b : ManagementFactory.getGarbageCollectorMXBeans()) {
			gcs -= b.getCollectionCount();
			gcMs -= b.getCollectionTime();
		}

		long[] took = new long[100000];
		int n = 0;
		long start = System.nanoTime(), end = start + (long) (seconds * 1e9), now;
		do {
			Thread.sleep(10);
			Thread t = new Thread(() -> { });
			long t0 = System.nanoTime();
			t.start();
			t.join();
			now = System.nanoTime();
			if (n < took.length)
				took[n++] = now - t0;
		} while (now < end);
		double took_s = (now - start) / 1e9;
		long done = reads.sum() - before;
		for (GarbageCollectorMXBean b : ManagementFactory.getGarbageCollectorMXBeans()) {
			gcs += b.getCollectionCount();
			gcMs += b.getCollectionTime();
		}
		stop = true;
		for (Thread t : thread)
			t.join();

		double sum = 0;
		for (int i = 0; i < n; i++)
			sum += took[i];
		Arrays.sort(took, 0, n);
		System.out.printf("F took=%.2f reads_s=%.1f threads=%d t_mean_us=%.1f t_p50_us=%.1f " +
			"t_p99_us=%.1f t_max_us=%.1f gcs=%d gc_ms=%d%n", took_s, done / took_s, n,
			sum / n / 1e3, took[n / 2] / 1e3, took[n * 99 / 100] / 1e3,
			took[n - 1] / 1e3, gcs, gcMs);
		System.out.flush();
		Runtime.getRuntime().halt(0);
	}

	static void read(byte[][] data, long seed, LongAdder reads) {
		long s = seed * 0x9e3779b97f4a7c15L;
		while (!stop) {
			s ^= s << 13;
			s ^= s >>> 7;
			s ^= s << 17;
			int i = (int) Long.remainderUnsigned(s, data.length);
			byte[] a = data[i];
			if (a[(int) (s >>> 40) % SIZE] != (byte) i) {
				System.out.println("Heap: wrong data in " + i);
				Runtime.getRuntime().halt(1);
			}
			garbage = new byte[512];
			reads.increment();
		}
	}
}
