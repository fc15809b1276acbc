/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550 UART that only talks: for kernel messages before the virtio console works, on demand. It raises no interrupt
 * and receives nothing; Linux's console writes by polling, which is all it is here for.
 */
#ifndef WISP_MONITOR_SERIAL_X86_64_H
#define WISP_MONITOR_SERIAL_X86_64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERIAL_PORT 0x3f8u
#define SERIAL_PORT_COUNT 8u

struct serial {
	/* One byte printed; on a vCPU's thread. */
	void (*output)(void *context, const void *data, size_t len);
	void *context;
	uint8_t ier, lcr, mcr, scratch, divisor[2];
};

/* A bus_handler for SERIAL_PORT_COUNT ports; `context` is the struct serial. Two vCPUs at once may garble, not harm. */
void serial_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write);

#endif
