/* SPDX-License-Identifier: Apache-2.0 */
/* Which layers of the jail this host allows, for wisp doctor: a monitor that enters it and does nothing else. */
#ifndef WISP_MONITOR_JAIL_CHECK_H
#define WISP_MONITOR_JAIL_CHECK_H

/* The argument of wisp-vmm that asks for it. */
#define JAIL_CHECK_OPTION "--check-jail"

/* Prints one line, the layers that hold in hexadecimal and what jail.text says of them. Returns an exit status. */
int jail_check(void);

#endif
