/* SPDX-License-Identifier: Apache-2.0 */
/* The signals that ask the monitor to end: SIGTERM, SIGINT, SIGHUP. */
#ifndef WISP_MONITOR_SIGNALS_H
#define WISP_MONITOR_SIGNALS_H

/* From here on they wait for the loop. Ignores what would only disturb. */
void signals_block(void);

/* A signalfd of them, or -errno. */
int signals_open(void);

#endif
