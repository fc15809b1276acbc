/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a PC has on its I/O ports, as little as Linux needs to stop and to speak early: the keyboard controller's reset
 * line, the power port that the agent writes (vmm/shared/platform.h), and a UART on demand.
 */
#ifndef WISP_MONITOR_PLATFORM_X86_64_H
#define WISP_MONITOR_PLATFORM_X86_64_H

#include <stdbool.h>

#include "vmm/monitor/bus.h"
#include "vmm/monitor/err.h"
#include "vmm/monitor/x86_64/serial.h"

enum platform_event { PLATFORM_RESET, PLATFORM_POWEROFF, PLATFORM_BOOT_FAILED };

struct trace;

struct platform {
	/* Set by the caller before platform_init. Called on a vCPU's thread; a guest can cause it as often as it likes.
	 */
	void (*event)(void *context, enum platform_event event);
	void *event_context;
	struct trace *trace; /* gets the agent's stages; may be NULL */
	struct serial serial;
};

/* Claims the ports. `output` gets what the UART prints (only with `serial`). 0 or -errno with `err` set. */
int platform_init(struct platform *platform, struct bus *ports, bool serial,
        void (*output)(void *context, const void *data, size_t len), void *output_context, struct err *err);

#endif
