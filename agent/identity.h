/* SPDX-License-Identifier: Apache-2.0 */
/* What must differ between two machines that were one: random numbers to come, the host name, ids. */
#ifndef WISP_AGENT_IDENTITY_H
#define WISP_AGENT_IDENTITY_H

#include "vmm/shared/proto.h"

/* Where these are. */
struct identity_files {
	const char *random;     /* the kernel's random generator */
	const char *generation; /* in a folder that exists: the id of the machine as a UUID and a newline */
	const char *hosts;
	const char *machine_ids[2]; /* rewritten where they are regular files */
};

/* Writes the id in place with one write: a file that is open, or watched by inotify, tells its reader. 0 or -errno. */
int identity_write_generation(const struct identity_files *files, const uint8_t generation[16]);

/*
 * Mixes the seed into the kernel's random generator and has it make new keys. 0, or -errno: then two clones may have
 * the same random numbers.
 */
int identity_reseed(const struct identity_files *files, const uint8_t seed[64]);

/* The host name and ids of `thaw`. 0, or the -errno of what failed first; the rest is done nevertheless. */
int identity_renew(const struct identity_files *files, const struct proto_thaw *thaw);

#endif
