/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the guest. */
#ifndef WISP_AGENT_POWER_H
#define WISP_AGENT_POWER_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/poller.h"
#include "agent/serve.h"

#define POWER_TERM_NS (2u * 1000 * 1000 * 1000ull) /* from SIGTERM to SIGKILL, where the host does not say */
#define POWER_KILL_NS (1u * 1000 * 1000 * 1000ull) /* then at most, for what cannot be killed at once */
#define POWER_SYNC_NS                                                                                         \
	(1u * 1000 * 1000 * 1000ull)       /* of the host's grace, for what comes after SIGKILL: half at most \
	                                    */
#define POWER_DRAIN_NS (50u * 1000 * 1000) /* for the last frames to leave, where someone is connected */

enum power_phase {
	POWER_RUNNING,
	POWER_TERMINATING,
	POWER_KILLING,
	POWER_DRAINING,
};

struct power {
	struct agent *agent;
	enum power_phase phase;
	enum agent_power wanted;
	struct poller_timer timer;
};

void power_init(struct power *power, struct agent *agent);

/* From SIGTERM to SIGKILL, when the host ends the machine after grace_ms (0: it did not say). */
uint64_t power_term_ns(uint32_t grace_ms);

/*
 * SIGTERM to every process but this one, SIGKILL to what is left after power_term_ns(grace_ms); at the end the loop is
 * stopped, and the caller goes on to power_off() or power_reboot(). A second call while it is under way does nothing.
 */
void power_begin(struct power *power, enum agent_power wanted, uint32_t grace_ms);

/* No process is left. */
void power_childless(struct power *power);

/* These do not return. `value`: enum platform_power. */
void power_off(uint8_t value) __attribute__((noreturn));
void power_reboot(void) __attribute__((noreturn));

/* Tells the VMM what port stands for (platform.h). 0 or -errno. Each architecture has its own. */
int power_write_port(uint16_t port, uint8_t value);

#endif
