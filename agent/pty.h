/* SPDX-License-Identifier: Apache-2.0 */
/* Pseudo-terminals. */
#ifndef WISP_AGENT_PTY_H
#define WISP_AGENT_PTY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PTY_ROWS 24u /* where the client did not say */
#define PTY_COLS 80u

/*
 * Opens a terminal of that size (0: the defaults) which belongs to uid. *master does not block, *slave does; both are
 * close-on-exec and the caller's. 0 or -errno.
 */
int agent_pty_open(uint16_t rows, uint16_t cols, uid_t uid, int *master, int *slave);

/* The kernel sends SIGWINCH to the foreground process group when the size changed. */
void agent_pty_resize(int master, uint16_t rows, uint16_t cols);

/*
 * What is typed for the end of file as the terminal is set now: its length, 0 where there is no such character. In a
 * line that is not complete, the first one hands over the line, and only the second one means the end.
 */
size_t agent_pty_end_of_file(int master, bool in_line, uint8_t to[2]);

#endif
