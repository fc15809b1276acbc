/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGBUS: the monitor touched memory that has lost its backing. Pages of guest memory are the kernel's file, mapped; if
 * someone truncates it, they are gone, and the guest cannot continue.
 */
#ifndef WISP_MONITOR_SIGBUS_H
#define WISP_MONITOR_SIGBUS_H

#define SIGBUS_STATUS 125

/* Makes SIGBUS write its cause to standard error and exit with SIGBUS_STATUS, in any thread. */
void sigbus_report(void);

#endif
