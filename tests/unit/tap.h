/* SPDX-License-Identifier: Apache-2.0 */
/* A tap device in a network namespace of this process's own. */
#ifndef WISP_TEST_TAP_H
#define WISP_TEST_TAP_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/test.h"

/* Enters new namespaces, in which this user is root, unless it is one already. False where the host allows none. */
static inline bool tap_enter(void)
{
	return unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
}

/* Creates "tap0" with this address, up. Its descriptor, or -1. */
static inline int tap_make(short flags, const char *address)
{
	struct ifreq r = {.ifr_flags = flags, .ifr_name = "tap0"};
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)&r.ifr_addr;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool good = fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0;
	in->sin_family = AF_INET;
	if (good && inet_pton(AF_INET, address, &in->sin_addr) == 1)
		good = ioctl(control, SIOCSIFADDR, &r) == 0;
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	good = good && ioctl(control, SIOCSIFFLAGS, &r) == 0;
	close(control);
	if (!good && fd >= 0)
		close(fd);
	return good ? fd : -1;
}

#define TAP_MISSING "this host has no /dev/net/tun, or no namespaces of its users'"

/*
 * Runs a test with what `make` makes of the flags, in a process of its own, because it leaves the host's network. The
 * caller's last statement: without a device, the case is skipped for the reason `missing`.
 */
static inline void tap_in_child(int (*make)(short flags), short flags, void (*run)(int tap), const char *missing)
{
	int status = 0;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		int tap = tap_enter() ? make(flags) : -1;
		if (tap >= 0)
			run(tap);
		fflush(stdout);
		_exit(tap < 0 ? 2 : test_failed);
	}
	REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	if (WEXITSTATUS(status) == 2)
		SKIP(missing);
	CHECK_EQ(WEXITSTATUS(status), 0);
}

#endif
