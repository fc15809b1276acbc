/* SPDX-License-Identifier: Apache-2.0 */
/* What tests ask of the host that they run on, and make there. */
#ifndef WISP_TEST_HOST_H
#define WISP_TEST_HOST_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of Landlock; 0: this host has none. */
__attribute__((unused)) static long landlock_abi(void)
{
	long abi = syscall(444 /* landlock_create_ruleset */, NULL, 0, 1 /* which version? */);
	return abi > 0 ? abi : 0;
}

/* A tmpfs that this process alone sees, with options such as "size=256k". False: a mount is root's to make. */
__attribute__((unused)) static bool mount_tmpfs(const char *dir, const char *options)
{
	return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", dir, "tmpfs", 0, options) == 0;
}

#endif
