/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol between wisp-bench and its program in the guest, bench-guest. Any monitor that boots Linux can run the
 * program: in a sandbox, or as the init of a peer's guest, which reboots when it is done.
 *
 *	bench-guest blk DEVICE [write]    runs each of bench_guest_ops (without "write", those that read), then exits
 *	bench-guest vsock                 serves one connection after another, of vsock and of TCP on 127.0.0.1, until
 *it is killed bench-guest boot                  as an init: reports at once that it runs bench-guest connect COMMAND...
 *runs the command with a connection to BENCH_GUEST_PORT of the host as its standard output
 *
 * The words are no parameters of the kernel: on its command line they become arguments of its init.
 *
 * For wisp bench boot, the kernel of a peer's guest reports its entry, "begin kernel", by an entry point that
 * tests/bench/entry.c adds to it, and `boot` reports "begin init". Both write to the first serial port themselves, so
 *that the guest needs no driver for it. The payload of wisp bench floor also writes "begin kernel".
 *
 * The program writes lines that begin with BENCH_GUEST_MARK: "begin NAME"; "end NAME" and the fields of
 * BENCH_GUEST_END_FORMAT; "ready" when it serves vsock; "fail" and a reason. Other lines, such as a kernel's messages,
 *are ignored.
 */
#ifndef WISP_BENCH_GUEST_H
#define WISP_BENCH_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_GUEST_MARK "wisp-bench: "
#define BENCH_GUEST_SERIAL 0x3f8
#define BENCH_GUEST_KERNEL "kernel" /* the names after "begin" */
#define BENCH_GUEST_INIT "init"
/* Requests, bytes, nanoseconds, the 99th percentile of a request's nanoseconds, interrupts of virtio devices. */
#define BENCH_GUEST_END_FORMAT "%llu %llu %llu %llu %llu"

/* One operation on a disk: requests of `bytes`, `depth` at a time, past the page cache, for BENCH_GUEST_MS. */
struct bench_guest_op {
	const char *name;
	uint32_t bytes, depth;
	bool write, random;
};
#define BENCH_GUEST_OPS 6u
#define BENCH_GUEST_MS 500u
static const struct bench_guest_op bench_guest_ops[BENCH_GUEST_OPS] = {
        {"read-4k-1", 4096, 1, false, true},
        {"write-4k-1", 4096, 1, true, true},
        {"read-4k-32", 4096, 32, false, true},
        {"write-4k-32", 4096, 32, true, true},
        {"read-1m", 1u << 20, 1, false, false},
        {"write-1m", 1u << 20, 1, true, false},
};
/* The smallest disk that is measured: sequential requests start over at its end. */
#define BENCH_GUEST_DISK_MIN (16u << 20)

/* vsock, and the same port of TCP: a connection begins with a request, in the processor's byte order. */
#define BENCH_GUEST_PORT 7000u
enum bench_guest_verb {
	BENCH_GUEST_SEND = 1,   /* the guest sends bytes until the host closes */
	BENCH_GUEST_RECEIVE,    /* bytes follow; the guest returns one when the last has arrived */
	BENCH_GUEST_ECHO,       /* the guest returns the request */
	BENCH_GUEST_INTERRUPTS, /* the guest returns a uint64_t: interrupts of virtio devices until now */
	BENCH_GUEST_PINGS,      /* the guest returns the request, and whatever of the same size follows */
};
struct bench_guest_request {
	uint64_t verb, number;
};

#endif
