/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies the guest's console to a descriptor of the sandbox's owner, whose reader may be slow or may have stopped: a
 * pager, a terminal after ^S. Neither the event loop nor a vCPU waits for it. Text waits in a buffer of bounded size,
 * which a thread of its own writes out; when the buffer is full, text is dropped, and a line says how much.
 *
 * Making the descriptor non-blocking is no alternative: the owner's descriptor would become so, too.
 */
#ifndef WISP_MONITOR_ECHO_H
#define WISP_MONITOR_ECHO_H

#include <stddef.h>

#include "vmm/monitor/err.h"

#define ECHO_SIZE (256u << 10) /* bytes of the buffer: a boot prints less */

struct echo;

/* Starts the thread: 0 and *echo, or -errno with `err` set. `fd` outlives the object. */
int echo_create(struct echo **echo, int fd, struct err *err);

/* Never waits. Any thread. */
void echo_write(struct echo *echo, const void *data, size_t length);

/* Gives the reader up to `patience_ms` to take what is left. Takes NULL. */
void echo_destroy(struct echo *echo, unsigned patience_ms);

#endif
