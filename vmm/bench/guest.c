/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-guest, which wisp bench blk, vsock and exec run in the guest (guest.h). It is static and small: it is copied
 * into the guest before each measurement, and the same file is the init of a peer's guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/vm_sockets.h>

#if defined(__x86_64__)
#include <sys/io.h>
#endif

#include "vmm/bench/guest.h"

#define DEPTH_MAX 32u
#define LATENCIES_MAX (1u << 20)
#define CHUNK (64u << 10)
/* The time in which a line reaches the host, so that its cost is not measured. */
#define SETTLE_NS 50000000

/* Writes a whole line at once: a console must not mix it with the kernel's messages. */
static void say(const char *format, ...)
{
	char line[200] = BENCH_GUEST_MARK;
	size_t length = strlen(line);
	va_list args;
	va_start(args, format);
	length += (size_t)vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	va_end(args);
	line[length++] = '\n';
	if (write(STDOUT_FILENO, line, length) < 0)
		exit(1);
}

static int fail(const char *what)
{
	say("fail %s: %s", what, strerror(errno));
	return 1;
}

static uint64_t now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Lines like "  6:   1234   99   IO-APIC   6-edge   virtio1": the sum over processors and devices. */
static unsigned long long count_interrupts(void)
{
	char line[4096];
	unsigned long long sum = 0;
	FILE *file = fopen("/proc/interrupts", "re");
	while (file && fgets(line, sizeof(line), file)) {
		char *at = strchr(line, ':'), *end;
		if (!at || !strstr(line, "virtio"))
			continue;
		for (at++;; at = end) {
			unsigned long long count = strtoull(at, &end, 10);
			if (end == at || (*end != ' ' && *end != '\n'))
				break;
			sum += count;
		}
	}
	if (file)
		fclose(file);
	return sum;
}

/* ---- blk ---- */

struct disk {
	int fd;
	uint64_t bytes;
	aio_context_t aio;
	char *buffer;      /* for DEPTH_MAX requests of 4 KiB, or one of 1 MiB */
	uint64_t *latency; /* room for LATENCIES_MAX */
};

/* Where requests go: the same places in the same order in every run (splitmix64). */
struct places {
	uint64_t state, next, count;
	bool random;
};

static uint64_t next_place(struct places *places)
{
	if (!places->random)
		return places->next++ % places->count;
	uint64_t z = (places->state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % places->count;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* Linux AIO needs no library and no threads, and with O_DIRECT on a disk it is really asynchronous. */
static int submit(const struct disk *disk, struct iocb **list, size_t count)
{
	for (size_t done = 0; done < count;) {
		long n = syscall(SYS_io_submit, disk->aio, count - done, list + done);
		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

/* Issues requests until the time is up. Returns their number, or -1 with errno. */
static long run_requests(const struct disk *disk, const struct bench_guest_op *op)
{
	struct iocb iocbs[DEPTH_MAX], *list[DEPTH_MAX];
	struct io_event events[DEPTH_MAX];
	uint64_t begun[DEPTH_MAX];
	struct places places = {.count = disk->bytes / op->bytes, .random = op->random};
	size_t done = 0, flying = op->depth;
	uint64_t at = now(), deadline = at + BENCH_GUEST_MS * 1000000ull;
	for (size_t i = 0; i < op->depth; i++) {
		iocbs[i] = (struct iocb){.aio_data = i,
		        .aio_lio_opcode = op->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		        .aio_fildes = (uint32_t)disk->fd,
		        .aio_buf = (uintptr_t)(disk->buffer + i * op->bytes),
		        .aio_nbytes = op->bytes,
		        .aio_offset = (int64_t)(next_place(&places) * op->bytes)};
		list[i] = &iocbs[i];
		begun[i] = at;
	}
	if (submit(disk, list, flying) < 0)
		return -1;
	while (flying > 0) {
		long got = syscall(SYS_io_getevents, disk->aio, 1l, (long)flying, events, NULL);
		if (got < 0)
			return -1;
		size_t again = 0;
		at = now();
		for (long e = 0; e < got; e++) {
			size_t i = events[e].data;
			if (events[e].res != op->bytes) {
				errno = events[e].res < 0 ? (int)-events[e].res : EIO;
				return -1;
			}
			disk->latency[done++] = at - begun[i];
			begun[i] = at;
			iocbs[i].aio_offset = (int64_t)(next_place(&places) * op->bytes);
			list[again++] = &iocbs[i];
		}
		flying -= (size_t)got;
		if (at < deadline && done + flying + again <= LATENCIES_MAX) {
			flying += again;
			if (submit(disk, list, again) < 0)
				return -1;
		}
	}
	return (long)done;
}

static int measure(const struct disk *disk, const struct bench_guest_op *op)
{
	const struct timespec settle = {.tv_nsec = SETTLE_NS};
	say("begin %s", op->name);
	nanosleep(&settle, NULL);
	unsigned long long interrupts = count_interrupts();
	uint64_t begin = now();
	long done = run_requests(disk, op);
	unsigned long long ns = now() - begin;
	if (done <= 0)
		return fail(op->name);
	interrupts = count_interrupts() - interrupts;
	qsort(disk->latency, (size_t)done, sizeof(*disk->latency), by_value);
	unsigned long long requests = (unsigned long long)done, p99 = disk->latency[(done - 1) * 99 / 100];
	say("end %s " BENCH_GUEST_END_FORMAT, op->name, requests, requests * op->bytes, ns, p99, interrupts);
	return 0;
}

static int run_blk(const char *device, bool writes)
{
	struct disk disk = {.buffer = aligned_alloc(4096, 1u << 20),
	        .latency = calloc(LATENCIES_MAX, sizeof(*disk.latency)),
	        .fd = open(device, (writes ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC)};
	if (disk.fd < 0 || ioctl(disk.fd, BLKGETSIZE64, &disk.bytes) < 0)
		return fail(device);
	if (disk.bytes < BENCH_GUEST_DISK_MIN) {
		errno = ENOSPC;
		return fail(device);
	}
	if (!disk.buffer || !disk.latency || syscall(SYS_io_setup, DEPTH_MAX, &disk.aio) < 0)
		return fail("io_setup");
	memset(disk.buffer, 0x5a, 1u << 20);
	for (size_t i = 0; i < BENCH_GUEST_OPS; i++) {
		if ((writes || !bench_guest_ops[i].write) && measure(&disk, &bench_guest_ops[i]))
			return 1;
	}
	return 0;
}

/* ---- vsock ---- */

static bool move(int fd, void *buffer, size_t length, bool out)
{
	for (char *at = buffer; length > 0;) {
		ssize_t n = out ? write(fd, at, length) : read(fd, at, length);
		if (n <= 0)
			return false;
		at += n;
		length -= (size_t)n;
	}
	return true;
}

static void serve(int fd)
{
	static char chunk[CHUNK];
	struct bench_guest_request request;
	uint64_t interrupts;
	if (!move(fd, &request, sizeof(request), false))
		return;
	switch (request.verb) {
	case BENCH_GUEST_SEND:
		while (move(fd, chunk, CHUNK, true))
			;
		break;
	case BENCH_GUEST_RECEIVE:
		while (read(fd, chunk, CHUNK) > 0)
			;
		move(fd, chunk, 1, true);
		break;
	case BENCH_GUEST_ECHO: move(fd, &request, sizeof(request), true); break;
	case BENCH_GUEST_PINGS:
		while (move(fd, &request, sizeof(request), true) && move(fd, &request, sizeof(request), false))
			;
		break;
	case BENCH_GUEST_INTERRUPTS:
		interrupts = count_interrupts();
		move(fd, &interrupts, sizeof(interrupts), true);
		break;
	default: break;
	}
	/* The host closes first. */
	while (read(fd, chunk, CHUNK) > 0)
		;
}

/* -1 in a guest without loopback. Connections of the run before may still be in TIME_WAIT. */
static int listen_tcp(void)
{
	static const int on = 1;
	struct sockaddr_in address = {
	        .sin_family = AF_INET, .sin_port = htons(BENCH_GUEST_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
	        bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 8) == 0)
		return fd;
	close(fd);
	return -1;
}

static int run_vsock(void)
{
	struct sockaddr_vm addr = {.svm_family = AF_VSOCK, .svm_port = BENCH_GUEST_PORT, .svm_cid = VMADDR_CID_ANY};
	int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(listener, 8) < 0)
		return fail("vsock");
	struct pollfd listeners[2] = {{.fd = listener, .events = POLLIN}, {.fd = listen_tcp(), .events = POLLIN}};
	signal(SIGPIPE, SIG_IGN);
	say("ready");
	for (;;) {
		if (poll(listeners, 2, -1) < 0)
			return fail("poll");
		int fd = accept(listeners[listeners[0].revents ? 0 : 1].fd, NULL, NULL);
		if (fd < 0)
			return fail("accept");
		serve(fd);
		close(fd);
	}
}

/* ---- connect ---- */

/* Becomes the command, which then writes directly to the connection. */
static int run_connect(char **command)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = BENCH_GUEST_PORT};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && dup2(fd, STDOUT_FILENO) >= 0)
		execvp(command[0], command);
	return fail("connect");
}

/* ---- boot ---- */

/* One instruction and one exit. A console needs a driver, a device node, and an exit for each byte. */
static bool say_by_port(void)
{
#if defined(__x86_64__)
	static const char line[] = BENCH_GUEST_MARK "begin " BENCH_GUEST_INIT "\n";
	const char *at = line;
	size_t left = sizeof(line) - 1;
	if (ioperm(BENCH_GUEST_SERIAL, 1, 1) < 0)
		return false;
	__asm__ volatile("rep outsb" : "+S"(at), "+c"(left) : "d"(BENCH_GUEST_SERIAL), "m"(line));
	return true;
#else
	return false; /* there are no ports */
#endif
}

static int run(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "connect") == 0)
		return run_connect(argv + 2);
	bool writes = argc == 4 && strcmp(argv[3], "write") == 0;
	if (argc == (writes ? 4 : 3) && strcmp(argv[1], "blk") == 0)
		return run_blk(argv[2], writes);
	if (argc == 2 && strcmp(argv[1], "vsock") == 0)
		return run_vsock();
	errno = EINVAL;
	return fail("bench-guest");
}

/* Sets up what an init needs in an initramfs that holds nothing else. */
static void be_init(void)
{
	mkdir("/dev", 0755);
	mkdir("/proc", 0555);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	int fd = open("/dev/console", O_RDWR);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
}

int main(int argc, char **argv)
{
	if (getpid() != 1)
		return run(argc, argv);
	if (argc == 2 && strcmp(argv[1], "boot") == 0) {
		if (!say_by_port()) {
			be_init();
			say("begin " BENCH_GUEST_INIT);
		}
		sleep(1); /* the host reads its counters while the machine exists */
	} else if (argc > 1) {
		be_init();
		run(argc, argv);
	}
	return reboot(RB_AUTOBOOT);
}
