/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder of a sandbox's description: what it accepts holds every promise that the monitor relies on. */
#include "tests/fuzz/fuzz.h"
#include "vmm/shared/description.h"

/* Most of a description has to be right for a change to mean anything: the input is (offset, byte) pairs over one. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct description raw, d;
	char why[200] = "";
	description_init(&raw);
	raw.flags = DESCRIPTION_IMAGE;
	raw.cpus = raw.disk_count = 1;
	raw.memory_mib = 64;
	raw.name[0] = 'a';
	for (size_t i = 0; i + 3 <= size; i += 3)
		((uint8_t *)&raw)[(data[i] | data[i + 1] << 8) % sizeof(raw)] = data[i + 2];
	int ret = description_decode(&raw, sizeof(raw), &d, why, sizeof(why));
	MUST(ret <= 0 && (ret == 0) == (why[0] == '\0'));
	if (ret < 0)
		return 0;
	MUST(d.cpus >= 1 && d.cpus <= WISP_CPUS_MAX && d.memory_mib >= WISP_MEMORY_MIB_MIN);
	MUST(d.disk_count <= DESCRIPTION_DISKS_MAX && d.breakpoint_count <= DESCRIPTION_BREAKPOINTS_MAX);
	MUST(d.net.queues <= DESCRIPTION_NET_QUEUES_MAX && d.net.prefix6 <= 128);
	MUST(strlen(d.name) < sizeof(d.name) && !strchr(d.name, '/') && strlen(d.hostname) < sizeof(d.hostname));
	MUST(strlen(d.kernel_args) < sizeof(d.kernel_args) && strlen(d.kernel_name) < sizeof(d.kernel_name));
	return 0;
}
