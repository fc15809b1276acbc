/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/x86_64/kernel_args.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool tsc_is_stable(unsigned cpus, const char *clocksource)
{
	char name[8] = "";
	if (cpus == 1)
		return true;
	int fd = open(clocksource, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n;
	do
		n = read(fd, name, sizeof(name));
	while (n < 0 && errno == EINTR);
	close(fd);
	return n == 4 && memcmp(name, "tsc\n", 4) == 0;
}

const char *arch_kernel_args(bool stable_tsc, bool high_memory)
{
	if (high_memory)
		return stable_tsc ? "reboot=k,panic_warm swiotlb=noforce tsc=reliable"
		                  : "reboot=k,panic_warm swiotlb=noforce";
	return stable_tsc ? "reboot=k,panic_warm tsc=reliable" : "reboot=k,panic_warm";
}
