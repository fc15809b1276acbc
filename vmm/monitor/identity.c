/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/identity.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/shared/description.h"

int identity_make(struct proto_thaw *thaw, const char *hostname, struct err *err)
{
	*thaw = (struct proto_thaw){.flags = PROTO_THAW_CLONE};
	if (getrandom(thaw->seed, sizeof(thaw->seed), 0) != sizeof(thaw->seed) ||
	        getrandom(thaw->generation, sizeof(thaw->generation), 0) != sizeof(thaw->generation))
		return err_set(err, errno, "the host has no random numbers for the clone: %s", strerror(errno));
	/* A random UUID, version 4: RFC 9562, section 5.4. */
	thaw->generation[6] = (uint8_t)((thaw->generation[6] & 0x0f) | 0x40);
	thaw->generation[8] = (uint8_t)((thaw->generation[8] & 0x3f) | 0x80);
	description_set(thaw->hostname, sizeof(thaw->hostname), hostname);
	return 0;
}
