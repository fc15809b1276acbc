/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/guest_signal.h"

#include <string.h>

#include "vmm/monitor/trace.h"
#include "vmm/shared/platform.h"

void guest_signal_power(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	struct guest_signal *s = context;
	(void)offset;
	if (!is_write)
		memset(data, 0, len);
	else if (*(const uint8_t *)data == PLATFORM_POWER_OFF || *(const uint8_t *)data == PLATFORM_POWER_FAILED)
		s->power(s->context, *(const uint8_t *)data == PLATFORM_POWER_FAILED);
}

static void mark_once(struct guest_signal *s, bool *marked, const char *name)
{
	if (!__atomic_exchange_n(marked, true, __ATOMIC_RELAXED))
		trace_mark(s->trace, name);
}

void guest_signal_stamp(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	struct guest_signal *s = context;
	(void)offset;
	if (!is_write)
		memset(data, 0, len);
	else if (*(const uint8_t *)data == PLATFORM_STAMP_INIT)
		mark_once(s, &s->entered, "init_entered");
	else if (*(const uint8_t *)data == PLATFORM_STAMP_READY)
		mark_once(s, &s->serves, "agent_serves");
}
