/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the guest. */
#ifndef WISP_AGENT_POWER_H
#define WISP_AGENT_POWER_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/poller.h"
#include "agent/serve.h"

#define POWER_TERM_NS (2u * 1000 * 1000 * 1000ull) /* from SIGTERM to SIGKILL */
#define POWER_KILL_NS (1u * 1000 * 1000 * 1000ull) /* then at most, for what cannot be killed at once */
#define POWER_DRAIN_NS (50u * 1000 * 1000)         /* for the last frames to leave, where someone is connected */

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

/*
 * SIGTERM to every process but this one, SIGKILL to what is left after POWER_TERM_NS; at the end the loop is stopped,
 * and the caller goes on to power_off() or power_reboot(). A second call while it is under way does nothing.
 */
void power_begin(struct power *power, enum agent_power wanted);

/* No process is left. */
void power_childless(struct power *power);

/* These do not return. `value`: enum platform_power. */
void power_off(uint8_t value) __attribute__((noreturn));
void power_reboot(void) __attribute__((noreturn));

/* Tells the VMM what port stands for (platform.h). 0 or -errno. Each architecture has its own. */
int power_write_port(uint16_t port, uint8_t value);

#endif
