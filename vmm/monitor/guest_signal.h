/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent says to the monitor outside of any device (vmm/shared/platform.h). A processor's folder puts the two
 * handlers where its guests can reach them: I/O ports, or a page of device memory.
 */
#ifndef WISP_MONITOR_GUEST_SIGNAL_H
#define WISP_MONITOR_GUEST_SIGNAL_H

#include <stdbool.h>
#include <stdint.h>

struct trace;

struct guest_signal {
	/* Set by the caller. Called on a vCPU's thread, as often as the guest likes. */
	void (*power)(void *context, bool failed);
	void *context;
	struct trace *trace;  /* records the agent's stages, each once; may be NULL */
	bool entered, serves; /* atomic: the stages that are recorded */
};

/* Each a bus_handler, of a single byte, with a struct guest_signal as its context. */
void guest_signal_power(void *context, uint64_t offset, void *data, unsigned len, bool is_write);
void guest_signal_stamp(void *context, uint64_t offset, void *data, unsigned len, bool is_write);

#endif
