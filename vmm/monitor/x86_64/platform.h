/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O ports of a PC that Linux needs to stop, and to print early messages: the keyboard controller's reset line,
 * the power port that the agent writes (vmm/shared/platform.h), and an optional UART.
 */
#ifndef WISP_MONITOR_PLATFORM_X86_64_H
#define WISP_MONITOR_PLATFORM_X86_64_H

#include <stdbool.h>

#include "vmm/monitor/bus.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/guest_signal.h"
#include "vmm/monitor/x86_64/serial.h"

struct platform {
	/* Set by the caller before platform_init, with its context. */
	struct guest_signal signal;
	void (*reset)(void *context); /* on a vCPU's thread, as often as the guest likes */
	struct serial serial;
};

/* Claims the ports. With `serial`, `output` receives what the UART prints. 0 or -errno with `err` set. */
int platform_init(struct platform *platform, struct bus *ports, bool serial,
        void (*output)(void *context, const void *data, size_t len), void *output_context, struct err *err);

#endif
