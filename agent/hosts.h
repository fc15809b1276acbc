/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's own name, which programs look up: sudo and Java wait for a name server where it does not resolve. */
#ifndef WISP_AGENT_HOSTS_H
#define WISP_AGENT_HOSTS_H

/* Adds `name` to the hosts file at path unless it is there; creates a file that is missing. 0 or -errno. */
int hosts_add(const char *path, const char *name);

/* Puts `name` in the line that hosts_add() has made for `former`, in place; without such a line, adds it. 0 or -errno.
 */
int hosts_rename(const char *path, const char *former, const char *name);

#endif
