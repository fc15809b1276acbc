/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox's directory, as library and monitor agree on it: <state directory>/<name>, mode 0700, flat.
 *
 *	config      what it was created with; begins with SANDBOX_FILES_MAGIC (library)
 *	lock        held with flock by the monitor as long as it lives; a record lock tells its pid (both)
 *	state       "ready", "paused" or "template", the jail's layers and the engine; or "exit REASON TEXT" (monitor)
 *	vsock.sock  a socket for connections to the guest; vsock.sock_PORT for those that the guest makes (monitor)
 *	monitor.sock  a socket for requests to the monitor: manage.h (monitor)
 *	sockets     the paths of Unix sockets elsewhere that lead to the guest, a line each (library)
 *	disk1.img and so on, copies of disks that only this sandbox has (library)
 *	vmm.log, console.log, exec.log, each with an older part in NAME.1; trace (monitor)
 *	net.log     what the guest wanted to reach (wisp-proxy)
 *
 * A directory without the magic line is not a sandbox's: it is not listed, claimed or removed.
 */
#ifndef WISP_SANDBOX_FILES_H
#define WISP_SANDBOX_FILES_H

#include <stdbool.h>
#include <stddef.h>

#define SANDBOX_FILES_CONFIG "config"
#define SANDBOX_FILES_MAGIC "wisp-sandbox 1\n"
#define SANDBOX_FILES_LOCK "lock"
#define SANDBOX_FILES_STATE "state"
#define SANDBOX_FILES_VSOCK "vsock.sock"
#define SANDBOX_FILES_MONITOR "monitor.sock"
#define SANDBOX_FILES_AGENT "vsock.sock_1024"
#define SANDBOX_FILES_SOCKETS "sockets"
#define SANDBOX_FILES_TRACE "trace"
#define SANDBOX_FILES_VMM_LOG "vmm.log"
#define SANDBOX_FILES_CONSOLE_LOG "console.log"
#define SANDBOX_FILES_EXEC_LOG "exec.log"
#define SANDBOX_FILES_NET_LOG "net.log"

/*
 * `state` while the sandbox lives; the numbers are of enum wisp_jail_layer and of enum wisp_engine. Lines of one state
 * are of one length: state_is_ready.
 */
#define SANDBOX_FILES_ALIVE_FORMAT "%s jail=0x%02x engine=%u"

/* While it is being made or removed, the directory has a name that no sandbox can have: ".wisp-" and 16 hex digits. */
#define SANDBOX_FILES_HIDDEN_SIZE 24u
void sandbox_files_hide(char name[SANDBOX_FILES_HIDDEN_SIZE]);
bool sandbox_files_is_hidden(const char *name);

/*
 * Removes the directory open as `dir_fd`, whose lock the caller holds, where `root_fd` has it as `name`. It is renamed
 * first, so nobody sees it half removed. The config goes last: what a crash leaves behind can still be told. 0, or
 * -errno: -ESTALE if `name` is another directory by now, and then nothing was done.
 */
int sandbox_files_remove(int root_fd, int dir_fd, const char *name);

/*
 * Replaces the file `state` by this line: atomically, or in place on a full file system. A failure is not reported: the
 * lock says whether the sandbox runs.
 */
void sandbox_files_write_state(int dir_fd, const char *line);

#endif
