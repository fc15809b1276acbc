/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/aarch64/pl011.h"

#include <string.h>

#define DATA 0x00u
#define FLAGS 0x18u
#define TRANSMITTER_EMPTY 0x80u

void pl011_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	const struct pl011 *uart = context;
	if (is_write && offset == DATA)
		uart->output(uart->context, data, 1);
	if (is_write)
		return;
	memset(data, 0, len);
	if (offset == FLAGS)
		*(uint8_t *)data = TRANSMITTER_EMPTY;
}
