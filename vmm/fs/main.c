/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp-fs: the process that serves one shared folder (fs.h). The library starts it with the descriptors of fs_wire.h;
 * it is not a command for users. Its words are "ro", "map", "always" and "same" (struct fs_options).
 *
 * It is no child of whoever creates the sandbox, which would have to reap it: the first process ends at once. It ends
 * when the monitor does, whose end of the socket then closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/fs/jail.h"

#define PIPE_BYTES (1 << 20) /* so that a whole read or write fits */

/* The library reads until the end: no bytes mean that all is well. */
static int fail(const char *what, int error)
{
	dprintf(FS_STATUS_FD, "%s: %s", what, strerror(-error));
	return 1;
}

static int set_up(struct fs *fs, const struct fs_options *options)
{
	const char *why;
	char text[96];
	(void)fcntl(options->requests, F_SETPIPE_SZ, PIPE_BYTES);
	(void)fcntl(options->replies, F_SETPIPE_SZ, PIPE_BYTES);
	fs_jail_set_files();
	int ret = fs_init(fs, options);
	if (ret < 0)
		return fail(
		        ret == -EMFILE ? "the limit of open files (ulimit -n) is below 4200" : "cannot open it", ret);
	ret = fs_jail_enter(fs, &why);
	if (ret == 0)
		return 0;
	snprintf(text, sizeof(text), "wisp-fs cannot %s", why);
	return fail(text, ret);
}

int main(int argc, char **argv)
{
	struct fs_options options = {
	        .socket = FS_SOCKET_FD, .requests = FS_REQUEST_FD, .replies = FS_REPLY_FD, .folder = FS_FOLDER_FD};
	struct fs fs;
	for (int i = 1; i < argc; i++) {
		options.read_only |= strcmp(argv[i], "ro") == 0;
		options.map |= strcmp(argv[i], "map") == 0;
		options.always |= strcmp(argv[i], "always") == 0;
		options.same |= strcmp(argv[i], "same") == 0;
	}
	prctl(PR_SET_NAME, "wisp-fs");
	pid_t pid = fork();
	if (pid != 0)
		return pid < 0 ? fail("cannot start wisp-fs", -errno) : 0;
	setsid();
	if (chdir("/") < 0) /* the caller's directory is not in use by this process */
		return fail("wisp-fs cannot leave the current directory", -errno);
	syscall(SYS_close_range, FS_STATUS_FD + 1, UINT_MAX, 0);
	umask(0);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit of the caller's: an error of the guest's write */
	if (set_up(&fs, &options) != 0)
		return 1;
	close(FS_STATUS_FD);
	int ret = fs_serve(&fs);
	fs_destroy(&fs);
	return ret < 0;
}
