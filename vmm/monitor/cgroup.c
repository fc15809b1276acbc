/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/cgroup.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int cgroup_enter(int *fd, struct err *err)
{
	int ret = 0;
	if (*fd < 0)
		return 0;
	if (write(*fd, "0", 1) < 0)
		ret = err_set(err, errno, "the monitor cannot enter its cgroup: %s", strerror(errno));
	close(*fd);
	*fd = -1;
	return ret;
}
