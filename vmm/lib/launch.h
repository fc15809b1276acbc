/* SPDX-License-Identifier: Apache-2.0 */
/* Starts a sandbox's monitor, wisp-vmm, as a child process, and ends any monitor by its pid. */
#ifndef WISP_LIB_LAUNCH_H
#define WISP_LIB_LAUNCH_H

#include <sys/types.h>

#include "vmm/lib/lib.h"

/* All paths absolute. Strings are borrowed. */
struct launch {
	const char *helper;
	const char *dir;
	const char *kernel;
	const char *initramfs;
	const char *image;
	const char *overlay;
	const char *hostname;
	const struct wisp_disk *disks;
	size_t disk_count;
	uint32_t cpus;
	uint32_t memory_mib;
	int64_t boot_timeout_ms;
	bool writable;
	bool console;
	bool detach;
	bool ephemeral;
	int console_fd; /* 0: none */
	const char *kernel_args;
	bool trace;
	const char *const *breakpoints; /* ended by NULL, or NULL */
};

/*
 * Starts it with the lock and the status socket; both descriptors stay the caller's. *pid is the direct child's. Its
 * signal dispositions are the default ones, its session its own: a terminal's ^C does not reach it. Its stderr is
 * console_fd or vmm.log in the directory.
 */
int launch_start(const struct launch *launch, int lock_fd, int status_fd, pid_t *pid, struct wisp_error *error);

/* Reaps a child; gone already, reaped by somebody else, is fine. */
void launch_reap(pid_t pid);

#endif
