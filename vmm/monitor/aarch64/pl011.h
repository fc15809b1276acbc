/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of an Arm PL011 UART as Linux's early console (earlycon=pl011) uses: it writes characters, and is never busy.
 */
#ifndef WISP_MONITOR_AARCH64_PL011_H
#define WISP_MONITOR_AARCH64_PL011_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pl011 {
	void (*output)(void *context, const void *data, size_t len); /* on a vCPU's thread */
	void *context;
};

#define PL011_SIZE 0x1000u

/* A bus_handler, with a struct pl011 as its context. */
void pl011_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write);

#endif
