/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What wisp bench and its program in the guest, bench-guest, say to each other. Any monitor that boots Linux can run
 * it: as a program of a sandbox, or as the init of a peer's guest, which reboots when it is done.
 *
 *	bench-guest blk DEVICE [write]    each of bench_guest_ops (those that write only if told to), then the end
 *	bench-guest vsock                 serves one connection after another, until it is killed
 *	bench-guest boot                  as an init: says that it runs, with the first thing that it does
 *	bench-guest connect COMMAND...    runs it with a connection to the host's BENCH_GUEST_PORT as its standard
 *output
 *
 * The words are none of the kernel's own parameters: on its command line they become arguments of its init.
 *
 * For wisp bench boot, the kernel of a peer's guest says when it is entered: "begin kernel", by an entry point that
 * tests/bench/entry adds to it; and `boot` says "begin init". Both write to the first serial port themselves, so that
 * the guest needs no driver of it. "begin kernel" is also what the payload of wisp bench floor says.
 *
 * It writes lines that begin with BENCH_GUEST_MARK: "begin NAME"; "end NAME" and the fields of BENCH_GUEST_END_FORMAT;
 * "ready" when vsock is served; "fail" and a reason. Anything else, a kernel's words for instance, is not for us.
 */
#ifndef WISP_CLI_BENCH_GUEST_H
#define WISP_CLI_BENCH_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_GUEST_MARK "wisp-bench: "
#define BENCH_GUEST_SERIAL 0x3f8
#define BENCH_GUEST_KERNEL "kernel" /* what begins */
#define BENCH_GUEST_INIT "init"
/* Requests, bytes, nanoseconds, the 99th percentile of a request's nanoseconds, interrupts of virtio devices. */
#define BENCH_GUEST_END_FORMAT "%llu %llu %llu %llu %llu"

/* One operation on a disk: for BENCH_GUEST_MS, requests of `bytes`, `depth` at once, past the guest's page cache. */
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
/* A disk has to hold what is written in sequence before it begins again. */
#define BENCH_GUEST_DISK_MIN (16u << 20)

/* vsock: a connection begins with a request, as the processor has it. */
#define BENCH_GUEST_PORT 7000u
enum bench_guest_verb {
	BENCH_GUEST_SEND = 1,   /* bytes come back until the host closes */
	BENCH_GUEST_RECEIVE,    /* bytes follow; one comes back when the last is there */
	BENCH_GUEST_ECHO,       /* the request comes back */
	BENCH_GUEST_INTERRUPTS, /* a uint64_t comes back: interrupts of virtio devices until now */
};
struct bench_guest_request {
	uint64_t verb, number;
};

#endif
