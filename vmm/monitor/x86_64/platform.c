/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/x86_64/platform.h"

#include <string.h>

#include "vmm/shared/platform.h"

#define I8042_PORT 0x60u
#define I8042_PORT_COUNT 5u
#define I8042_COMMAND 4u /* port 0x64 */
#define I8042_PULSE_RESET 0xfeu

/* Reads return 0: the controller's buffers are empty, so Linux's reset does not wait for them. */
static void i8042_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	struct platform *p = context;
	if (!is_write)
		memset(data, 0, len);
	else if (offset == I8042_COMMAND && *(const uint8_t *)data == I8042_PULSE_RESET)
		p->reset(p->signal.context);
}

int platform_init(struct platform *p, struct bus *ports, bool serial,
        void (*output)(void *context, const void *data, size_t len), void *output_context, struct err *err)
{
	p->serial.output = output;
	p->serial.context = output_context;
	int ret = bus_add(ports, I8042_PORT, I8042_PORT_COUNT, i8042_access, p);
	if (ret == 0)
		ret = bus_add(ports, PLATFORM_PORT_POWER, 1, guest_signal_power, &p->signal);
	if (ret == 0 && p->signal.trace)
		ret = bus_add(ports, PLATFORM_PORT_STAMP, 1, guest_signal_stamp, &p->signal);
	if (ret == 0 && serial)
		ret = bus_add(ports, SERIAL_PORT, SERIAL_PORT_COUNT, serial_access, &p->serial);
	return ret < 0 ? err_set(err, -ret, "too many devices on the I/O ports") : 0;
}
