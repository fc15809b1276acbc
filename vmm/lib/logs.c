/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads exec.log, which the monitor writes and replaces when it is full: first the previous file, then the current one,
 * then, when following, what is added and the files that replace it. The lock tells that the monitor has ended; inotify
 * tells that something in the directory has changed, the lock included.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/logline.h"
#include "vmm/lib/state.h"

#define LINE_LIMIT ((size_t)4 << 20) /* ten times a frame of 64 KiB with every byte escaped */

struct wisp_logs {
	struct wisp_logs_options options;
	struct lib_cancel cancel;
	int dir_fd;
	int inotify_fd;
	int files[2];           /* exec.log.1, exec.log; -1: missing */
	int current;            /* the one that is being read */
	uint64_t skip;          /* matching records that `tail` omits */
	struct lib_string text; /* what has been read; unused from `at` on */
	size_t at;
	struct logline parsed;
	struct wisp_log_record record;
};

static int open_file(int dir_fd, const char *name)
{
	return openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

void wisp_close_logs(struct wisp_logs *logs)
{
	if (!logs)
		return;
	const int fds[] = {logs->dir_fd, logs->inotify_fd, logs->files[0], logs->files[1]};
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	free(logs->text.text);
	free(logs->parsed.data.text);
	free(logs);
}

static bool is_same(int a, int b)
{
	struct stat left, right;
	return a >= 0 && b >= 0 && fstat(a, &left) == 0 && fstat(b, &right) == 0 && left.st_ino == right.st_ino &&
	       left.st_dev == right.st_dev;
}

/* Whether the monitor has started a new file of this name. */
static bool was_replaced(const struct wisp_logs *logs)
{
	struct stat ours, named;
	if (fstatat(logs->dir_fd, SANDBOX_FILES_EXEC_LOG, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	return logs->files[1] < 0 || fstat(logs->files[1], &ours) < 0 || ours.st_ino != named.st_ino ||
	       ours.st_dev != named.st_dev;
}

/*
 * Opens the files that follow `last`, which has been read to its end, or is -1. The monitor may rotate between any two
 * steps: it gives the current file its second name, and then the first to a new file. The current file is opened first,
 * so whatever has the second name afterwards is the file before it, the same file, or one that follows it.
 */
static void open_files(struct wisp_logs *logs, int last)
{
	logs->files[1] = open_file(logs->dir_fd, SANDBOX_FILES_EXEC_LOG);
	int old = open_file(logs->dir_fd, SANDBOX_FILES_EXEC_LOG ".1");
	bool follows = logs->files[1] >= 0 && was_replaced(logs);
	if (old >= 0 && (follows || is_same(old, logs->files[1]) || is_same(old, last))) {
		close(old);
		old = -1;
	}
	logs->files[0] = old;
	logs->current = 0;
}

/* Reads more text into the buffer. Returns 1, or 0 at the present end. */
static int read_more(struct wisp_logs *logs)
{
	char buffer[65536];
	if (logs->at > 0) {
		memmove(logs->text.text, logs->text.text + logs->at, logs->text.length - logs->at);
		logs->text.length -= logs->at;
		logs->at = 0;
	}
	for (;;) {
		/* Checked before the end of the file is seen: the next change shows what is written after that. */
		bool replaced = logs->current == 1 && logs->options.follow && was_replaced(logs);
		int fd = logs->files[logs->current];
		ssize_t n = fd >= 0 ? read(fd, buffer, sizeof(buffer)) : 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n > 0) {
			lib_string_add(&logs->text, buffer, (size_t)n);
			return logs->text.failed ? -ENOMEM : 1;
		}
		if (logs->current == 0) {
			logs->current = 1;
		} else if (replaced) {
			int last = fd >= 0 ? fd : logs->files[0], before = logs->files[0];
			open_files(logs, last);
			if (fd >= 0)
				close(fd);
			if (before >= 0)
				close(before);
		} else {
			return 0;
		}
	}
}

/* Stores the next complete line without its newline, and returns 1; returns 0 at the end. */
static int next_line(struct wisp_logs *logs, char **line, size_t *length)
{
	for (;;) {
		size_t left = logs->text.length - logs->at;
		char *from = left > 0 ? logs->text.text + logs->at : NULL;
		char *newline = from ? memchr(from, '\n', left) : NULL;
		if (newline) {
			*newline = '\0';
			*line = from;
			*length = (size_t)(newline - from);
			logs->at += *length + 1;
			return 1;
		}
		if (left > LINE_LIMIT)
			logs->at = logs->text.length;
		int r = read_more(logs);
		if (r <= 0)
			return r;
	}
}

static bool matches(const struct wisp_logs *logs, const struct logline *record)
{
	const struct wisp_logs_options *options = &logs->options;
	unsigned source = strcmp(record->stream, "stdout") == 0   ? WISP_LOG_STDOUT
	                  : strcmp(record->stream, "stderr") == 0 ? WISP_LOG_STDERR
	                                                          : WISP_LOG_EVENTS;
	return (options->sources == 0 || (options->sources & source)) &&
	       (options->session == 0 || options->session == record->session) && record->time_ns >= options->since_ns;
}

/* Finds the next record that matches. */
static int next_record(struct wisp_logs *logs, char **line)
{
	size_t length;
	int r;
	while ((r = next_line(logs, line, &length)) > 0) {
		if (logline_parse(*line, length, &logs->parsed) && matches(logs, &logs->parsed))
			return 1;
	}
	return r;
}

/* Counts the records that there are, and rewinds. */
static int prepare_tail(struct wisp_logs *logs)
{
	uint64_t count = 0;
	char *line;
	int r;
	bool follow = logs->options.follow;
	if (logs->options.tail == 0)
		return 0;
	logs->options.follow = false;
	while ((r = next_record(logs, &line)) > 0)
		count++;
	logs->options.follow = follow;
	for (int i = 0; i < 2; i++) {
		if (logs->files[i] >= 0)
			lseek(logs->files[i], 0, SEEK_SET);
	}
	logs->current = 0;
	logs->at = logs->text.length = 0;
	logs->skip = count > logs->options.tail ? count - logs->options.tail : 0;
	return r;
}

static int open_in(int root_fd, const char *root, const char *name, const struct wisp_logs_options *options,
        struct wisp_logs **out, struct wisp_error *error)
{
	int dir_fd;
	int r = state_open(root_fd, root, name, &dir_fd, NULL, error);
	if (r < 0)
		return r;
	struct wisp_logs *logs = calloc(1, sizeof(*logs));
	if (!logs) {
		close(dir_fd);
		return lib_no_memory(error);
	}
	logs->options = *options;
	logs->dir_fd = dir_fd;
	logs->inotify_fd = -1;
	if (options->follow) {
		char path[32];
		snprintf(path, sizeof(path), "/proc/self/fd/%d", dir_fd);
		logs->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		if (logs->inotify_fd < 0 || inotify_add_watch(logs->inotify_fd, path,
		                                    IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE |
		                                            IN_DELETE_SELF) < 0) {
			r = lib_fail_errno(error, errno, "cannot watch %s/%s", root, name);
			logs->files[0] = logs->files[1] = -1;
			wisp_close_logs(logs);
			return r;
		}
	}
	open_files(logs, -1);
	r = prepare_tail(logs);
	if (r < 0) {
		wisp_close_logs(logs);
		return lib_fail_errno(error, -r, "cannot read the log of the sandbox '%s'", name);
	}
	*out = logs;
	return 0;
}

int wisp_open_logs(const char *state_root, const char *name, const struct wisp_logs_options *given,
        struct wisp_logs **logs, struct wisp_error *error)
{
	if (lib_is_null(logs, "logs", error))
		return -EINVAL;
	struct wisp_logs_options options;
	struct lib_cancel cancel;
	int root_fd;
	char *root;
	*logs = NULL;
	int r = lib_copy_options(&options, sizeof(options), given, "struct wisp_logs_options", error);
	if (r == 0)
		r = lib_check_name(name, error);
	if (r == 0)
		r = lib_copy_cancel(&cancel, options.cancel, &(struct lib_cancel){0}, error);
	if (r < 0)
		return r;
	r = state_open_root(state_root, false, &root_fd, &root, error);
	if (r == -ENOENT)
		return lib_fail(error, WISP_ERR_NO_SANDBOX, ENOENT, "there is no sandbox '%s': %s does not exist", name,
		        state_root);
	if (r < 0)
		return r;
	r = open_in(root_fd, root, name, &options, logs, error);
	if (r == 0)
		(*logs)->cancel = cancel;
	close(root_fd);
	free(root);
	return r;
}

static void drain_inotify(int fd)
{
	char buffer[4096];
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
}

int wisp_recv_log(
        struct wisp_logs *logs, int64_t timeout_ms, const struct wisp_log_record **record, struct wisp_error *error)
{
	if (lib_is_null(logs, "logs", error) || lib_is_null(record, "record", error))
		return -EINVAL;
	int64_t deadline = lib_deadline_ns(timeout_ms);
	char *line;
	*record = NULL;
	for (;;) {
		/* Checked before the log is read to its end: nothing is written afterwards. */
		bool follow = logs->options.follow && state_probe(logs->dir_fd) == STATE_HELD;
		if (logs->inotify_fd >= 0)
			drain_inotify(logs->inotify_fd);
		int r;
		while ((r = next_record(logs, &line)) > 0 && logs->skip > 0)
			logs->skip--;
		if (r > 0) {
			logs->record = (struct wisp_log_record){
			        .time_ns = logs->parsed.time_ns,
			        .session = logs->parsed.session,
			        .stream = logs->parsed.stream,
			        .data = (const uint8_t *)logs->parsed.data.text,
			        .length = logs->parsed.data.length,
			        .line = line,
			};
			*record = &logs->record;
			return 1;
		}
		if (r < 0)
			return lib_fail_errno(error, -r, "cannot read the log");
		if (!follow)
			return 0;
		if (lib_now_ns() >= deadline)
			return lib_fail(error, WISP_ERR_AGAIN, EAGAIN, "nothing was logged in time");
		struct pollfd pfd = {.fd = logs->inotify_fd, .events = POLLIN};
		r = lib_poll(&logs->cancel, &pfd, 1, deadline);
		if (r < 0 && r != -ETIMEDOUT)
			return lib_fail_wait(error, r);
	}
}

int wisp_get_logs_fd(const struct wisp_logs *logs)
{
	return logs ? logs->inotify_fd : -1;
}
