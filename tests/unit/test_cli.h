/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the command: command lines of a shell, with sandboxes of the fake monitor, whose guest is this host. */
#ifndef WISP_TEST_CLI_H
#define WISP_TEST_CLI_H

#include <pty.h>
#include <termios.h>
#include <utmp.h>
#include "tests/unit/test_lib.h"

struct cli {
	char dir[64], state[80];
	char out[300000], err[4096];
	size_t out_length;
	int code;
};

/* The environment of everything in a case: a folder of its own. */
static inline bool begin(struct cli *c)
{
	char path[PATH_MAX], bench[PATH_MAX], lib[96], vmlinux[128];
	memset(c, 0, sizeof(*c));
	if (access(built("../../bin/wisp", path), X_OK) < 0) {
		test_skipped = "bin/wisp is not built";
		return false;
	}
	snprintf(c->dir, sizeof(c->dir), "/tmp/wisp-test-XXXXXX");
	if (!mkdtemp(c->dir))
		abort();
	snprintf(c->state, sizeof(c->state), "%s/state", c->dir);
	snprintf(lib, sizeof(lib), "%s/lib", c->dir);
	snprintf(vmlinux, sizeof(vmlinux), "%s/wisp-bench", lib);
	if (!make_libdir(lib) || symlink(built("../../lib/wisp/wisp-bench", bench), vmlinux) < 0)
		abort();
	snprintf(vmlinux, sizeof(vmlinux), "%s/cache", c->dir);
	setenv("WISP_STATE", c->state, 1);
	setenv("WISP_LIBDIR", lib, 1);
	setenv("XDG_CACHE_HOME", vmlinux, 1);
	setenv("WISP", path, 1);
	setenv("DIR", c->dir, 1);
	/* Names of the fake monitor's kernels are what a guest does: the default one serves. */
	snprintf(vmlinux, sizeof(vmlinux), "%s/fake-ready", lib);
	setenv("READY", vmlinux, 1);
	return true;
}

static inline void end(struct cli *c)
{
	if (count_entries(c->state) > 0)
		CHECK_EQ(count_entries(c->state), 0);
	remove_all(c->dir);
}

/* A shell's command line; `wisp` and `run` are functions of it. */
static inline void sh(struct cli *c, const char *script)
{
	char command[8192];
	snprintf(command, sizeof(command),
	        "cd \"$DIR\"; wisp() { \"$WISP\" \"$@\"; }; run() { \"$WISP\" run --kernel \"$READY\" \"$@\"; };"
	        "create() { \"$WISP\" create --kernel \"$READY\" \"$@\"; }; { %s\n} >\"$DIR/out\" 2>\"$DIR/err\"",
	        script);
	int status = system(command);
	c->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/out", c->dir);
	FILE *file = fopen(path, "r");
	c->out_length = file ? fread(c->out, 1, sizeof(c->out) - 1, file) : 0;
	c->out[c->out_length] = '\0';
	if (file)
		fclose(file);
	read_text(c->dir, "err", c->err, sizeof(c->err));
}

static inline void show(const struct cli *c, const char *script)
{
	printf("# %s: code %d, out \"%.200s\", err \"%.300s\"\n", script, c->code, c->out, c->err);
	test_failed = true;
}

static inline void expect(struct cli *c, const char *script, int code, const char *out)
{
	sh(c, script);
	if (c->code != code || strcmp(c->out, out) != 0)
		show(c, script);
}

/* ---- wisp on a terminal of its own ---- */

struct cli_terminal {
	int keyboard, tty; /* the test's end; the command's, so that it stays open */
	pid_t pid;
	char seen[16384];
	size_t length;
};

/* Starts `wisp` with words of a shell, on a terminal of 25 lines of 90 columns, whose modes go to *before. */
static inline bool terminal_start(struct cli_terminal *t, const char *words, struct termios *before)
{
	struct winsize size = {.ws_row = 25, .ws_col = 90};
	char command[1024];
	*t = (struct cli_terminal){.pid = -1};
	if (openpty(&t->keyboard, &t->tty, NULL, NULL, &size) < 0 || (before && tcgetattr(t->tty, before) < 0))
		return false;
	snprintf(command, sizeof(command), "exec \"$WISP\" %s", words);
	t->pid = fork();
	if (t->pid == 0) {
		close(t->keyboard);
		login_tty(t->tty);
		execlp("sh", "sh", "-c", command, (char *)NULL);
		_exit(99);
	}
	return t->pid > 0;
}

/* Reads until the text is on the screen. What follows it is for the next call. */
static inline bool terminal_shows(struct cli_terminal *t, const char *wanted)
{
	int64_t deadline = now_ms() + 10000;
	char *found;
	while (!(found = strstr(t->seen, wanted)) && now_ms() < deadline && t->length + 1 < sizeof(t->seen)) {
		struct pollfd pfd = {.fd = t->keyboard, .events = POLLIN};
		size_t room = sizeof(t->seen) - 1 - t->length;
		ssize_t n = poll(&pfd, 1, 100) > 0 ? read(t->keyboard, t->seen + t->length, room) : 0;
		t->length += n > 0 ? (size_t)n : 0;
		t->seen[t->length] = '\0';
	}
	if (!found) {
		printf("# no \"%s\" in \"%s\"\n", wanted, t->seen);
		return false;
	}
	char *rest = found + strlen(wanted);
	t->length = strlen(rest);
	memmove(t->seen, rest, t->length + 1);
	return true;
}

static inline void terminal_type(struct cli_terminal *t, const char *keys)
{
	CHECK_EQ(write(t->keyboard, keys, strlen(keys)), (long long)strlen(keys));
}

/* The exit code, or 128 and the signal that ended it. */
static inline int terminal_wait(struct cli_terminal *t)
{
	int status = 0;
	CHECK_EQ(waitpid(t->pid, &status, 0), t->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void terminal_close(struct cli_terminal *t)
{
	close(t->keyboard);
	close(t->tty);
}

/* One line on standard error with these words in it, and nothing on standard output. */
static inline void expect_error(struct cli *c, const char *script, int code, const char *words)
{
	sh(c, script);
	size_t length = strlen(c->err);
	if (c->code != code || c->out[0] || !strstr(c->err, words) || strncmp(c->err, "wisp: ", 6) != 0 ||
	        strchr(c->err, '\n') != c->err + length - 1)
		show(c, script);
}

#endif
