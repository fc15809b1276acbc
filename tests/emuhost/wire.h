/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two ends of the emulated host's virtio-serial port say to each other.
 *
 * relay (outside) sends one job; agent (inside) answers with frames until the
 * command has ended. Both ends run on the same architecture, so integers are
 * in host order. The exit code travels behind the output on the same stream:
 * whoever has read it has read everything the command wrote.
 */
#ifndef EMUHOST_WIRE_H
#define EMUHOST_WIRE_H

#include <stdint.h>

/* The job: a uint32_t length, then that many bytes of NUL-ended strings, the
 * first character of each telling what the rest is. */
enum job_tag {
	JOB_CLOCK = 'C', /* seconds since the epoch, with a fraction */
	JOB_DIR = 'D',   /* working directory */
	JOB_ENV = 'E',   /* NAME=VALUE */
	JOB_RW = 'W',    /* folder shared writable, in the order of tags rw0, rw1, ... */
	JOB_ARG = 'A',   /* the command and its arguments */
};
#define JOB_MAX (8U << 20)

enum frame_type {
	FRAME_HELLO = 'H', /* the host is up */
	FRAME_OUT = 'O',   /* bytes of standard output */
	FRAME_ERR = 'E',   /* bytes of standard error */
	FRAME_FAIL = 'F',  /* the command could not be set up: text, why */
	FRAME_ALIVE = 'A', /* every ALIVE_S seconds, about */
	FRAME_EXIT = 'X',  /* the command ended: int32_t exit code */
};

struct frame {
	uint32_t type;
	uint32_t len; /* bytes that follow */
};
#define FRAME_MAX 32760U /* with its header just under what one port write takes */

/* A host that has sent no frame for SILENT_S seconds has hung: relay ends it. */
#define ALIVE_S 10
#define SILENT_S 120

#endif
