/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp bench blk, vsock, boot and floor: the two sides that are measured, a sandbox and, with --peer, the guest of
 * another monitor. Both run the same program (bench_guest.h) and are read the same way: the sandbox's through a
 * session, the peer's from its console, which is the standard output of its command. (Of boot, only the peer is a side;
 * of floor, both are monitors with a console to read.)
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/bench/bench.h"
#include "vmm/cli/guest.h"

/* Of silence, after which a side is given up: longer than any boot or measurement. */
#define SILENCE_MS 120000
#define END_MS 5000 /* of a killed program */

/* ---- A sandbox with the program in it ---- */

int bench_send_program(struct wisp_sandbox *sandbox)
{
	static const char *const argv[] = {"sh", "-c", "cat >" BENCH_PROGRAM " && chmod 755 " BENCH_PROGRAM, NULL};
	char path[PATH_MAX], chunk[65536];
	struct guest guest;
	const char *libdir = cli_libdir();
	snprintf(path, sizeof(path), "%s/bench-guest", libdir ? libdir : "");
	FILE *file = fopen(path, "re");
	if (!file)
		return cli_fail("bench: cannot open %s: %s: check the installation", path, strerror(errno));
	if (!guest_start(&guest, sandbox, argv, "root", true)) {
		fclose(file);
		return CLI_EXIT_FAILED;
	}
	size_t n;
	while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0 && guest_write(&guest, chunk, n))
		;
	bool failed = ferror(file);
	fclose(file);
	int code = guest_finish(&guest, "bench: sending " BENCH_PROGRAM);
	return code || !failed ? code : cli_fail("bench: cannot read %s", path);
}

int bench_open_sandbox_side(struct bench *bench, struct bench_side *side)
{
	struct wisp_error error;
	struct wisp_sandbox_info *info;
	*side = (struct bench_side){.name = "wisp", .out = -1};
	side->sandbox = bench_boot_sandbox(bench, &bench->config[0], &error);
	if (!side->sandbox)
		return bench->interrupted ? 0 : CLI_EXIT_FAILED;
	if (wisp_inspect_sandbox(cli_state_root(), wisp_get_sandbox_name(side->sandbox), &info, NULL) == 0) {
		side->pid = info->pid;
		bench_watch_syscalls(&side->syscalls, side->pid);
		wisp_free_sandbox_info(info);
	}
	return bench_send_program(side->sandbox);
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

/* In the child: dies with us; signals are not blocked; no input. Says when exec() was called; returns if it failed. */
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
	/* A program that was started has closed it. */
	while (side->pid > 0 && read(started[0], &start, sizeof(start)) == sizeof(start))
		error = start.error;
	side->began = start.at;
	close(started[0]);
	return error ? cli_fail("bench: cannot start %s '%s': %s", side->name, argv[0] ? argv[0] : "", strerror(error))
	             : 0;
}

int bench_start_peer(const struct bench *bench, struct bench_side *side)
{
	char *argv[BENCH_WORDS_MAX + 1] = {NULL}, *copy = strdup(bench->args->bench.peer);
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
		/* Until it is gone: the next one listens on the same port. */
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

/* More of the session's output, as read() would have it; -1 after a message. */
static ssize_t receive(struct bench_side *side, char *to, size_t size)
{
	const struct wisp_event *event;
	struct wisp_error error;
	/* An event lives until the next call: what does not fit is taken up again. */
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

/* True when there may be something to read; false when a signal came, or after a message. */
static bool wait_some(struct bench *bench, const struct bench_side *side)
{
	struct pollfd pfds[2] = {
	        {.events = POLLIN, .fd = side->session ? wisp_get_session_fd(side->session) : side->out},
	        {.events = POLLIN, .fd = bench->signal_fd}};
	int n = poll(pfds, 2, SILENCE_MS);
	if (n == 0)
		cli_fail("bench: %s has not said a word for %d s", side->name, SILENCE_MS / 1000);
	return n > 0 && !(pfds[1].revents && bench_poll_signal(bench, 0));
}

/* Reads what has come: false at the end of it, however that came. */
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
			side->length = 0; /* no line of ours is so long */
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
		side->at = side->read_at; /* of what is left in `text`: it came with the end of this line */
		if (ours)
			return true;
	}
	return false;
}

bool bench_parse_guest_line(const char *text, struct bench_guest_line *line)
{
	unsigned long long v[5];
	int used = 0;
	/* A console's first words may share its line. */
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

/* ---- Results ---- */

struct bench_metric *bench_add_results(
        struct bench *bench, const char *name, const char *unit, const char *what, const char *per)
{
	static const struct {
		const char *suffix, *unit, *what;
	} others[BENCH_RESULT_METRICS - 1] = {
	        {"p99", "ns", "99 of 100 took at most so long, in each run"},
	        {"exits", "milli", "KVM's exits"},
	        {"interrupts", "milli", "interrupts of the guest's virtio devices"},
	        {"syscalls", "milli", "system calls of the monitor's threads"},
	};
	char text[32];
	struct bench_metric *first = bench_add_metric(bench, name, unit, what, bench->runs);
	for (size_t i = 0; first && i < BENCH_RESULT_METRICS - 1; i++) {
		snprintf(text, sizeof(text), "%s %s", name, others[i].suffix);
		struct bench_metric *metric =
		        bench_add_metric(bench, text, others[i].unit, others[i].what, bench->runs);
		if (!metric)
			return NULL;
		metric->per = i > 0 ? per : "";
	}
	return first;
}

void bench_add_value(struct bench_metric *metric, bool peer, int64_t value)
{
	if (value < 0)
		return;
	if (peer)
		metric->peer[metric->peer_count++] = value;
	else
		metric->values[metric->count++] = value;
}

void bench_add_result(struct bench_metric *first, bool peer, const struct bench_result *r)
{
	bool bytes = strcmp(first->unit, "kB/s") == 0;
	double rate = bytes ? (double)r->bytes * 1e6 / (double)r->ns : (double)r->requests * 1e12 / (double)r->ns;
	bench_add_value(first, peer, (int64_t)rate);
	if (r->p99_ns > 0)
		bench_add_value(first + 1, peer, (int64_t)r->p99_ns);
	if (r->exits >= 0)
		bench_add_value(first + 2, peer, r->exits * 1000 / (int64_t)r->requests);
	if (r->interrupts >= 0)
		bench_add_value(first + 3, peer, r->interrupts * 1000 / (int64_t)r->requests);
	if (r->syscalls >= 0)
		bench_add_value(first + 4, peer, r->syscalls * 1000 / (int64_t)r->requests);
}

bool bench_compare_peer(
        const struct bench_metric *metric, int64_t *room, int64_t *other_room, struct bench_ratio *ratio)
{
	if (metric->peer_count == 0)
		return false;
	memcpy(room, metric->peer, metric->peer_count * sizeof(*room));
	memcpy(other_room, metric->values, metric->count * sizeof(*room));
	return bench_compare(room, metric->peer_count, other_room, metric->count, ratio);
}

void bench_set_counts(struct bench_result *r, const struct bench_counts *before, const struct bench_counts *after)
{
	r->exits = before->exits >= 0 && after->exits >= 0 ? after->exits - before->exits : -1;
	r->syscalls = before->syscalls >= 0 && after->syscalls >= 0 ? after->syscalls - before->syscalls : -1;
}

/* ---- Runs ---- */

int bench_run_sides(struct bench *bench, struct bench_side *wisp, const char *const *words,
        int (*measure)(struct bench *bench, struct bench_side *side, bool counts))
{
	struct bench_side peer = {.name = "the peer", .out = -1};
	struct bench_side *sides[2] = {wisp, bench->args->bench.peer ? &peer : NULL};
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
		return cli_fail("bench: the guest of %s says: %s", side->name, line->name);
	return cli_fail("bench: %s ended early%s%s%s", side->name, side->last[0] ? "; its last words: '" : "",
	        side->last, side->last[0] ? "'" : "");
}
