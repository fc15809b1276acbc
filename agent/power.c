/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/power.h"

#include <errno.h>
#include <signal.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/init.h"
#include "vmm/shared/platform.h"

/* Whether those who are connected have had the time to read what they were told. */
static bool is_read(const struct agent *agent)
{
	return !agent->client_count && !agent->closing_count &&
	       (!agent->idle_count || poller_now() - agent->rested_ns >= POWER_DRAIN_NS);
}

/* Nothing runs any more: stop as soon as those who are connected could be told of the ends of their sessions. */
static void drain(struct power *power)
{
	struct agent *agent = power->agent;
	power->phase = POWER_DRAINING;
	poller_disarm(&power->timer);
	if (is_read(agent))
		agent->poller.stop = true;
	else
		poller_arm(&agent->poller, &power->timer, poller_now() + POWER_DRAIN_NS);
}

static void timer_fired(struct poller_timer *timer)
{
	struct power *power = container_of(timer, struct power, timer);
	switch (power->phase) {
	case POWER_TERMINATING:
		power->phase = POWER_KILLING;
		kill(-1, SIGKILL);
		poller_arm(&power->agent->poller, timer, poller_now() + POWER_KILL_NS);
		break;
	case POWER_KILLING: drain(power); break;
	case POWER_DRAINING: power->agent->poller.stop = true; break;
	case POWER_RUNNING: break;
	}
}

void power_init(struct power *power, struct agent *agent)
{
	*power = (struct power){.agent = agent, .timer.fire = timer_fired};
}

uint64_t power_term_ns(uint32_t grace_ms)
{
	uint64_t grace_ns = grace_ms * 1000000ull;
	if (!grace_ns)
		return POWER_TERM_NS;
	return grace_ns > 2 * POWER_SYNC_NS ? grace_ns - POWER_SYNC_NS : grace_ns / 2;
}

void power_begin(struct power *power, enum agent_power wanted, uint32_t grace_ms)
{
	if (power->phase != POWER_RUNNING)
		return;
	power->phase = POWER_TERMINATING;
	power->wanted = wanted;
	power->agent->stopping = true;
	poller_arm(&power->agent->poller, &power->timer, poller_now() + power_term_ns(grace_ms));
	kill(-1, SIGTERM);
	/* A stopped process takes the signal only when it goes on. */
	kill(-1, SIGCONT);
	/* Where there is nothing to wait for, no SIGCHLD will come. (kill() counts the kernel's threads, too.) */
	siginfo_t info;
	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD)
		drain(power);
}

void power_childless(struct power *power)
{
	if (power->phase == POWER_TERMINATING || power->phase == POWER_KILLING)
		drain(power);
}

/* Should the VMM not act on it: at least the kernel stops. */
static __attribute__((noreturn)) void halt(int how)
{
	for (;;) {
		reboot(how);
		sleep(1);
	}
}

void power_off(uint8_t value)
{
	/* What was written to a vsock leaves from a worker of the kernel, which may have to wait for this processor. */
	usleep(1000);
	if (power_write_port(PLATFORM_PORT_POWER, value) < 0)
		init_fail("cannot tell the machine to power off");
	else
		sleep(1); /* it ends here */
	halt(RB_POWER_OFF);
}

void power_reboot(void)
{
	halt(RB_AUTOBOOT);
}
