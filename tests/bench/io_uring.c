/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring DIR: what registering disks and guest memory with io_uring would gain and cost, by a file in DIR. The
 * figures, and the decision that they led to, are in docs/results/devices.md.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096u
#define BLOCKS 256u
#define READS 200000u
#define ROUNDS 9u

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "io_uring: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* As vmm/monitor/loop.c has it. */
static void ring_open(struct io_uring *ring)
{
	struct io_uring_params params = {
	        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL};
	errno = -io_uring_queue_init_params(256, ring, &params);
	must(errno == 0, "cannot set up a ring (Linux 6.1 and later)");
}

static int file_open(const char *path)
{
	static char data[BLOCK];
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0, path);
	for (unsigned i = 0; i < BLOCKS; i++)
		must(pwrite(fd, data, BLOCK, (off_t)i * BLOCK) == BLOCK, path);
	return fd;
}

/* Reads out of the page cache, `depth` at once: ns of CPU each. */
static double read_ns(struct io_uring *ring, int fd, bool is_fixed, unsigned depth)
{
	static char to[BLOCKS][BLOCK];
	unsigned sent = 0, done = 0;
	double begun = now_ns(CLOCK_THREAD_CPUTIME_ID);
	while (done < READS) {
		for (; sent < READS && sent - done < depth; sent++) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
			io_uring_prep_read(sqe, is_fixed ? 0 : fd, to[sent % BLOCKS], BLOCK,
			        (uint64_t)(sent * 7 % BLOCKS) * BLOCK);
			sqe->flags |= is_fixed ? IOSQE_FIXED_FILE : 0;
		}
		io_uring_submit_and_wait(ring, 1);
		struct io_uring_cqe *cqe;
		unsigned head, count = 0;
		io_uring_for_each_cqe(ring, head, cqe)
		{
			must(cqe->res == BLOCK, "a read failed");
			count++;
		}
		io_uring_cq_advance(ring, count);
		done += count;
	}
	return (now_ns(CLOCK_THREAD_CPUTIME_ID) - begun) / READS;
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static void measure_reads(const char *path)
{
	static const unsigned depths[] = {1, 32};
	struct io_uring ring;
	int fd = file_open(path);
	ring_open(&ring);
	must(io_uring_register_files(&ring, &fd, 1) == 0, "cannot register a file");
	for (unsigned d = 0; d < 2; d++) {
		double ns[2][ROUNDS];
		for (unsigned i = 0; i < 2 * ROUNDS; i++) /* in turn, so that both see the same machine */
			ns[i % 2][i / 2] = read_ns(&ring, fd, i % 2, depths[d]);
		qsort(ns[0], ROUNDS, sizeof(double), compare);
		qsort(ns[1], ROUNDS, sizeof(double), compare);
		printf("4 KiB reads, %u at once: %.0f ns each, %.0f with the file registered\n", depths[d],
		        ns[0][ROUNDS / 2], ns[1][ROUNDS / 2]);
	}
	io_uring_queue_exit(&ring);
	close(fd);
}

/* How long a process that is gone still has the file open: a write lease wants it for itself. */
static void measure_release(const char *path, bool is_registered)
{
	double longest = 0;
	unsigned late = 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			struct io_uring ring;
			int fd = file_open(path);
			ring_open(&ring);
			must(!is_registered || io_uring_register_files(&ring, &fd, 1) == 0, "cannot register a file");
			_exit(0);
		}
		must(waitpid(pid, NULL, 0) == pid, "cannot wait");
		double begun = now_ns(CLOCK_MONOTONIC);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
			late++;
		while (fcntl(fd, F_SETLEASE, F_WRLCK) < 0) {
			must(errno == EAGAIN, "no lease");
			usleep(100);
		}
		double took = now_ns(CLOCK_MONOTONIC) - begun;
		longest = took > longest ? took : longest;
		close(fd);
	}
	printf("the process is gone, its %s file still open: %u times of %u, for %.1f ms at most\n",
	        is_registered ? "registered" : "plain", late, ROUNDS, longest / 1e6);
}

static long status_kib(const char *name)
{
	char line[256];
	long kib = -1;
	FILE *file = fopen("/proc/self/status", "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, name, strlen(name)) == 0)
			kib = strtol(line + strlen(name) + 1, NULL, 10);
	}
	if (file)
		fclose(file);
	return kib;
}

/* Guest RAM that nobody touched, as vmm/monitor/gmem.c maps it. */
static void measure_memory(size_t mib)
{
	struct io_uring ring;
	ring_open(&ring);
	struct iovec all = {
	        mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
	        mib << 20};
	must(all.iov_base != MAP_FAILED, "cannot map memory");
	madvise(all.iov_base, all.iov_len, MADV_HUGEPAGE);
	long before = status_kib("VmRSS");
	double begun = now_ns(CLOCK_MONOTONIC);
	int ret = io_uring_register_buffers(&ring, &all, 1);
	printf("%zu MiB of memory registered: %s, %.0f ms, %ld KiB resident, before %ld; %ld KiB pinned\n", mib,
	        strerror(-ret), (now_ns(CLOCK_MONOTONIC) - begun) / 1e6, status_kib("VmRSS"), before,
	        status_kib("VmPin"));
	io_uring_queue_exit(&ring);
	munmap(all.iov_base, all.iov_len);
}

int main(int argc, char **argv)
{
	char path[4096];
	if (argc != 2)
		return 2;
	snprintf(path, sizeof(path), "%s/io_uring-bench", argv[1]);
	measure_release(path, false);
	measure_reads(path);
	measure_release(path, true);
	unlink(path);
	measure_memory(256);
	return 0;
}
