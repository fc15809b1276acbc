/* SPDX-License-Identifier: Apache-2.0 */
/* How x86-64 says something to the VMM outside of any device: an I/O port. */
#include "agent/power.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/io.h>
#include <unistd.h>

#include "vmm/shared/platform.h"

/* For a kernel without CONFIG_X86_IOPL_IOPERM. */
static int write_device(uint16_t port, uint8_t value)
{
	int fd = open("/dev/port", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t count = pwrite(fd, &value, 1, port);
	int error = count == 1 ? 0 : -EIO;
	close(fd);
	return error;
}

int power_write_port(uint16_t port, uint8_t value)
{
	if (ioperm(PLATFORM_PORT_POWER, PLATFORM_PORTS, 1) < 0)
		return write_device(port, value);
	outb(value, port);
	return 0;
}
