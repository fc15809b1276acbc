/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/bench/side.h"

/* A side that is silent for so long has failed: longer than any boot or measurement. */
#define SILENCE_MS 120000
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
static void exec_program(char *const *argv, int as, int out, int started)
{
	struct start start = {0};
	sigset_t none;
	sigemptyset(&none);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int in = open("/dev/null", O_RDONLY);
	if (in < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, as) < 0)
		return;
	errno = ENOENT;
	sigprocmask(SIG_SETMASK, &none, NULL);
	start.at = bench_now();
	if (argv[0] && write(started, &start, sizeof(start)) == sizeof(start))
		execvp(argv[0], argv);
}

int bench_start_program(struct bench_side *side, char *const *argv, int as)
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
		exec_program(argv, as, out[1], started[1]);
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
	int code = bench_start_program(side, argv, STDOUT_FILENO);
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

/* ---- Lines ---- */

/* Like read(2), from the session's output. -1 with EAGAIN, or after a message. */
static ssize_t receive(struct bench_side *side, char *to, size_t size)
{
	const struct wisp_event *event;
	struct wisp_error error;
	/* The event stays valid until the next call: what does not fit is copied later. */
	while (side->held == 0) {
		int r = wisp_recv_event(side->session, 0, &event, &error);
		if (r == -EAGAIN) {
			errno = EAGAIN;
			return -1;
		}
		if (r < 0) {
			cli_fail_error(&error);
			return -1;
		}
		if (event->type == WISP_EVENT_DONE)
			return 0;
		if (event->type == WISP_EVENT_FAILED) {
			cli_fail("bench: %s", event->message);
			errno = EIO;
			return -1;
		}
		if (event->type == WISP_EVENT_STDOUT) {
			side->data = event->data;
			side->held = event->length;
		}
	}
	size_t n = side->held < size ? side->held : size;
	memcpy(to, side->data, n);
	side->data += n;
	side->held -= n;
	return (ssize_t)n;
}

/* True if there may be something to read. False if a signal arrived, or after a message. */
static bool wait_some(struct bench *bench, const struct bench_side *side)
{
	struct pollfd pfds[2] = {
	        {.events = POLLIN, .fd = side->session ? wisp_get_session_fd(side->session) : side->out},
	        {.events = POLLIN, .fd = bench->signal_fd}};
	int n = poll(pfds, 2, SILENCE_MS);
	if (n == 0)
		cli_fail("bench: %s wrote nothing for %d s", side->name, SILENCE_MS / 1000);
	return n > 0 && !(pfds[1].revents && bench_poll_signal(bench, 0));
}

/* Reads what has arrived. False at the end, for whatever reason. */
static bool fill(struct bench *bench, struct bench_side *side)
{
	bool fresh = side->length == 0;
	char *to = side->text + side->length;
	size_t room = sizeof(side->text) - 1 - side->length;
	if (side->held == 0 && !wait_some(bench, side))
		return false;
	ssize_t n = side->session ? receive(side, to, room) : read(side->out, to, room);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	side->read_at = bench_now();
	if (fresh) {
		side->at = side->read_at;
		side->counts = bench_count_side(side);
	}
	side->length += (size_t)n;
	return n > 0;
}

bool bench_read_side(struct bench *bench, struct bench_side *side, struct bench_guest_line *line)
{
	while (!side->ended) {
		char *end = memchr(side->text, '\n', side->length);
		if (!end && side->length == sizeof(side->text) - 1)
			side->length = 0; /* no line of bench-guest is so long */
		if (!end) {
			side->ended = !fill(bench, side);
			continue;
		}
		*end = '\0';
		bool ours = bench_parse_guest_line(side->text, line);
		if (!ours && side->text[0])
			snprintf(side->last, sizeof(side->last), "%.*s", (int)strcspn(side->text, "\r"), side->text);
		side->length -= (size_t)(end + 1 - side->text);
		memmove(side->text, end + 1, side->length);
		line->counts = line->type == BENCH_LINE_BEGIN ? bench_count_side(side) : side->counts;
		line->at = side->at;
		side->at = side->read_at; /* what is left in `text` arrived together with the end of this line */
		if (ours)
			return true;
	}
	return false;
}

bool bench_parse_guest_line(const char *text, struct bench_guest_line *line)
{
	unsigned long long v[5];
	int used = 0;
	/* A console may print something else first on the same line. */
	const char *at = strstr(text, BENCH_GUEST_MARK);
	*line = (struct bench_guest_line){0};
	if (!at)
		return false;
	at += strlen(BENCH_GUEST_MARK);
	size_t length = strcspn(at, "\r");
	if (length == 5 && strncmp(at, "ready", 5) == 0) {
		line->type = BENCH_LINE_READY;
		return true;
	}
	if (strncmp(at, "fail ", 5) == 0) {
		line->type = BENCH_LINE_FAIL;
		snprintf(line->name, sizeof(line->name), "%.*s", (int)length - 5, at + 5);
		return true;
	}
	if (sscanf(at, "begin %63s%n", line->name, &used) == 1 && used == (int)length) {
		line->type = BENCH_LINE_BEGIN;
		return true;
	}
	if (sscanf(at, "end %63s " BENCH_GUEST_END_FORMAT "%n", line->name, &v[0], &v[1], &v[2], &v[3], &v[4], &used) !=
	                6 ||
	        used != (int)length || v[0] == 0 || v[2] == 0)
		return false;
	line->type = BENCH_LINE_END;
	line->result = (struct bench_result){.requests = v[0],
	        .bytes = v[1],
	        .ns = v[2],
	        .p99_ns = v[3],
	        .interrupts = (int64_t)v[4],
	        .exits = -1,
	        .syscalls = -1};
	return true;
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
