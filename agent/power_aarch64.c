/* SPDX-License-Identifier: Apache-2.0 */
/* How arm64, which has no I/O ports, says something to the VMM outside of any device: a page of device memory. */
#include "agent/power.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/shared/platform.h"

#define PAGE_SIZE 4096u

int power_write_port(uint16_t port, uint8_t value)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	void *page = mmap(NULL, PAGE_SIZE, PROT_WRITE, MAP_SHARED, fd, PLATFORM_PAGE);
	int error = page == MAP_FAILED ? -errno : 0;
	close(fd);
	if (error)
		return error;
	*((volatile uint8_t *)page + (port - PLATFORM_PORT_POWER)) = value;
	munmap(page, PAGE_SIZE);
	return 0;
}
