/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/bench/side.h"

#define END_MS 5000 /* of a killed program */

/* ---- A sandbox with the program in it ---- */

/* The whole file, to be freed. NULL with errno. */
static char *read_file(const char *path, size_t *length)
{
	struct stat st;
	FILE *file = fopen(path, "re");
	if (!file)
		return NULL;
	char *data = fstat(fileno(file), &st) == 0 ? malloc((size_t)st.st_size + 1) : NULL;
	*length = data ? fread(data, 1, (size_t)st.st_size, file) : 0;
	if (data && ferror(file)) {
		free(data);
		data = NULL;
	}
	fclose(file);
	return data;
}

int bench_send_program(const struct bench *bench, struct wisp_sandbox *sandbox)
{
	static const char *const argv[] = {"sh", "-c", "cat >" BENCH_PROGRAM " && chmod 755 " BENCH_PROGRAM, NULL};
	struct wisp_exec_options options = {
	        .size = sizeof(options), .user = "root", .cwd = "/", .stdin_mode = WISP_STDIN_BYTES};
	struct wisp_output *output;
	struct wisp_error error;
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/bench-guest", bench->places->libdir);
	char *program = read_file(path, &options.stdin_length);
	if (!program)
		return cli_fail("bench: cannot read %s: %s; install wisp again", path, strerror(errno));
	options.stdin_data = program;
	int code = 0;
	if (wisp_exec(sandbox, argv, &options, &output, &error) < 0)
		code = cli_fail_error(&error);
	else if (!output->status.success)
		code = cli_fail("bench: cannot write " BENCH_PROGRAM " in the guest: %.*s", (int)output->stderr_length,
		        (const char *)output->stderr_data);
	wisp_free_output(output);
	free(program);
	return code;
}

int bench_open_sandbox_side(struct bench *bench, struct bench_side *side)
{
	struct wisp_error error;
	struct wisp_sandbox_info *info;
	*side = (struct bench_side){.name = "wisp", .out = -1};
	side->sandbox = bench_boot_sandbox(bench, &bench->config[0], &error);
	if (!side->sandbox)
		return bench->interrupted ? 0 : CLI_EXIT_FAILED;
	if (wisp_inspect_sandbox(bench->places->state_root, wisp_get_sandbox_name(side->sandbox), &info, NULL) == 0) {
		side->pid = info->pid;
		bench_watch_syscalls(&side->syscalls, side->pid);
		wisp_free_sandbox_info(info);
	}
	return bench_send_program(bench, side->sandbox);
}

/* ---- Programs ---- */

static void begin_side(struct bench_side *side)
{
	side->length = side->held = 0;
	side->counts = (struct bench_counts){-1, -1};
	side->ended = false;
}

static int start_session(struct bench_side *side, const char *const *words)
{
	const char *argv[6] = {BENCH_PROGRAM};
	struct wisp_exec_options options = {.size = sizeof(options), .user = "root", .cwd = "/"};
	struct wisp_error error;
	for (size_t i = 0; words[i]; i++)
		argv[i + 1] = words[i];
	if (wisp_exec_stream(side->sandbox, argv, &options, &side->session, &error) < 0)
		return cli_fail_error(&error);
	return 0;
}

struct start {
	uint64_t at;
	int error;
};

/* In the child, which dies with its parent and has no input: reports when it calls exec(). Returns if that fails. */
static void exec_program(char *const *argv, int out, int started)
{
	struct start start = {0};
	sigset_t none;
	sigemptyset(&none);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int in = open("/dev/null", O_RDONLY);
	if (in < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		return;
	errno = ENOENT;
	sigprocmask(SIG_SETMASK, &none, NULL);
	start.at = bench_now();
	if (argv[0] && write(started, &start, sizeof(start)) == sizeof(start))
		execvp(argv[0], argv);
}

static int start_program(struct bench_side *side, char *const *argv)
{
	struct start start = {0};
	int out[2], started[2], error;
	begin_side(side);
	if (pipe2(out, O_CLOEXEC) < 0)
		return cli_fail("bench: cannot make a pipe: %s", strerror(errno));
	side->out = out[0];
	if (pipe2(started, O_CLOEXEC) < 0) {
		close(out[1]);
		return cli_fail("bench: cannot make a pipe: %s", strerror(errno));
	}
	side->pid = fork();
	if (side->pid == 0) {
		exec_program(argv, out[1], started[1]);
		start.error = errno;
		_exit(write(started[1], &start, sizeof(start)) < 0);
	}
	error = side->pid < 0 ? errno : 0;
	close(out[1]);
	close(started[1]);
	/* exec() closes the other end. */
	while (side->pid > 0 && read(started[0], &start, sizeof(start)) == sizeof(start))
		error = start.error;
	side->began = start.at;
	close(started[0]);
	return error ? cli_fail("bench: cannot start %s '%s': %s", side->name, argv[0] ? argv[0] : "", strerror(error))
	             : 0;
}

int bench_start_peer(const struct bench *bench, struct bench_side *side)
{
	char *argv[BENCH_WORDS_MAX + 1] = {NULL}, *copy = strdup(bench->options->peer);
	if (!copy)
		return cli_fail("out of memory");
	bench_split_words(copy, argv, BENCH_WORDS_MAX);
	int code = start_program(side, argv);
	free(copy);
	return code;
}

static int start_side(const struct bench *bench, struct bench_side *side, const char *const *words)
{
	if (!side->sandbox) {
		int code = bench_start_peer(bench, side);
		bench_watch_syscalls(&side->syscalls, side->pid);
		return code;
	}
	begin_side(side);
	return start_session(side, words);
}

void bench_stop_side(struct bench_side *side)
{
	if (side->session) {
		/* Wait until it is gone: the next one listens on the same port. */
		const struct wisp_event *event;
		wisp_kill_session(side->session, NULL);
		while (wisp_recv_event(side->session, END_MS, &event, NULL) == 0 && event->type != WISP_EVENT_DONE)
			;
		wisp_close_session(side->session);
		side->session = NULL;
	} else if (!side->sandbox && side->pid > 0) {
		kill(side->pid, SIGKILL);
		while (waitpid(side->pid, NULL, 0) < 0 && errno == EINTR)
			;
		side->pid = 0;
		bench_unwatch_syscalls(&side->syscalls);
	}
	if (side->out >= 0)
		close(side->out);
	side->out = -1;
}

/* ---- Runs ---- */

int bench_run_sides(struct bench *bench, struct bench_side *wisp, const char *const *words,
        int (*measure)(struct bench *bench, struct bench_side *side, bool counts))
{
	struct bench_side peer = {.name = "the peer", .out = -1};
	struct bench_side *sides[2] = {wisp, bench->options->peer ? &peer : NULL};
	size_t all = bench->warmup + bench->runs;
	int code = 0;
	for (size_t i = 0; i < all && code == 0 && !bench_poll_signal(bench, 0); i++) {
		bench_progress(bench, "run", i, all);
		for (size_t s = 0; s < 2 && sides[s] && code == 0 && !bench->interrupted; s++) {
			code = start_side(bench, sides[s], words);
			if (code == 0)
				code = measure(bench, sides[s], i >= bench->warmup);
			bench_stop_side(sides[s]);
		}
	}
	return code;
}

int bench_fail_side(const struct bench *bench, const struct bench_side *side, const struct bench_guest_line *line)
{
	if (bench->interrupted)
		return 0;
	if (line->type == BENCH_LINE_FAIL)
		return cli_fail("bench: the guest of %s reported: %s", side->name, line->name);
	return cli_fail("bench: %s ended early%s%s%s", side->name, side->last[0] ? "; its last line: '" : "",
	        side->last, side->last[0] ? "'" : "");
}
