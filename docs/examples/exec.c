/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a command in a sandbox of its own and collects what it writes.
 *
 *	cc exec.c -lwisp -o exec && ./exec uname -a
 */
#include <stdio.h>
#include <stdlib.h>

#include <wisp.h>

int main(int argc, char **argv)
{
	struct wisp_create_options create = {
	        .size = sizeof(create),
	        .state_root = getenv("WISP_STATE") ? getenv("WISP_STATE") : "/run/wisp",
	        .libdir = getenv("WISP_LIBDIR"),
	};
	const char *hello[] = {"echo", "hello from the guest", NULL};
	const char *const *command = argc > 1 ? (const char *const *)argv + 1 : hello;
	struct wisp_sandbox *sandbox;
	struct wisp_output *output;
	struct wisp_error error;
	int code = 125;

	if (wisp_create_sandbox(&create, &sandbox, &error) < 0) {
		fprintf(stderr, "%s\n", error.message);
		return code;
	}

	struct wisp_exec_options options = {.size = sizeof(options), .timeout_ms = 30000};
	if (wisp_exec(sandbox, command, &options, &output, &error) < 0)
		fprintf(stderr, "%s (%s)\n", error.message, wisp_get_status_name(error.status));
	if (output) {
		fwrite(output->stdout_data, 1, output->stdout_length, stdout);
		fwrite(output->stderr_data, 1, output->stderr_length, stderr);
		code = output->status.signal ? 128 + output->status.signal : output->status.code;
	}
	wisp_free_output(output);
	wisp_close_sandbox(sandbox); /* powers it off */
	return code;
}
