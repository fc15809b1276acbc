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
