/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs for snapshots and clones. The command is this program, so that the library's calls for them are made up
 * here: each notes its options in the file `calls`, and sandboxes are those of the fake monitor. What a call does is
 * in the variable FAKE: "fail", "wait" (until it is cancelled) or "slow" (it reports its progress).
 */
#include <stdarg.h>

#include "tests/unit/test_cli.h"

int command_main(int argc, char **argv);
#define main command_main
#include "vmm/cli/main.c"
#undef main

/* ---- The library's calls ---- */

int __real_wisp_create_sandbox(const struct wisp_create_options *, struct wisp_sandbox **, struct wisp_error *);
int __wrap_wisp_create_sandbox(const struct wisp_create_options *, struct wisp_sandbox **, struct wisp_error *);
int __wrap_wisp_snapshot_sandbox(
        struct wisp_sandbox *, const char *, const struct wisp_snapshot_options *, struct wisp_error *);
int __wrap_wisp_verify_snapshot(const char *, const struct wisp_verify_options *, struct wisp_error *);
int __wrap_wisp_fork_sandbox(
        struct wisp_sandbox *, size_t, const struct wisp_fork_options *, struct wisp_sandbox **, struct wisp_error *);
int __wrap_wisp_pause_sandbox(struct wisp_sandbox *, struct wisp_error *);
int __wrap_wisp_resume_sandbox(struct wisp_sandbox *, struct wisp_error *);
int __real_wisp_stop_sandbox(struct wisp_sandbox *, int64_t, struct wisp_error *);
int __wrap_wisp_stop_sandbox(struct wisp_sandbox *, int64_t, struct wisp_error *);
int64_t __wrap_wisp_get_pause_us(const struct wisp_sandbox *);
bool __wrap_wisp_writes_disks(const struct wisp_sandbox *);

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
	char path[PATH_MAX];
	va_list ap;
	snprintf(path, sizeof(path), "%s/calls", getenv("DIR"));
	FILE *file = fopen(path, "a");
	if (!file)
		abort();
	va_start(ap, format);
	vfprintf(file, format, ap);
	va_end(ap);
	fclose(file);
}

static const char *text(const char *given)
{
	return given ? given : "-";
}

/* What FAKE says. */
static int behave(const struct wisp_progress *progress, const struct wisp_cancel *cancel, struct wisp_error *error)
{
	const char *fake = text(getenv("FAKE"));
	*error = (struct wisp_error){.status = WISP_ERR_SNAPSHOT, .errnum = EINVAL, .message = "this is the reason"};
	if (strcmp(fake, "fail") == 0)
		return -EINVAL;
	if (strcmp(fake, "slow") == 0) {
		for (int i = 1; i <= 2; i++) {
			sleep_ms(110);
			progress->report(progress->context, (uint64_t)i << 20, 4 << 20);
		}
	}
	if (strcmp(fake, "wait") != 0)
		return 0;
	struct pollfd pfd = {.fd = *cancel->fd, .events = POLLIN};
	note("waits\n");
	poll(&pfd, 1, -1);
	error->status = WISP_ERR_CANCELLED;
	return -ECANCELED;
}

static void set_state(const struct wisp_sandbox *sandbox, const char *line)
{
	write_file(wisp_get_sandbox_dir(sandbox), "state", line);
}

int __wrap_wisp_create_sandbox(
        const struct wisp_create_options *given, struct wisp_sandbox **sandbox, struct wisp_error *error)
{
	struct wisp_create_options options = *given;
	if (!given->from)
		return __real_wisp_create_sandbox(given, sandbox, error);
	note("create from=%s name=%s copy_disks=%d template=%d disks=%zu overlay=%s hostname=%s workdir=%s detach=%d "
	     "keep=%d "
	     "cpus=%u image=%s\n",
	        given->from, text(given->name), given->copy_disks, given->is_template, given->disk_count,
	        text(given->overlay), text(given->hostname), text(given->workdir), given->detach, given->keep,
	        given->cpus, text(given->image));
	*sandbox = NULL;
	int r = behave(given->progress, given->cancel, error);
	if (r < 0)
		return r;
	options.from = NULL;
	options.progress = NULL;
	options.disks = NULL;
	options.overlay = NULL;
	options.disk_count = 0;
	options.copy_disks = options.is_template = options.no_wait = false;
	options.kernel = getenv("READY");
	r = __real_wisp_create_sandbox(&options, sandbox, error);
	if (r == 0 && given->is_template)
		set_state(*sandbox, "template\n");
	return r;
}

int __wrap_wisp_snapshot_sandbox(struct wisp_sandbox *sandbox, const char *file,
        const struct wisp_snapshot_options *options, struct wisp_error *error)
{
	note("snapshot %s %s stop=%d compress=%d copy_disks=%d replace=%d\n", wisp_get_sandbox_name(sandbox), file,
	        options->stop, options->compress, options->copy_disks, options->replace);
	int r = behave(options->progress, options->cancel, error);
	if (r == 0)
		write_file(".", file, "a snapshot");
	if (r == 0 && truncate(file, 3 << 19) < 0)
		abort();
	return r;
}

int __wrap_wisp_verify_snapshot(const char *file, const struct wisp_verify_options *options, struct wisp_error *error)
{
	note("verify %s\n", file);
	return behave(options->progress, options->cancel, error);
}

int __wrap_wisp_fork_sandbox(struct wisp_sandbox *sandbox, size_t count, const struct wisp_fork_options *options,
        struct wisp_sandbox **clones, struct wisp_error *error)
{
	note("fork %s count=%zu name=%s copy_disks=%d detach=%d keep=%d\n", wisp_get_sandbox_name(sandbox), count,
	        text(options->name), options->copy_disks, options->detach, options->keep);
	int r = behave(NULL, options->cancel, error);
	for (size_t i = 0; i < count && r == 0; i++) {
		char name[80];
		snprintf(name, sizeof(name), count > 1 ? "%s-%zu" : "%s", text(options->name), i + 1);
		struct wisp_create_options create = {
		        .size = sizeof(create),
		        .state_root = getenv("WISP_STATE"),
		        .libdir = getenv("WISP_LIBDIR"),
		        .kernel = getenv("READY"),
		        .name = options->name ? name : NULL,
		        .detach = options->detach,
		        .keep = options->keep,
		        .cancel = options->cancel,
		};
		r = __real_wisp_create_sandbox(&create, &clones[i], error);
	}
	return r;
}

int __wrap_wisp_pause_sandbox(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	note("pause %s\n", wisp_get_sandbox_name(sandbox));
	int r = behave(NULL, NULL, error);
	if (r == 0)
		set_state(sandbox, "paused\n");
	return r;
}

int __wrap_wisp_resume_sandbox(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	note("resume %s\n", wisp_get_sandbox_name(sandbox));
	int r = behave(NULL, NULL, error);
	if (r == 0)
		set_state(sandbox, "ready\n");
	return r;
}

int __wrap_wisp_stop_sandbox(struct wisp_sandbox *sandbox, int64_t grace_ms, struct wisp_error *error)
{
	note("stop %s\n", wisp_get_sandbox_name(sandbox));
	return __real_wisp_stop_sandbox(sandbox, grace_ms, error);
}

int64_t __wrap_wisp_get_pause_us(const struct wisp_sandbox *sandbox)
{
	return sandbox ? 12345 : 0;
}

/* The fake monitor has no disks. */
bool __wrap_wisp_writes_disks(const struct wisp_sandbox *sandbox)
{
	return sandbox && strcmp(text(getenv("FAKE")), "writes") == 0;
}

/* ---- Cases ---- */

/* The command is a link to this program. */
static bool begin_fake(struct cli *c)
{
	char self[PATH_MAX] = "", path[PATH_MAX];
	if (!begin(c))
		return false;
	snprintf(path, sizeof(path), "%s/wisp", c->dir);
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 || symlink(self, path) < 0)
		abort();
	setenv("WISP", path, 1);
	return true;
}

/* A script that succeeds, prints nothing, and makes these calls. */
static void expect_calls(struct cli *c, const char *script, const char *calls)
{
	char command[2048], out[2048];
	snprintf(command, sizeof(command), "rm -f calls; touch calls; { %s; } >o; echo $?; cat o calls", script);
	snprintf(out, sizeof(out), "0\n%s", calls);
	expect(c, command, 0, out);
	if (c->err[0])
		show(c, script);
}

/* Standard output and error are a terminal. Its other end's bytes are in c->out. */
static void on_terminal(struct cli *c, const char *script)
{
	int keyboard, tty, status;
	ssize_t n;
	char command[1024];
	snprintf(command, sizeof(command), "cd \"$DIR\"; wisp() { \"$WISP\" \"$@\"; }; %s", script);
	REQUIRE(openpty(&keyboard, &tty, NULL, NULL, NULL) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(keyboard);
		login_tty(tty);
		execlp("sh", "sh", "-c", command, (char *)NULL);
		_exit(99);
	}
	close(tty);
	for (c->out_length = 0; (n = read(keyboard, c->out + c->out_length, 4096)) > 0; c->out_length += (size_t)n)
		;
	c->out[c->out_length] = '\0';
	close(keyboard);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	c->code = WEXITSTATUS(status);
}

#define PAUSED "the sandbox 'box' is paused: resume it first: wisp resume box"
#define TEMPLATE "the sandbox 't' is a template, which never runs: use a clone of it: wisp fork t"

static void paused_sandboxes_take_no_commands(void)
{
	static struct cli c;
	if (!begin_fake(&c))
		return;
	expect(&c, "create -q -n box; wisp pause box; wisp pause box; wisp ls | grep -c 'box  *paused'", 0, "1\n");
	expect(&c, "wisp ls --running -q; wisp ls -q; wisp inspect box | grep -c '\"state\":\"paused\"'", 0,
	        "box\n1\n");
	expect_error(&c, "wisp exec box -- true", 123, PAUSED);
	expect_error(&c, "wisp exec -d box -- true", 123, PAUSED);
	expect_error(&c, "wisp attach box 1", 123, PAUSED);
	expect_error(&c, "wisp sessions box", 123, PAUSED);
	expect_error(&c, "wisp kill box 1", 123, PAUSED);
	expect_error(&c, "wisp cp calls box:/tmp", 123, PAUSED);
	expect_error(&c, "wisp cp box:/tmp/x -", 123, PAUSED);
	expect_error(&c, "wisp refresh box", 123, PAUSED);
	expect_error(&c, "wisp rm box", 125, "stop it first");
	expect(&c, "wisp logs box", 0, "");
	expect(&c, "wisp resume box; wisp resume box; wisp exec box -- echo awake </dev/null", 0, "awake\n");
	expect_error(&c, "FAKE=fail wisp pause box", 125, "this is the reason");
	expect_error(&c, "FAKE=fail wisp resume box", 125, "this is the reason");
	expect_error(&c, "wisp pause", 125, "an operand is missing");
	expect_error(&c, "wisp resume box box", 125, "unexpected operand");
	/* The monitor resumes it. */
	expect_calls(&c, "wisp pause box && wisp stop box", "pause box\nstop box\n");
	expect(&c, "wisp ls | grep -c 'stopped (poweroff)'", 0, "1\n");
	expect_error(&c, "wisp pause box", 125, "not running");
	expect_error(&c, "wisp resume box", 125, "not running");
	expect(&c, "wisp rm box; create -q -n box; wisp pause box; wisp rm -f box; wisp ls -q", 0, "");
	expect_error(&c, "wisp pause box", 125, "no sandbox");
	end(&c);
}

static void templates_never_run(void)
{
	static struct cli c;
	if (!begin_fake(&c))
		return;
	expect_calls(&c, "wisp create --from x.snap --template -n t",
	        "t\ncreate from=x.snap name=t copy_disks=0 template=1 disks=0 overlay=- hostname=- workdir=- detach=1 "
	        "keep=1 "
	        "cpus=0 image=-\n");
	expect(&c, "wisp ls | grep -c 't  *template'; wisp inspect t | grep -c '\"state\":\"template\"'", 0, "1\n1\n");
	expect_error(&c, "wisp exec t -- true", 123, TEMPLATE);
	expect_error(&c, "wisp attach t 1", 123, TEMPLATE);
	expect_error(&c, "wisp sessions t", 123, TEMPLATE);
	expect_error(&c, "wisp kill t 1", 123, TEMPLATE);
	expect_error(&c, "wisp cp t:/x .", 123, TEMPLATE);
	expect_error(&c, "wisp refresh t", 123, TEMPLATE);
	expect_error(&c, "wisp resume t", 123, TEMPLATE);
	expect(&c, "wisp fork t -n clone; wisp exec clone -- echo runs </dev/null; wisp rm -f clone", 0,
	        "clone\nruns\n");
	/* There is nothing to shut down. */
	expect_calls(&c, "wisp stop t", "");
	expect(&c, "wisp rm -f t", 0, "");
	expect_error(&c, "create --template", 125, "create: --template requires --from");
	end(&c);
}

static void sandboxes_are_saved(void)
{
	static struct cli c;
	if (!begin_fake(&c))
		return;
	sh(&c, "create -q -n box");
	expect_calls(&c, "wisp snapshot box a.snap", "snapshot box a.snap stop=0 compress=0 copy_disks=0 replace=0\n");
	expect_calls(&c, "wisp snapshot --stop --compress --copy-disks --replace box a.snap",
	        "snapshot box a.snap stop=1 compress=1 copy_disks=1 replace=1\n");
	expect_calls(&c, "wisp pause box && wisp snapshot box a.snap; wisp resume box",
	        "pause box\nsnapshot box a.snap stop=0 compress=0 copy_disks=0 replace=0\nresume box\n");
	on_terminal(&c, "wisp snapshot box a.snap");
	CHECK_EQ(c.code, 0);
	CHECK_STR(c.out, "a.snap: 1.5 MiB; the sandbox was paused for 12.3 ms\r\n");
	on_terminal(&c, "wisp snapshot --stop box a.snap");
	CHECK_STR(c.out, "a.snap: 1.5 MiB\r\n");
	on_terminal(&c, "FAKE=slow wisp snapshot box a.snap");
	CHECK(strstr(c.out, "\r[===============               ]  50% 2.0 MiB, ") &&
	        strstr(c.out, "\r\033[Ka.snap: 1.5 MiB"));
	on_terminal(&c, "FAKE=slow wisp snapshot -q box a.snap");
	CHECK_STR(c.out, "");
	expect_error(&c, "FAKE=fail wisp snapshot box a.snap", 125, "this is the reason");
	expect(&c,
	        ": >calls; FAKE=wait \"$WISP\" snapshot box a.snap & pid=$!; until grep -q waits calls; do sleep 0.02; "
	        "done; kill -TERM $pid; wait $pid; echo $?",
	        0, "143\n");
	CHECK_STR(c.err, "");
	expect_error(&c, "wisp snapshot", 125, "name a sandbox and a file, or a file to check with --verify");
	expect_error(&c, "wisp snapshot box", 125, "name a sandbox and a file");
	expect_error(&c, "wisp snapshot box a b", 125, "unexpected operand 'b'");
	expect_error(&c, "wisp snapshot box ''", 125, "'' is not a file");
	expect_error(&c, "wisp snapshot box -", 125, "'-' is not a file");
	expect_error(&c, "wisp snapshot box a -- true", 125, "snapshot takes no command");
	expect_error(&c, "wisp snapshot nobox a", 125, "no sandbox 'nobox'");
	sh(&c, "wisp rm -f box");
	end(&c);
}

static void files_are_verified(void)
{
	static struct cli c;
	if (!begin_fake(&c))
		return;
	expect_calls(&c, "wisp snapshot --verify a.snap", "verify a.snap\n");
	on_terminal(&c, "FAKE=slow wisp snapshot --verify a.snap");
	CHECK(strstr(c.out, "50% 2.0 MiB, ") && strstr(c.out, "\r\033[Ka.snap: all checksums are right\r\n"));
	on_terminal(&c, "wisp snapshot -q --verify a.snap");
	CHECK_STR(c.out, "");
	expect_error(&c, "FAKE=fail wisp snapshot --verify a.snap", 125, "this is the reason");
	expect(&c,
	        ": >calls; FAKE=wait \"$WISP\" snapshot --verify a & pid=$!; until grep -q waits calls; do sleep 0.02; "
	        "done; kill -INT $pid; kill -TERM $pid; wait $pid; echo $?",
	        0, "143\n");
	static const char *const more[] = {"box", "--stop", "--compress", "--copy-disks", "--replace"};
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		char script[80];
		snprintf(script, sizeof(script), "wisp snapshot --verify a.snap %s", more[i]);
		expect_error(&c, script, 125, "snapshot: --verify saves no sandbox");
	}
	expect_error(&c, "wisp snapshot --verify", 125, "--verify requires a value: PATH");
	end(&c);
}

static void sandboxes_start_from_files(void)
{
	static struct cli c;
	if (!begin_fake(&c))
		return;
	expect_calls(&c, "wisp run --from a.snap -n box -- true </dev/null",
	        "create from=a.snap name=box copy_disks=0 template=0 disks=0 overlay=- hostname=- workdir=- detach=0 "
	        "keep=0 "
	        "cpus=0 "
	        "image=-\n");
	expect(&c, "echo in | wisp run --from a.snap -- sh -c 'cat; exit 7'", 7, "in\n");
	expect_calls(&c,
	        "wisp run --from a.snap --copy-disks --disk x --overlay o --hostname h --stop-grace 1s --boot-timeout "
	        "1s --shell "
	        "/bin/sh -n box -- true </dev/null",
	        "create from=a.snap name=box copy_disks=1 template=0 disks=1 overlay=o hostname=h workdir=- detach=0 "
	        "keep=0 "
	        "cpus=0 image=-\n");
	expect_calls(&c, "wisp create --from a.snap -n box -w /tmp --rm && wisp stop box",
	        "box\ncreate from=a.snap name=box copy_disks=0 template=0 disks=0 overlay=- hostname=- workdir=/tmp "
	        "detach=1 "
	        "keep=0 cpus=0 image=-\nstop box\n");
	/* What the guest writes to outlives the sandbox, so it shuts down in order. */
	expect(&c,
	        "rm calls; for f in '' writes; do FAKE=$f wisp run --from a.snap -n box -- true </dev/null; grep -c "
	        "stop "
	        "calls; rm calls; done",
	        0, "0\n1\n");
	on_terminal(&c, "FAKE=slow wisp create --from a.snap -n box; wisp rm -f box");
	CHECK(strstr(c.out, "50% 2.0 MiB, ") && strstr(c.out, "\r\033[Kbox\r\n"));
	expect_error(&c, "FAKE=fail wisp run --from a.snap -- true", 125, "this is the reason");
	expect_error(&c, "wisp run --from a.snap", 125, "run: a command is missing");
	expect_error(&c, "wisp run --from", 125, "--from requires a value: PATH");
	static const char *const fixed[] = {"--cpus 1", "--memory 64", "--rw", "--kernel x", "--kernel-args x",
	        "--initramfs x", "--console", "--reclaim"};
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		char script[80], words[120];
		snprintf(words, sizeof(words), "%.*s has no effect on a snapshot; omit it, or boot without --from",
		        (int)strcspn(fixed[i], " "), fixed[i]);
		snprintf(script, sizeof(script), "wisp run --from a.snap %s -- true", fixed[i]);
		expect_error(&c, script, 125, words);
		snprintf(script, sizeof(script), "wisp create --from a.snap %s", fixed[i]);
		expect_error(&c, script, 125, words);
	}
	expect_error(&c, "wisp run --from a.snap true", 125, "write it after --");
	expect_error(&c, "wisp run --from a.snap x -- true", 125,
	        "run: unexpected operand 'x'; with --from, the image is the snapshot's");
	expect_error(&c, "wisp create --from a.snap x", 125, "create: unexpected operand 'x'; with --from");
	expect_error(&c, "run --copy-disks -- true", 125, "run: --copy-disks requires --from");
	expect_error(&c, "create --copy-disks", 125, "create: --copy-disks requires --from");
	expect_error(&c, "wisp run --from a.snap -d -- true", 125, "--detach");
	end(&c);
}

static void sandboxes_are_forked(void)
{
	static struct cli c;
	if (!begin_fake(&c))
		return;
	sh(&c, "create -q -n box");
	expect_calls(&c, "wisp fork box -n new", "new\nfork box count=1 name=new copy_disks=0 detach=1 keep=0\n");
	expect_calls(&c, "wisp fork box -n new --count 2 --copy-disks --keep",
	        "new-1\nnew-2\nfork box count=2 name=new copy_disks=1 detach=1 keep=1\n");
	expect(&c, "wisp exec new-2 -- echo runs </dev/null", 0, "runs\n");
	/* What is not kept is gone when it stops. */
	expect(&c, "wisp stop new new-1 new-2; wisp ls -q; wisp rm new-1 new-2", 0, "box\nnew-1\nnew-2\n");
	expect(&c, "wisp fork box --count 3 >names; wc -l <names; wisp rm -f $(cat names); wisp ls -q", 0, "3\nbox\n");
	expect(&c, "wisp pause box; wisp fork box -n new; wisp rm -f new; wisp resume box", 0, "new\n");
	/* Names that cannot be printed. */
	for (int keep = 0; keep < 2; keep++) {
		expect_error(&c,
		        keep ? "wisp fork --keep box --count 2 >/dev/full" : "wisp fork box --count 2 >/dev/full", 125,
		        "cannot write to standard output");
		expect(&c, "wisp ls -q", 0, "box\n");
	}
	expect_error(&c, "FAKE=fail wisp fork box --count 5", 125, "this is the reason");
	expect(&c,
	        ": >calls; FAKE=wait \"$WISP\" fork box & pid=$!; until grep -q waits calls; do sleep 0.02; done; kill "
	        "-TERM $pid; wait $pid; echo $?; wisp ls -q",
	        0, "143\nbox\n");
	expect_error(&c, "wisp fork box --count 0", 125, "--count '0': give 1 to 1000");
	expect_error(&c, "wisp fork box --count 10000", 125, "--count '10000': it is more than 1000");
	expect_error(&c, "wisp fork box --count many", 125, "--count 'many': it is not a whole number");
	expect_error(&c, "wisp fork", 125, "an operand is missing");
	expect_error(&c, "wisp fork box new", 125, "unexpected operand 'new'");
	expect_error(&c, "wisp fork box -- true", 125, "fork takes no command");
	expect_error(&c, "wisp fork nobox", 125, "no sandbox 'nobox'");
	expect(&c, "wisp stop box", 0, "");
	expect_error(&c, "wisp fork box", 125, "not running");
	sh(&c, "wisp rm -f box");
	end(&c);
}

/* A soft limit on descriptors that suffices for a shell is too low for the handles of many clones. */
static void clones_need_descriptors(void)
{
	static struct cli c;
	if (!begin_fake(&c))
		return;
	sh(&c, "create -q -n box");
	expect(&c, "ulimit -Sn 20; wisp fork box -n new --count 8 | tail -n 1", 0, "new-8\n");
	sh(&c, "wisp rm -f $(wisp ls -q)");
	end(&c);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	const char *slash = strrchr(argv[0], '/');
	if (slash && strcmp(slash, "/wisp") == 0)
		return command_main(argc, argv);
	static const struct test_case cases[] = {
	        {"paused_sandboxes_take_no_commands", paused_sandboxes_take_no_commands},
	        {"templates_never_run", templates_never_run},
	        {"sandboxes_are_saved", sandboxes_are_saved},
	        {"files_are_verified", files_are_verified},
	        {"sandboxes_start_from_files", sandboxes_start_from_files},
	        {"sandboxes_are_forked", sandboxes_are_forked},
	        {"clones_need_descriptors", clones_need_descriptors},
	};
	return test_main("cli_snapshot", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
