/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves a program running and comes back to it. The first call creates a sandbox that stays and starts a program in
 * it. The second call finds both again, prints what the program wrote, and stops the sandbox.
 *
 *	cc reattach.c -lwisp -o reattach && ./reattach start && sleep 2 && ./reattach again
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wisp.h>

static const char name[] = "reattach-example";
static const char script[] = "i=0; while [ $i -lt 5 ]; do i=$((i + 1)); echo line $i; sleep 0.3; done";

static int fail(const struct wisp_error *error)
{
	fprintf(stderr, "%s\n", error->message);
	return 125;
}

static int start(const char *state_root)
{
	struct wisp_create_options create = {
	        .size = sizeof(create),
	        .state_root = state_root,
	        .libdir = getenv("WISP_LIBDIR"),
	        .name = name,
	        .detach = true, /* it outlives this process */
	};
	struct wisp_sandbox *sandbox;
	struct wisp_session *session;
	struct wisp_error error;
	uint64_t id;

	if (wisp_create_sandbox(&create, &sandbox, &error) < 0)
		return fail(&error);
	if (wisp_shell_stream(sandbox, script, NULL, NULL, &session, &error) < 0 ||
	        wisp_get_session_id(session, &id, &error) < 0)
		return fail(&error);
	printf("session %llu goes on\n", (unsigned long long)id);
	wisp_close_session(session); /* detaches: the program goes on */
	wisp_close_sandbox(sandbox);
	return 0;
}

static int again(const char *state_root)
{
	struct wisp_sandbox *sandbox;
	struct wisp_session *session;
	struct wisp_session_info **list;
	struct wisp_output *output;
	struct wisp_error error;

	if (wisp_open_sandbox(state_root, name, &sandbox, &error) < 0)
		return fail(&error);
	if (wisp_list_sessions(sandbox, &list, &error) < 1 || !list[0])
		return fail(&error);
	uint64_t id = list[0]->id;
	printf("session %llu: %s, %s\n", (unsigned long long)id, list[0]->argv[0],
	        list[0]->exited ? "ended" : "running");
	wisp_free_session_list(list);

	/* Begin with the output that the guest has kept, and wait for the program's end. */
	if (wisp_open_session(sandbox, id, NULL, &session, &error) < 0 ||
	        wisp_collect_output(session, &output, &error) < 0)
		return fail(&error);
	fwrite(output->stdout_data, 1, output->stdout_length, stdout);
	if (output->dropped > 0)
		printf("(%llu bytes were dropped meanwhile)\n", (unsigned long long)output->dropped);
	int code = output->status.code;
	wisp_free_output(output);
	wisp_close_session(session);
	if (wisp_stop_sandbox(sandbox, 0, &error) < 0)
		return fail(&error);
	wisp_close_sandbox(sandbox);
	return code;
}

int main(int argc, char **argv)
{
	const char *state_root = getenv("WISP_STATE") ? getenv("WISP_STATE") : "/run/wisp";
	if (argc == 2 && strcmp(argv[1], "start") == 0)
		return start(state_root);
	if (argc == 2 && strcmp(argv[1], "again") == 0)
		return again(state_root);
	fprintf(stderr, "usage: reattach start|again\n");
	return 125;
}
