/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550 UART for output only: optional, for kernel messages before the virtio console works. It raises no interrupt
 * and receives nothing; Linux's console polls it to write, which is its only purpose here.
 */
#ifndef WISP_MONITOR_SERIAL_X86_64_H
#define WISP_MONITOR_SERIAL_X86_64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERIAL_PORT 0x3f8u
#define SERIAL_PORT_COUNT 8u

struct serial {
	/* Called with one byte, on a vCPU's thread. */
	void (*output)(void *context, const void *data, size_t len);
	void *context;
	uint8_t ier, lcr, mcr, scratch, divisor[2];
};

/* A bus_handler for SERIAL_PORT_COUNT ports; `context` is the struct serial. Concurrent vCPUs may garble the output. */
void serial_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write);

#endif
