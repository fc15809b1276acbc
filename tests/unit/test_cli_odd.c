/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wisp command in environments that its author does not have: standard streams, signals, limits, users and
 * directories as cron, nohup, ssh and careless parents leave them. In each, it exits with the right code, writes one
 * line, leaves nothing behind, and does not hang.
 */
#include <sys/syscall.h>

#include "tests/unit/test_cli.h"

/*
 * `odd` runs a command in the environment: a shell function of this text. The codes are those of `run` of a command
 * that exits with 7, of `create`, and of `ls`.
 */
struct environment {
	const char *name, *odd;
	int run, create, ls;
	const char *needs; /* a command that fails where the environment cannot be made; or NULL */
};

#define USER "setpriv --reuid 65534 --regid 65534 --clear-groups"
#define USER_NEEDS \
	USER " test -x \"$WISP\" && chmod 755 \"$DIR\" \"$WISP_LIBDIR\" && " USER " test -x \"$WISP_LIBDIR/wisp-vmm\""
#define MOUNTED(options, script)                                                                     \
	"unshare -m sh -c 'mkdir -p $DIR/fs && mount -t tmpfs -o " options " odd $DIR/fs && " script \
	"WISP_STATE=$DIR/fs/state exec \"$@\"' sh \"$@\""
#define MOUNTED_NEEDS "unshare -m true"

static const struct environment environments[] = {
        {"plain", "\"$@\"", 7, 0, 0, NULL},
        {"no stdin", "\"$@\" <&-", 7, 0, 0, NULL},
        {"no stdout", "\"$@\" >&-", 7, 0, 0, NULL},
        {"no stderr", "\"$@\" 2>&-", 7, 0, 0, NULL},
        {"no stdin and stdout", "\"$@\" <&- >&-", 7, 0, 0, NULL},
        {"no standard streams", "\"$@\" <&- >&- 2>&-", 7, 0, 0, NULL},
        {"non-blocking stdin", "true | \"$ODD\" nonblock 0 \"$@\"", 7, 0, 0, NULL},
        {"non-blocking stdout", "{ \"$ODD\" nonblock 1 \"$@\"; echo $? >code; } | cat; return $(cat code)", 7, 0, 0,
                NULL},
        {"non-blocking stderr", "{ \"$ODD\" nonblock 2 \"$@\"; echo $? >code; } 2>&1 | cat >&2; return $(cat code)", 7,
                0, 0, NULL},
        {"full stdout", "\"$@\" >/dev/full", 125, 125, 125, NULL},
        {"full stderr", "\"$@\" 2>/dev/full", 125, 0, 0, NULL},
        {"endless stdin", "\"$@\" </dev/zero", 7, 0, 0, NULL},
        {"stdin is a directory", "\"$@\" </", 7, 0, 0, NULL},
        {"stdout is a directory", "\"$@\" 1</", 125, 125, 125, NULL},
        {"stderr is a directory", "\"$@\" 2</", 125, 0, 0, NULL},
        {"HUP ignored", "env --ignore-signal=HUP \"$@\"", 7, 0, 0, NULL},
        {"INT ignored", "env --ignore-signal=INT \"$@\"", 7, 0, 0, NULL},
        {"PIPE ignored", "env --ignore-signal=PIPE \"$@\"", 7, 0, 0, NULL},
        {"CHLD ignored", "env --ignore-signal=CHLD \"$@\"", 7, 0, 0, NULL},
        {"all ignored", "env --ignore-signal \"$@\"", 7, 0, 0, NULL},
        {"HUP blocked", "env --block-signal=HUP \"$@\"", 7, 0, 0, NULL},
        {"INT blocked", "env --block-signal=INT \"$@\"", 7, 0, 0, NULL},
        {"PIPE blocked", "env --block-signal=PIPE \"$@\"", 7, 0, 0, NULL},
        {"CHLD blocked", "env --block-signal=CHLD \"$@\"", 7, 0, 0, NULL},
        {"all blocked", "env --block-signal \"$@\"", 7, 0, 0, NULL},
        {"no HOME", "env -u HOME \"$@\"", 7, 0, 0, NULL},
        {"no XDG", "env -u XDG_CACHE_HOME -u XDG_STATE_HOME -u XDG_RUNTIME_DIR \"$@\"", 7, 0, 0, NULL},
        {"empty environment", "env -i WISP_STATE=\"$WISP_STATE\" WISP_LIBDIR=\"$WISP_LIBDIR\" \"$@\"", 7, 0, 0, NULL},
        {"umask 777", "(umask 777; \"$@\")", 7, 0, 0, "[ $(id -u) = 0 ]"},
        {"umask 0", "(umask 0; \"$@\")", 7, 0, 0, NULL},
        {"few descriptors", "(ulimit -n 32; \"$@\")", 7, 0, 0, NULL},
        {"cron",
                "echo | env -i HOME=/ LOGNAME=root PATH=/usr/bin:/bin SHELL=/bin/sh WISP_STATE=\"$WISP_STATE\" "
                "WISP_LIBDIR=\"$WISP_LIBDIR\" setsid -w \"$@\"",
                7, 0, 0, NULL},
        {"nohup", "nohup \"$@\"", 7, 0, 0, NULL},
        {"setsid", "setsid -w \"$@\" </dev/null", 7, 0, 0, NULL},
        {"ssh without a terminal",
                "{ : | setsid -w \"$@\" 2>err.pipe; echo $? >code; } | cat; cat err.pipe >&2; return $(cat "
                "code)",
                7, 0, 0, NULL},
        {"in the background", "\"$@\" & wait $!", 7, 0, 0, NULL},
        {"deleted working directory", "(mkdir gone && cd gone && rmdir ../gone && \"$@\")", 7, 0, 0, NULL},
        {"read-only file system", MOUNTED("ro", ""), 125, 125, 0, MOUNTED_NEEDS},
        {"full file system", MOUNTED("size=16k", "head -c 20000 /dev/zero 2>/dev/null >$DIR/fs/x; "), 125, 125, 0,
                MOUNTED_NEEDS},
        {"ordinary user",
                "mkdir -p home && chown 65534:65534 home && env -u WISP_STATE HOME=\"$DIR/home\" " USER " \"$@\"", 7, 0,
                0, USER_NEEDS},
        {"ordinary user without HOME", "env -u WISP_STATE -u HOME " USER " \"$@\"", 125, 125, 0,
                USER_NEEDS " && ! [ -e /run/wisp ]"},
        {"ordinary user, umask 777",
                "mkdir -p home && chown 65534:65534 home && (umask 777; env -u WISP_STATE "
                "HOME=\"$DIR/home\" " USER " \"$@\")",
                125, 125, 0, USER_NEEDS},
        {"read-only state directory", "mkdir -p ro && WISP_STATE=$DIR/ro/state " USER " \"$@\"", 125, 125, 0,
                USER_NEEDS},
};

static int count_lines(const char *text, const char *first)
{
	int count = 0;
	for (const char *at = text; (at = strstr(at, first)); at++)
		count += at == text || at[-1] == '\n';
	return count;
}

/* `what` in the environment, with 10 seconds at most. */
static void try(struct cli *c, const struct environment *environment, const char *what, int code)
{
	char script[4096];
	snprintf(script, sizeof(script),
	        "cat >odd.sh <<'END'\nodd() { %s\n}\nodd %s\nEND\n"
	        "timeout -k 1 10 bash odd.sh",
	        environment->odd, what);
	sh(c, script);
	if (c->code == code && count_lines(c->err, "wisp: ") <= 1)
		return;
	printf("# %s:\n", environment->name);
	show(c, what);
}

static void every_environment(void)
{
	static struct cli c;
	int tried = 0;
	if (!begin(&c))
		return;
	for (size_t i = 0; i < sizeof(environments) / sizeof(environments[0]); i++) {
		const struct environment *at = &environments[i];
		if (at->needs && (sh(&c, at->needs), c.code != 0)) {
			printf("# cannot be made here: %s\n", at->name);
			continue;
		}
		try(&c, at, "\"$WISP\" run --kernel \"$READY\" -- sh -c 'echo out; echo err >&2; exit 7'", at->run);
		try(&c, at, "\"$WISP\" create -n box --kernel \"$READY\"", at->create);
		if (at->create == 0) {
			try(&c, at, "\"$WISP\" exec -n box -- sh -c 'exit 3'", 3);
			try(&c, at, "\"$WISP\" rm -f box", 0);
		}
		try(&c, at, "\"$WISP\" ls", at->ls);
		/* What `run` leaves is gone once the monitor has noticed. */
		for (int wait = 0; wait < 200 && count_entries(c.state) > 0; wait++)
			sleep_ms(10);
		if (count_entries(c.state) > 0) {
			printf("# %s: something is left\n", at->name);
			test_failed = true;
			sh(&c, "for box in $(wisp ls -q); do wisp rm -f $box; done");
		}
		tried++;
	}
	printf("# %d environments\n", tried);
	end(&c);
}

static void streams_that_do_not_block(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c,
	        "(sleep 0.3; echo in; sleep 0.2; echo more) | \"$ODD\" nonblock 0 \"$WISP\" run --kernel $READY -- wc "
	        "-c",
	        0, "8\n");
	for (int fd = 1; fd <= 2; fd++) {
		char script[512];
		snprintf(script, sizeof(script),
		        "{ \"$ODD\" nonblock %d \"$WISP\" run --kernel $READY -- sh -c 'head -c 900000 /dev/zero >&%d; "
		        "exit 7' "
		        "</dev/null; echo $? >code; } %s | (sleep 0.3; wc -c); cat code",
		        fd, fd, fd == 2 ? "2>&1 >/dev/null" : "");
		expect(&c, script, 0, "900000\n7\n");
	}
	expect(&c,
	        "{ \"$ODD\" nonblock 1 \"$WISP\" completion bash; echo $? >code; } | (sleep 0.2; wc -c) >n; wisp "
	        "completion "
	        "bash | wc -c | cmp - n; cat code",
	        0, "0\n");
	expect_error(&c, "run -- cat 0>w", 0, "cannot read standard input: Bad file descriptor");
	end(&c);
}

/* An ordinary user for whom nothing says where sandboxes could be. */
static void a_place_is_asked_for(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, USER_NEEDS " && ! [ -e /run/wisp ]");
	if (c.code == 0) {
		expect_error(&c,
		        "for v in create 'run -- true'; do env -u WISP_STATE -u XDG_STATE_HOME -u HOME " USER
		        " \"$WISP\" $v; code=$?; done 2>both; sort -u both >&2; exit $code",
		        125,
		        "sandboxes cannot be kept in /run/wisp: /run is not writable: Permission denied: set HOME, "
		        "XDG_STATE_HOME or WISP_STATE");
		expect_error(&c, "env -u WISP_STATE -u XDG_STATE_HOME HOME=/no/home " USER " \"$WISP\" create", 125,
		        "kept in /no/home/.local/state/wisp: / is not writable");
		/* Another reason keeps its own words. */
		expect_error(&c, "chmod 777 .; WISP_STATE=$DIR/s " USER " \"$WISP\" create --kernel /no/kernel", 125,
		        "/no/kernel");
	} else {
		test_skipped = "no ordinary user can be made";
	}
	end(&c);
}

/* An ordinary user's sandboxes are not where they vanish at logout. */
static void state_outlives_the_login(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, USER_NEEDS);
	if (c.code != 0) {
		test_skipped = "no other user may run wisp here";
		end(&c);
		return;
	}
	expect(&c,
	        "mkdir home run xdg; chown 65534:65534 home run xdg; unset WISP_STATE; export HOME=$DIR/home "
	        "XDG_RUNTIME_DIR=$DIR/run; for x in '' $DIR/xdg relative; do XDG_STATE_HOME=$x " USER " sh -c "
	        "'\"$WISP\" create -q -n box --kernel \"$READY\"; ls -d $DIR/*/wisp/box "
	        "$DIR/home/.local/state/wisp/box; "
	        "\"$WISP\" rm -f box' 2>/dev/null | sed \"s,$DIR/,,\"; done",
	        0, "home/.local/state/wisp/box\nxdg/wisp/box\nhome/.local/state/wisp/box\n");
	end(&c);
}

static void doctor_asks_the_monitor_for_its_jail(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "mkdir jail; printf '#!/bin/sh\necho 0x3f all of it\n' >jail/wisp-vmm; chmod 755 jail/wisp-vmm");
	sh(&c, "WISP_LIBDIR=jail wisp doctor");
	CHECK(strstr(c.out, "ok       jail       every layer of the monitor's jail holds: all of it\n"));
	sh(&c, "printf '#!/bin/sh\necho 0x3d without namespaces\n' >jail/wisp-vmm; WISP_LIBDIR=jail wisp doctor");
	CHECK(strstr(c.out,
	        "warning  jail       not every layer of the monitor's jail holds: without namespaces: allow "
	        "user namespaces"));
	sh(&c, "printf '#!/bin/sh\necho 0x3f; exit 1\n' >jail/wisp-vmm; WISP_LIBDIR=jail wisp doctor");
	CHECK(strstr(
	        c.out, "warning  jail       wisp-vmm --check-jail does not tell what holds: install wisp again\n"));
	end(&c);
}

/* A host that has no io_uring to use runs sandboxes all the same. */
static void doctor_does_without_io_uring(void)
{
	static const struct {
		unsigned errnum;
		const char *found;
	} cases[] = {{EPERM, "warning  io_uring   you may not use io_uring: the monitor uses epoll, which is slower: "},
	        {ENOSYS, "warning  io_uring   the kernel has no io_uring, or a filter hides it: the monitor uses "
	                 "epoll, "},
	        {EINVAL, "warning  io_uring   the kernel's io_uring is too old: the monitor uses epoll, which is "}};
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "wisp doctor");
	int code = c.code;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int status = -1;
		pid_t pid = fork();
		if (pid == 0) {
			if (!make_call_fail(SYS_io_uring_setup, cases[i].errnum))
				_exit(77);
			sh(&c, "wisp doctor");
			_exit(c.code != code || !strstr(c.out, cases[i].found));
		}
		waitpid(pid, &status, 0);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			test_skipped = "seccomp is not available";
		else
			CHECK_EQ(status, 0);
	}
	end(&c);
}

static void the_jail_is_chosen(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect_error(&c, "create -n box --jail sometimes", 125, "it is default, require or off");
	expect(&c, "create -n box --jail require", 0, "box\n");
	CHECK_STR(c.err, "");
	expect_error(&c, "create -n box --engine aio", 125, "it is auto, io_uring or epoll");
	sh(&c, "create -q -n other --no-jail --engine epoll");
	CHECK(c.code == 0 && strstr(c.err, "warning: the monitor runs without its jail") &&
	        strchr(c.err, '\n') == c.err + strlen(c.err) - 1);
	sh(&c, "wisp rm --force box other");
	end(&c);
}

static void expect_shown(const struct cli *c, const char *const *shown, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!strstr(c->out, shown[i]))
			show(c, shown[i]);
	}
}

static void folders_are_shown(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "ln -s \"$(dirname \"$WISP\")/../lib/wisp/wisp-fs\" \"$WISP_LIBDIR/wisp-fs\" && mkdir shared &&"
	       "create -q -n box -v shared:/work:ro -v \"$PWD/shared:/b \\\"c\" -v shared:/a,uid=squash,cache=always "
	       "-v shared:/d:ro,cache=always,uid=squash -v shared:/e,cache=never/,cache=auto && wisp inspect box");
	static const char *const shown[] = {
	        "\"guest\":\"/work\",\"read_only\":true,\"uid\":\"squash\",\"cache\":\"auto\"},{\"path\":\"/tmp/",
	        "\"guest\":\"/b \\\"c\",\"read_only\":false,\"uid\":\"squash\",\"cache\":\"auto\"}",
	        "\"guest\":\"/a\",\"read_only\":false,\"uid\":\"squash\",\"cache\":\"always\"}",
	        "\"guest\":\"/d\",\"read_only\":true,\"uid\":\"squash\",\"cache\":\"always\"}",
	        "\"guest\":\"/e,cache=never/\",\"read_only\":false,\"uid\":\"squash\",\"cache\":\"auto\"}]",
	};
	expect_shown(&c, shown, sizeof(shown) / sizeof(shown[0]));
	expect_error(&c, "create -v .:/e,cache=never", 125, "its options are uid=map");
	expect_error(&c, "create -v .:/e,uid=0,cache=auto", 125, "its options are uid=map");
	expect_error(&c, "create -v .:/e,cache=always:ro", 125, "after :ro");
	expect(&c, "wisp rm -f box; create -q -n none && wisp inspect none | grep -c folders; wisp rm -f none", 0,
	        "0\n");
	end(&c);
}

static void rules_come_from_a_file(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "ln -s \"$(dirname \"$WISP\")/../lib/wisp/wisp-proxy\" \"$WISP_LIBDIR/wisp-proxy\" &&"
	       "printf '# comment\\n\\n\\t example.org:443 \\t# more\\r\\n*.example.org' >rules && "
	       "create -q -n box --rm --allow 10.1.2.3 --allow-file rules --allow-file /dev/null && wisp inspect box");
	if (!strstr(c.out, "\"allow\":[\"10.1.2.3\",\"example.org:443\",\"*.example.org\"]"))
		show(&c, "the rules of a file");
	expect(&c, "wisp stop box", 0, "");
	expect_error(&c, "run --allow-file nowhere -- true", 125,
	        "wisp: --allow-file 'nowhere': cannot open it: No such file or directory\n");
	expect_error(&c, "run --allow-file . -- true", 125, "wisp: --allow-file '.': cannot read it: Is a directory\n");
	expect_error(&c, "printf 'example.org\\nexample.org:0\\n' >rules; run --allow-file rules -- true", 125,
	        "wisp: the guest cannot be allowed to reach 'example.org:0': it ");
	expect_error(&c, "printf 'example.org example.com' >rules; run --allow-file rules -- true", 125,
	        "wisp: the guest cannot be allowed to reach 'example.org example.com': it ");
	expect_error(&c, "printf 'example.org\\0.example.com\\n' >rules; run --allow-file rules -- true", 125,
	        "wisp: --allow-file 'rules': it has a NUL byte: write a rule a line\n");
	sh(&c, USER_NEEDS);
	if (c.code == 0)
		expect_error(&c, "chmod 0 rules; " USER " \"$WISP\" run --allow-file rules -- true", 125,
		        "wisp: --allow-file 'rules': cannot open it: Permission denied\n");
	else
		printf("# no ordinary user can be made, and root may read any file\n");
	end(&c);
}

/* Whose files they are is an option like the others, in any order with them; but for root alone. */
static void folders_have_owners(void)
{
	static struct cli c;
	if (geteuid() != 0)
		SKIP("not root");
	if (!begin(&c))
		return;
	sh(&c, "ln -s \"$(dirname \"$WISP\")/../lib/wisp/wisp-fs\" \"$WISP_LIBDIR/wisp-fs\" && mkdir shared &&"
	       "create -q -n box -v shared:/a,uid=map -v shared:/b:ro,uid=map,cache=always "
	       "-v shared:/c:ro,cache=always,uid=map -v shared:/d,cache=auto,uid=map && wisp inspect box");
	static const char *const shown[] = {
	        "\"guest\":\"/a\",\"read_only\":false,\"uid\":\"map\",\"cache\":\"auto\"}",
	        "\"guest\":\"/b\",\"read_only\":true,\"uid\":\"map\",\"cache\":\"always\"}",
	        "\"guest\":\"/c\",\"read_only\":true,\"uid\":\"map\",\"cache\":\"always\"}",
	        "\"guest\":\"/d\",\"read_only\":false,\"uid\":\"map\",\"cache\":\"auto\"}]",
	};
	expect_shown(&c, shown, sizeof(shown) / sizeof(shown[0]));
	expect_error(&c, "create -v .:/e,uid=map,uid=map", 125, "one of each kind");
	expect_error(&c, "create -v .:/e,uid=squash,cache=auto,uid=map", 125, "one of each kind");
	expect_error(&c, "create -v .:/e,uid=map:ro", 125, "after :ro");
	sh(&c, "wisp rm --force box");
	end(&c);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	if (argc > 3 && strcmp(argv[1], "nonblock") == 0) {
		int fd = atoi(argv[2]);
		if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
			return 99;
		execv(argv[3], argv + 3);
		return 99;
	}
	char self[PATH_MAX] = "";
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		abort();
	setenv("ODD", self, 1);
	static const struct test_case cases[] = {
	        {"every_environment", every_environment},
	        {"a_place_is_asked_for", a_place_is_asked_for},
	        {"state_outlives_the_login", state_outlives_the_login},
	        {"streams_that_do_not_block", streams_that_do_not_block},
	        {"doctor_asks_the_monitor_for_its_jail", doctor_asks_the_monitor_for_its_jail},
	        {"doctor_does_without_io_uring", doctor_does_without_io_uring},
	        {"the_jail_is_chosen", the_jail_is_chosen},
	        {"folders_are_shown", folders_are_shown},
	        {"rules_come_from_a_file", rules_come_from_a_file},
	        {"folders_have_owners", folders_have_owners},
	};
	return test_main("cli_odd", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
