/* SPDX-License-Identifier: Apache-2.0 */
/* Macros for the tables of system calls. No other file includes this. */
#ifndef WISP_MONITOR_JAIL_RULES_H
#define WISP_MONITOR_JAIL_RULES_H

#include <sys/syscall.h>

#include "vmm/monitor/jail_filter.h"

#define LOOP JAIL_LOOP
#define BOTH (JAIL_LOOP | JAIL_VCPU)
#define ALL (BOTH | JAIL_WORKER)
#define CALL(name, threads)                         \
	{                                           \
		SYS_##name, threads, JAIL_ANY, 0, 0 \
	}
#define IOCTL(request, threads)                                     \
	{                                                           \
		SYS_ioctl, threads, JAIL_IS, 1, (uint32_t)(request) \
	}

#endif
