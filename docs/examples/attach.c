/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connects this terminal to a shell in a sandbox. Changes of the window's size reach the shell; ^] detaches.
 *
 *	cc attach.c -lwisp -o attach && ./attach
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>

#include <wisp.h>

/* The library installs no signal handlers: it is told of signals by descriptors. */
static int signal_descriptor(int first, int second)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, first);
	sigaddset(&set, second);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int main(void)
{
	struct wisp_create_options create = {
	        .size = sizeof(create),
	        .state_root = getenv("WISP_STATE") ? getenv("WISP_STATE") : "/run/wisp",
	        .libdir = getenv("WISP_LIBDIR"),
	};
	int resize_fd = signal_descriptor(SIGWINCH, SIGWINCH), cancel_fd = signal_descriptor(SIGTERM, SIGHUP);
	struct wisp_attach_options attach = {
	        .size = sizeof(attach),
	        .resize_fd = &resize_fd,
	        .cancel_fd = &cancel_fd,
	        .detach_keys = "ctrl-]",
	};
	struct wisp_sandbox *sandbox;
	struct wisp_exit_status status;
	struct wisp_error error;
	int code = 125;

	if (wisp_create_sandbox(&create, &sandbox, &error) < 0) {
		fprintf(stderr, "%s\n", error.message);
		return code;
	}
	int r = wisp_attach(sandbox, NULL, NULL, &attach, NULL, &status, &error);
	if (r == 0)
		code = status.signal ? 128 + status.signal : status.code;
	else if (r == 1)
		printf("\r\ndetached: the shell ends, because its sandbox ends with this program\n");
	else
		fprintf(stderr, "%s\n", error.message);
	wisp_close_sandbox(sandbox);
	return code;
}
