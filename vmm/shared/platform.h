/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest says to the VMM outside of any device: single-byte writes to I/O ports that nothing else uses on this
 * machine (it has no ACPI, whose PM1 registers other monitors put here). The agent writes them, the VMM decodes them.
 * arm64 has no ports; there, PLATFORM_PAGE begins with what others have from PLATFORM_PORT_POWER on.
 */
#ifndef WISP_PLATFORM_H
#define WISP_PLATFORM_H

#define PLATFORM_PORT_POWER 0x600u /* enum platform_power: the machine's last word; the VMM ends it */
#define PLATFORM_PORT_STAMP 0x604u /* enum platform_stamp: "this stage is reached", for boot measurements */
#define PLATFORM_PORTS 8u          /* ports reserved from PLATFORM_PORT_POWER on */
#define PLATFORM_PAGE 0xd1000000   /* guest physical, behind the virtio-mmio devices */

enum platform_power {
	PLATFORM_POWER_OFF = 0x01,    /* everything is synced and unmounted */
	PLATFORM_POWER_FAILED = 0x02, /* the agent could not start the guest; the console has the reason */
};

/* Below 0x20: the kernel's and the VMM's. Written only when the agent was started with stamps=1. */
enum platform_stamp {
	PLATFORM_STAMP_INIT = 0x20,  /* PID 1 was entered */
	PLATFORM_STAMP_READY = 0x21, /* the agent serves */
};

#endif
