/* SPDX-License-Identifier: Apache-2.0 */
/* The wisp command as a user has it, with a monitor that has no machine (test_lib.h): programs run on this host. */
#include <pty.h>
#include <termios.h>
#include <utmp.h>

#include "tests/unit/test_cli.h"

static void run_is_the_command(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "run -- sh -c 'echo out; echo err >&2; exit 7' </dev/null", 7, "out\n");
	CHECK_STR(c.err, "err\n");
	expect(&c, "run -- sh -c 'kill -9 $$' </dev/null", 137, "");
	expect_error(&c, "run -- /no/such </dev/null", 127, "not_found");
	expect_error(&c, "run -- /etc/passwd </dev/null", 126, "permission_denied");
	expect_error(&c, "run -w /no/dir -- true </dev/null", 125, "bad_cwd");
	expect_error(&c, "run --timeout 0.2s -- sleep 100 </dev/null", 124, "timeout");
	expect_error(&c, "run --kernel $WISP_LIBDIR/fake-error -- true", 125, "the kernel is fake");
	end(&c);
}

static void streams_are_byte_faithful(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "head -c 1000000 /dev/urandom >in; run -- cat <in >copy && cmp in copy", 0, "");
	CHECK_STR(c.err, "");
	expect(&c, "cat in | run -- cat | cmp - in; run -- cat </dev/null; echo $?", 0, "0\n");
	expect(&c, "printf 'a\\0b' | run -- od -An -c | tr -d ' '", 0, "a\\0b\n");
	/* A reader that leaves takes the command with it. */
	expect(&c, "{ run -- yes </dev/null; echo $? >code; } | head -c 2; cat code", 0, "y\n141\n");
	end(&c);
}

static void options_of_an_execution(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "X=here run -e A=b -e X -e NONE -- sh -c 'echo $A $X ${NONE-unset}' </dev/null", 0,
	        "b here unset\n");
	/* Defaults of wisp's own settings are not in its environment. */
	expect(&c,
	        "unset WISP_CACHE; run -e WISP_CACHE -e WISP_LIBDIR -- sh -c 'echo ${WISP_CACHE-unset}; [ $WISP_LIBDIR "
	        "]' "
	        "</dev/null",
	        0, "unset\n");
	expect(&c, "run -w /tmp -- pwd </dev/null", 0, "/tmp\n");
	expect(&c, "run --rlimit nofile=100:200 --rlimit core=unlimited -- sh -c 'ulimit -Sn; ulimit -Hn' </dev/null",
	        0, "100\n200\n");
	if (geteuid() == 0) /* the agent of these tests runs as this user */
		expect(&c, "run --security restricted -- grep NoNewPrivs /proc/self/status </dev/null", 0,
		        "NoNewPrivs:\t1\n");
	expect(&c, "run --security default -- grep NoNewPrivs /proc/self/status </dev/null", 0, "NoNewPrivs:\t0\n");
	expect_error(&c, "run --security tight -- true", 125, "write default or restricted");
	expect_error(&c, "run --rlimit speed=1 -- true", 125, "not a resource limit");
	expect_error(&c, "run --rlimit cpu=2:1 -- true", 125, "above the hard limit");
	expect_error(&c, "run --rlimit cpu -- true", 125, "NAME=SOFT");
	expect_error(&c, "run -u nosuchuser -- true </dev/null", 125, "user_setup_failed");
	end(&c);
}

static void a_sandbox_lives(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "create -n box -e A=b -w /tmp", 0, "box\n");
	expect(&c, "wisp exec box -e C=d -- sh -c 'echo $A $C; pwd' </dev/null", 0, "b d\n/tmp\n");
	expect(&c, "echo in | wisp exec box -- cat", 0, "in\n");
	expect(&c, "wisp ls -q", 0, "box\n");
	sh(&c, "wisp ls");
	CHECK(strstr(c.out, "box") && strstr(c.out, "running"));
	sh(&c, "wisp ls --json");
	CHECK(strstr(c.out, "\"name\":\"box\",\"state\":\"running\""));
	sh(&c, "wisp inspect box");
	CHECK(strstr(c.out, "\"env\":[\"A=b\"]"));
	CHECK(strstr(c.out, "\"jail\":{\"privileges\":true,\"namespaces\":false,\"limits\":true,\"landlock\":false,"
	                    "\"seccomp\":true,\"io_uring\":false},\"engine\":\"epoll\""));
	expect(&c, "wisp exec -d box -- sh -c 'echo from the background; sleep 0.1; exit 4'", 0, "3\n");
	sh(&c, "wisp sessions box");
	CHECK(strstr(c.out, "from the background"));
	expect(&c, "wisp attach box 3 </dev/null", 4, "from the background\n");
	sh(&c, "wisp ps box --json");
	CHECK(strstr(c.out, "\"id\":3") && strstr(c.out, "\"code\":4"));
	expect_error(&c, "wisp attach box 99", 125, "no such session");
	expect_error(&c, "wisp attach box first", 125, "not a whole number");
	expect_error(&c, "create -n box", 125, "is running");
	expect_error(&c, "wisp rm box", 125, "stop it first");
	expect(&c, "wisp stop box", 0, "");
	expect(&c, "wisp stop box", 0, "");
	sh(&c, "wisp ls");
	CHECK(strstr(c.out, "stopped (poweroff)"));
	expect_error(&c, "wisp exec box -- true", 125, "not running");
	expect(&c, "wisp rm box", 0, "");
	expect_error(&c, "wisp rm box", 125, "no sandbox");
	expect_error(&c, "wisp stop box", 125, "no sandbox");
	expect(&c, "wisp rm -f box", 0, "");
	expect(&c, "create -q -n box --rm && wisp stop box && wisp ls -q", 0, "");
	end(&c);
}

static void what_users_get_wrong(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect_error(&c, "wisp frob", 125, "no verb 'frob'");
	expect_error(&c, "wisp exce", 125, "did you mean exec");
	expect_error(&c, "wisp creaet", 125, "did you mean create");
	expect_error(&c, "wisp pull", 125, "'pull'; see wisp --help");
	expect_error(&c, "wisp -v", 125, "wisp has no option -v");
	expect_error(&c, "run --rm -- true", 125, "always removed");
	expect_error(&c, "run -d", 125, "wisp exec --detach");
	expect_error(&c, "run --rx -- true", 125, "no option --rx; see wisp run --help");
	expect_error(&c, "wisp version x", 125, "usage: wisp version [OPTION...]\n");
	expect_error(&c, "create box", 125, "'box' to boot from; use -n to name the sandbox");
	expect_error(&c, "run ubuntu -- true", 125, "no file or directory 'ubuntu'");
	expect_error(&c, "run --memroy 1 -- true", 125, "did you mean --memory");
	expect_error(&c, "run --frobnicate -- true", 125, "--frobnicate");
	expect_error(&c, "run -Z -- true", 125, "-Z");
	expect_error(&c, "run --cpus", 125, "requires a value");
	expect_error(&c, "run --console=yes -- true", 125, "takes no value");
	expect_error(&c, "run", 125, "command");
	expect_error(&c, "run --", 125, "command");
	expect_error(&c, "run -- ''", 125, "command");
	expect_error(&c, "wisp exec box true", 125, "after --");
	expect_error(&c, "wisp exec", 125, "missing");
	expect_error(&c, "run -c 0 -- true", 125, "cpus");
	expect_error(&c, "run -c 1000 -- true", 125, "cpus");
	expect_error(&c, "run -c x -- true", 125, "cpus");
	expect_error(&c, "run -m 1 -- true", 125, "memory");
	expect_error(&c, "run -m 99999999 -- true", 125, "memory");
	expect_error(&c, "run -m many -- true", 125, "memory");
	expect_error(&c, "run -m 5000000G -- true", 125, "memory");
	expect_error(&c, "run --timeout -5s -- true", 125, "negative");
	expect_error(&c, "run --timeout 5x -- true", 125, "duration");
	expect_error(&c, "run --timeout 1.2.3s -- true", 125, "duration");
	expect_error(&c, "run --timeout 99999999999999999999h -- true", 125, "too long");
	expect_error(&c, "run -e =x -- true", 125, "environment variable");
	expect_error(&c, "create -n 'Not A Name'", 125, "not a name for a sandbox");
	expect_error(&c, "create -n ../up", 125, "not a name for a sandbox");
	expect_error(&c, "wisp stop 'a\nb'", 125, "not a name for a sandbox");
	expect_error(&c, "run /no/image -- true", 125, "/no/image");
	expect_error(&c, "echo junk >junk; run ./junk -- true", 125, "not an image");
	expect_error(&c, "run --rw -- true", 125, "ext4");
	expect_error(&c, "run --disk /no/disk -- true", 125, "/no/disk");
	expect_error(&c, "run --disk /no/d,isk,ro,cache=unsafe -- true", 125, "/no/d,isk as a read-only disk");
	expect_error(&c, "run --disk /no/disk,cache=none -- true", 125, "writeback, direct or unsafe");
	expect_error(&c, "run --disk ,ro -- true", 125, "no path");
	expect_error(&c, "run --disk /no/disk,bps=1M,iops=5,ro -- true", 125, "/no/disk as a read-only disk");
	expect_error(&c, "run --disk /no/disk,bps=1X -- true", 125, "a rate is a number");
	expect_error(&c, "run --disk /no/disk,iops=0 -- true", 125, "let nothing pass");
	expect_error(&c, "run --net tap= -- true", 125, "a part of it is empty");
	expect_error(&c, "run --net bridge=br0 -- true", 125, "write passt, tap=NAME or fd=N, then mac=");
	expect_error(&c, "run --net fd=x -- true", 125, "fd is the number of an open descriptor");
	expect_error(&c, "run --net tap=a,mtu=x -- true", 125, "mtu is a number of bytes");
	expect_error(&c, "run --kernel full --net tap=a,address6=::2/9,queues=2 -- true", 125, "make kernel-full");
	expect_error(&c, "run --net tap=a,bps=1X -- true", 125, "a rate is a number");
	expect_error(&c, "run --net tap=a --net tap=b -- true", 125, "a sandbox has one network card");
	expect_error(&c, "run --rate image -- true", 125, "write DEVICE,bps=SIZE,iops=N");
	expect_error(&c, "run -v /no/folder:/work -- true", 125, "cannot share /no/folder: No such file");
	expect_error(&c, "run -v /no:/a,b:/work:ro,uid=squash -- true", 125, "cannot share /no:/a,b: No such file");
	expect_error(&c, "run -v /tmp -- true", 125, "write HOST:GUEST");
	expect_error(&c, "run -v :/work -- true", 125, "write HOST:GUEST");
	expect_error(&c, "run -v /tmp:work -- true", 125, "write HOST:GUEST");
	expect_error(&c, "run -v /tmp:/:ro /tmp -- true", 125, "is to be the guest's root: omit the image");
	expect_error(&c, "wisp run -v /tmp:/work --from x.snap -- true", 125, "there is no snapshot x.snap");
	expect_error(&c, "run --rate disk,bps=1M -- true", 125, "the device is image, overlay, vsock or console");
	expect_error(&c, "run --rate vsock,bps=99999999999G -- true", 125, "it is more than");
	expect_error(&c, "run --rate vsock,bps=1M,ro -- true", 125, "write DEVICE,bps=SIZE,iops=N");
	expect_error(&c, "run --cpu-max 1,5 -- true", 125, "it is not a number of processors");
	expect_error(&c, "run --cpu-max 0 -- true", 125, "give 0.01 to 1000");
	expect_error(&c, "run --pids-max 4 -- true", 125, "pids_max is 4");
	expect_error(&c, "run --memory-max 8 -- true", 125, "memory_max_mib is 8");
	expect_error(&c, "run --disk /proc/version,cache=direct,ro -- true", 125, "no O_DIRECT");
	expect_error(&c, "run -t -- true </dev/null", 125, "requires standard input to be a terminal");
	expect_error(&c, "WISP_LIBDIR=/no/lib wisp run -- true", 125, "/no/lib");
	sh(&c, "wisp");
	CHECK(c.code == 125 && strstr(c.err, "usage"));
	remove_all(c.state);
	end(&c);
}

static void what_benchmarks_refuse(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect_error(&c, "wisp bench boat", 125, "no benchmark 'boat'");
	expect_error(&c, "wisp bench", 125, "missing");
	expect_error(&c, "wisp bench boot -n 0", 125, "give 1 to 100000");
	expect_error(&c, "wisp bench blk -n 100001", 125, "more than 100000");
	expect_error(&c, "wisp bench vsock -n x", 125, "not a whole number");
	expect_error(&c, "wisp bench density -j 0", 125, "give 1 to 100000");
	expect_error(&c, "wisp bench exec --json /no/folder/x", 125, "cannot write to /no/folder/x");
	expect_error(&c, "wisp bench exec --csv ''", 125, "empty");
	expect_error(&c, "wisp bench exec --json - --csv -", 125, "only one of the outputs");
	expect_error(&c, "wisp bench blk --svg x", 125, "draw stages");
	expect_error(&c, "wisp bench exec --peer true", 125, "--peer");
	expect_error(&c, "wisp bench compare --a '-m 64' --peer true", 125, "--peer");
	expect_error(&c, "wisp bench boot --peer true --untraced", 125, "--untraced");
	expect_error(&c, "wisp bench boot --peer true --sweep vcpus=1,2", 125, "--sweep");
	expect_error(&c, "wisp bench boot --peer true --symbols x", 125, "--symbols");
	expect_error(&c, "wisp bench boot --overwrite", 125, "--overwrite");
	expect_error(&c, "wisp bench boot --peer-cid 4", 125, "--peer-cid");
	expect_error(&c, "wisp bench boot --peer true --kernel /no/kernel", 125, "/no/kernel");
	expect_error(&c, "wisp bench vsock --stream 1G", 125, "--stream");
	expect_error(&c, "wisp bench exec --stream x", 125, "--stream");
	expect_error(&c, "wisp bench exec --overwrite", 125, "--overwrite");
	expect_error(&c, "wisp bench vsock --peer-cid 2", 125, "give 3 to");
	expect_error(&c, "wisp bench vsock --cycles 0", 125, "give 1 to 100000");
	expect_error(&c, "wisp bench blk --cycles 5", 125, "--cycles");
	expect_error(&c, "wisp bench blk --cold", 125, "--cold");
	expect_error(&c, "wisp bench compare", 125, "--a or --b");
	expect_error(&c, "wisp bench boot --a '-m 64'", 125, "wisp bench compare");
	expect_error(&c, "wisp bench boot --sweep disks=1", 125, "--sweep");
	expect_error(&c, "TMPDIR=/no/folder wisp bench blk", 125, "/no/folder");
	expect_error(&c, "wisp bench blk --disk /no/disk", 125, "/no/disk");
	expect_error(&c, "wisp bench vsock --kernel /no/kernel", 125, "/no/kernel");
	expect_error(&c, "wisp bench exec --kernel /no/kernel --json j; code=$?; test -s j && echo written; exit $code",
	        125, "/no/kernel");
	expect_error(&c, "wisp bench vsock --kernel \"$READY\"", 125, "bench-guest");
	remove_all(c.state);
	end(&c);
}

/* With the fake monitor, which leaves no trace: the configurations and their disks, round trips, and what is written.
 */
static void benchmarks_run(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "truncate -s 1M d; wisp bench compare -n 2 --warmup 0 --untraced --kernel $READY --disk $DIR/d,ro "
	       "--json j "
	       "--a '-m 64' --b \"-m '128' --disk $DIR/d,ro,cache=direct --disk $DIR/d,ro "
	       "$WISP_LIBDIR/base.squashfs\"");
	CHECK_EQ(c.code, 0);
	CHECK(strstr(c.out, "\na: -m 64: 2 of 2 runs\n") && strstr(c.out, "b / a, ratio of medians"));
	expect(&c, "grep -o '\"memory_mib\":\"[0-9]*\",\"further_disks\":\"[0-9]\"' j", 0,
	        "\"memory_mib\":\"64\",\"further_disks\":\"1\"\n\"memory_mib\":\"128\",\"further_disks\":\"2\"\n");
	sh(&c, "wisp bench boot -n 1 --warmup 0 --untraced --kernel $READY --sweep memory=64,1G --csv - -- sh -c 'echo "
	       "a'");
	CHECK(c.code == 0 && strstr(c.out, "memory=64,1,first_byte,") && strstr(c.out, "memory=1G,1,first_byte,"));
	expect_error(
	        &c, "wisp bench boot -n 1 --untraced --kernel $READY -- false", 125, "the command failed in the guest");
	expect_error(&c, "echo x >m; wisp bench boot -n 1 --symbols m --kernel $READY", 125, "no symbols of a kernel");
	sh(&c, "wisp bench boot -n 1 --kernel $READY");
	CHECK(c.code == 125 && strstr(c.err, "left no trace"));
	sh(&c, "wisp bench density -n 2 --kernel $READY");
	CHECK(c.code == 0 && strstr(c.out, "\nstart "));
	end(&c);
}

static void help_is_everywhere(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "for v in run create exec attach sessions ps ls inspect logs cp kill pause resume snapshot fork stop rm "
	       "prune doctor bench "
	       "completion version "
	       "help; "
	       "do wisp $v "
	       "--help || echo FAILED; wisp help $v >/dev/null || echo FAILED; done; wisp --help; wisp -h >/dev/null");
	CHECK_EQ(c.code, 0);
	CHECK(!strstr(c.out, "FAILED"));
	CHECK_STR(c.err, "");
	sh(&c, "wisp --help | awk '/^  [a-z]/ { print $1 }' | while read v; do wisp $v --help | grep -q -- --help || "
	       "echo $v; done");
	CHECK_STR(c.out, "");
	/* An option that a verb would only refuse is listed nowhere. */
	expect(&c,
	        "for v in run exec; do wisp $v --help; wisp completion bash | grep \"$v) flags=\"; done | grep -c "
	        "-- '--detach '",
	        0, "2\n");
	expect_error(&c, "wisp run -d -- true", 125, "wisp exec --detach");
	expect(&c, "wisp version | cut -d' ' -f1; wisp --version >/dev/null", 0, "wisp\n");
	expect(&c, "wisp --help >/dev/full; echo $?", 0, "125\n");
	end(&c);
}

/* What `wisp run --help` prints on a terminal, read from its other end. */
static void help_on_terminal(unsigned short columns, char *text, size_t size)
{
	int keyboard, tty;
	size_t length = 0;
	ssize_t n;
	struct winsize window = {.ws_row = 25, .ws_col = columns};
	REQUIRE(openpty(&keyboard, &tty, NULL, NULL, &window) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(keyboard);
		login_tty(tty);
		const char *wisp = getenv("WISP");
		execl(wisp, wisp, "run", "--help", (char *)NULL);
		_exit(99);
	}
	close(tty);
	while (length + 1 < size && (n = read(keyboard, text + length, size - 1 - length)) > 0)
		length += (size_t)n;
	text[length] = '\0';
	close(keyboard);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

/* The longest line, but for examples, which are never wrapped. */
static size_t longest_line(const char *text)
{
	size_t longest = 0;
	for (; *text; text += strcspn(text, "\n"), text += *text == '\n') {
		size_t length = strcspn(text, "\r\n");
		bool example = strncmp(text, "  wisp", 6) == 0 || strncmp(text, "  tar", 5) == 0;
		longest = !example && length > longest ? length : longest;
	}
	return longest;
}

static void help_fits_the_terminal(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "unset COLUMNS; wisp run --help");
	CHECK(longest_line(c.out) <= 80 && longest_line(c.out) > 70);
	CHECK(strstr(c.out, "\n  -m, --memory SIZE           memory: "));
	CHECK(strstr(c.out, "\n      --disk PATH[,OPTION...]\n                              add a disk"));
	sh(&c, "COLUMNS=100 wisp run --help");
	CHECK(longest_line(c.out) <= 100 && longest_line(c.out) > 90);
	sh(&c, "COLUMNS=60 wisp bench --help");
	CHECK(longest_line(c.out) <= 60 && strstr(c.out, "\n  -m, --memory SIZE\n        memory: "));
	sh(&c, "COLUMNS=nonsense wisp run --help");
	CHECK(longest_line(c.out) <= 80);
	setenv("COLUMNS", "60", 1); /* a terminal knows better */
	help_on_terminal(100, c.out, sizeof(c.out));
	CHECK(longest_line(c.out) <= 100 && longest_line(c.out) > 90);
	help_on_terminal(50, c.out, sizeof(c.out));
	CHECK(longest_line(c.out) <= 50);
	unsetenv("COLUMNS");
	end(&c);
}

/* wisp bench is the program wisp-bench of libdir. */
static void bench_is_a_program(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "wisp help bench >a; wisp bench --help >b; cmp a b && cat a");
	CHECK(c.code == 0 && strstr(c.out, "usage: wisp bench") && strstr(c.out, "--peer-cid"));
	sh(&c, "wisp completion man");
	CHECK(strstr(c.out, ".SS \"wisp bench [OPTION...]") && strstr(c.out, "\\-\\-peer\\-cid"));
	expect_error(&c, "rm $WISP_LIBDIR/wisp-bench; wisp bench floor", 125, "/wisp-bench: No such file");
	expect_error(&c, "wisp help bench", 125, "install wisp again");
	/* Completions are then those of the other verbs. */
	expect(&c, "wisp completion bash >c && bash -n c && grep -c ') flags=' c", 0, "24\n");
	expect(&c,
	        "printf '#!/bin/sh\necho \"$@\"; exit 3' >$WISP_LIBDIR/wisp-bench; chmod +x $WISP_LIBDIR/wisp-bench; "
	        "wisp bench --json 'a b' -x",
	        3, "--json a b -x\n");
	expect(&c, "wisp completion man >/dev/null 2>err2; echo $?; grep -c wisp-bench err2", 0, "125\n1\n");
	end(&c);
}

static void completions_are_scripts(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "wisp completion bash >c && bash -n c", 0, "");
	expect(&c,
	        "cat >t <<'END'\n. ./c\nwisp() { \"$WISP\" \"$@\"; }\nt() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($#-1)); "
	        "_wisp; echo "
	        "\"${COMPREPLY[*]}\"; }\nt wisp cre\nt wisp run --mem\nt wisp exec ''\nt wisp completion f\nt wisp "
	        "bench den\nt wisp bench --peer-\nEND\n"
	        "create -q -n box; bash t; wisp rm -f box",
	        0, "create\n--memory --memory-max\nbox\nfish\ndensity\n--peer-cid\n");
	expect(&c, "if command -v zsh >/dev/null; then wisp completion zsh >z && zsh -n z; fi", 0, "");
	expect(&c, "if command -v fish >/dev/null; then wisp completion fish >f && fish -n f; fi", 0, "");
	sh(&c, "wisp completion zsh; wisp completion fish");
	CHECK(strstr(c.out, "#compdef wisp") && strstr(c.out, "complete -c wisp"));
	expect_error(&c, "wisp completion tcsh", 125, "tcsh");
	end(&c);
}

static void doctor_says_it(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "wisp doctor");
	CHECK(strstr(c.out, "kvm") && strstr(c.out, "io_uring") && strstr(c.out, "memory") &&
	        strstr(c.out, "vmlinux-up"));
	CHECK(c.code == 0 || c.code == 1);
	int code = c.code;
	sh(&c, "wisp doctor --json");
	CHECK(strstr(c.out, code == 0 ? "\"ok\":true" : "\"ok\":false"));
	sh(&c, "rm \"$WISP_LIBDIR/vmlinux-smp\"; wisp doctor");
	CHECK_EQ(c.code, code);
	CHECK(strstr(c.out, "make guest"));
	sh(&c, "WISP_STATE=/run/user/0/wisp wisp doctor");
	CHECK(strstr(c.out, "deleted when you log out") || strstr(c.out, "not writable"));
	/* Even root cannot keep sandboxes everywhere. */
	sh(&c, "WISP_STATE=/proc/state wisp doctor");
	CHECK(c.code == 1 && strstr(c.out, "bad      state      wisp cannot create directories in /proc: "));
	expect(&c, "wisp doctor | grep -c 'ok       state      sandboxes are kept in'; ls -A $DIR", 0,
	        "1\nerr\nlib\nout\n");
	sh(&c, "unshare -m true && chmod 755 $DIR");
	if (c.code == 0) {
		sh(&c, "mkdir small; unshare -m sh -c 'mount -t tmpfs -o size=1M x small && WISP_STATE=small/state "
		       "\"$WISP\" doctor'");
		CHECK(strstr(c.out, "warning  state      small has 1 MiB left"));
		sh(&c, "printf '[Login]\\n#KillUserProcesses=no\\nKillUserProcesses=yes\\n' >logind.conf; unshare -m "
		       "sh -c '"
		       "mount -t tmpfs x /etc/systemd && cp logind.conf /etc/systemd && HOME=/ USER=nobody setpriv "
		       "--reuid "
		       "65534 --clear-groups \"$WISP\" doctor'");
		CHECK(strstr(c.out, "warning  logout") || !c.out[0]); /* no output: another user may not run it */
	}
	sh(&c, "WISP_LIBDIR=/no/lib wisp doctor");
	CHECK_EQ(c.code, 1);
	CHECK(strstr(c.out, "/no/lib/wisp-vmm"));
	end(&c);
}

static void signals_are_passed_on(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c,
	        "\"$WISP\" run --kernel $READY -- sh -c 'trap \"echo term; exit 3\" TERM; echo up; while :; do sleep "
	        "0.02; done' </dev/null >o & "
	        "pid=$!;"
	        "until grep -q up o; do sleep 0.02; done; kill -TERM $pid; wait $pid; echo $?; cat o",
	        0, "3\nup\nterm\n");
	/* One that ignores it: the second ends it. */
	expect(&c,
	        "rm o; \"$WISP\" run --kernel $READY -- sh -c 'trap \"\" TERM; echo up; while :; do sleep 0.02; done' "
	        "</dev/null >o & pid=$!;"
	        "until grep -q up o; do sleep 0.02; done; kill -TERM $pid; sleep 0.2; kill -TERM $pid; wait $pid; echo "
	        "$?",
	        0, "137\n");
	/* While it boots there is no command yet. */
	expect(&c,
	        "for v in run create; do \"$WISP\" $v --kernel $WISP_LIBDIR/fake-hang $([ $v = run ] && echo -- true) "
	        "& "
	        "pid=$!; sleep "
	        "0.3; kill -TERM $pid; wait $pid; echo $?; done",
	        0, "143\n143\n");
	end(&c);
}

/* A directory that takes long to pack. */
static void packing_is_interrupted(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "command -v mksquashfs pgrep");
	if (c.code == 0)
		expect(&c,
		        "mkdir tree; truncate -s 1T tree/large; \"$WISP\" run --kernel $READY ./tree -- true & pid=$!; "
		        "until "
		        "packer=$(pgrep -P $pid mksquashfs); do sleep 0.02; done; kill -TERM $pid; wait $pid; echo $?; "
		        "kill -0 $packer; ls -A $XDG_CACHE_HOME/wisp/images",
		        0, "143\n");
	else
		test_skipped = "no mksquashfs or pgrep";
	end(&c);
}

static void sigkill_leaves_nothing(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c,
	        "\"$WISP\" run --kernel $READY -- sh -c 'echo up; sleep 1000' </dev/null >o & pid=$!;"
	        "until grep -q up o; do sleep 0.02; done; kill -9 $pid; wait $pid 2>/dev/null;"
	        "for i in $(seq 200); do [ -z \"$(ls -A $WISP_STATE)\" ] && break; sleep 0.02; done; ls -A $WISP_STATE",
	        0, "");
	end(&c);
}

static void logs_are_printed(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "create -q -n box");
	char dir[160];
	snprintf(dir, sizeof(dir), "%s/box", c.state);
	write_file(dir, "exec.log",
	        "{\"time\":\"2026-01-31T12:00:00.000000000Z\",\"session\":1,\"stream\":\"started\",\"pid\":7}\n"
	        "{\"time\":\"2026-01-31T12:00:01.000000000Z\",\"session\":1,\"stream\":\"stdout\",\"data\":\"one\\n\"}"
	        "\n"
	        "{\"time\":\"2026-01-31T12:00:02.000000000Z\",\"session\":2,\"stream\":\"stderr\",\"data\":\"two\\n\"}"
	        "\n"
	        "{\"time\":\"2026-01-31T12:00:03.000000000Z\",\"session\":2,\"stream\":\"stdout\",\"data_b64\":\"/"
	        "wo=\"}\n"
	        "{\"time\":\"2026-01-31T12:00:04.000000000Z\",\"session\":1,\"stream\":\"exited\",\"code\":3,"
	        "\"signal\":0}\n");
	expect(&c, "wisp logs box", 0, "one\n\xff\n");
	CHECK_STR(c.err, "two\n");
	expect(&c, "wisp logs box --session 1", 0, "one\n");
	expect(&c, "wisp logs box --source stderr 2>&1", 0, "two\n");
	expect(&c, "wisp logs box --tail 1", 0, "\xff\n");
	expect(&c, "wisp logs box --since 2026-01-31T13:00:02+01:00 2>&1", 0, "two\n\xff\n");
	expect(&c, "wisp logs box --grep '^t.o$' 2>&1", 0, "two\n");
	expect(&c, "wisp logs box --source events 2>&1", 0,
	        "[session 1 started: pid=7]\n[session 1 exited: code=3 signal=0]\n");
	expect(&c, "wisp logs box --json | wc -l", 0, "5\n");
	expect(&c, "wisp logs box --source console", 0, "Linux version 0\n");
	expect_error(&c, "wisp logs box --grep '['", 125, "--grep");
	expect_error(&c, "wisp logs box --source nothing", 125, "--source");
	expect_error(&c, "wisp logs box --since tomorrow", 125, "--since");
	expect_error(&c, "wisp logs nobox", 125, "no sandbox");
	expect(&c,
	        "\"$WISP\" logs -f --tail 1 box >o & pid=$!; sleep 0.2; echo "
	        "'{\"time\":\"2026-01-31T12:00:05Z\",\"session\":1,\"stream\":\"stdout\",\"data\":\"new\"}' "
	        ">>$WISP_STATE/box/exec.log;"
	        "until grep -q new o; do sleep 0.02; done; wisp stop box; wait $pid; echo $?; cat o",
	        0, "0\n\xff\nnew");
	sh(&c, "wisp rm box");
	end(&c);
}

/* ---- On a terminal ---- */

/* `wisp exec -t box ...` on a terminal of its own, ended by a signal to wisp: the terminal is as before. */
static void terminal_after(int number, const char *keys, int code)
{
	static struct cli_terminal t;
	struct termios before, after;
	/* An interrupt counts wherever the shell is: bash forgets one that comes as stty ends. */
	REQUIRE(terminal_start(
	        &t, "exec -t box -- sh -c \"trap 'exit 130' INT; stty size; while :; do sleep 0.02; done\"", &before));
	CHECK(terminal_shows(&t, "25 90"));
	REQUIRE(tcgetattr(t.keyboard, &after) == 0);
	CHECK(after.c_lflag != before.c_lflag);
	if (keys)
		terminal_type(&t, keys);
	if (number)
		kill(t.pid, number);
	CHECK_EQ(terminal_wait(&t), code);
	/* SIGKILL leaves it to the guard. */
	for (int i = 0; i < 100 && tcgetattr(t.keyboard, &after) == 0 && after.c_lflag != before.c_lflag; i++)
		sleep_ms(20);
	CHECK_EQ(after.c_lflag, before.c_lflag);
	CHECK_EQ(after.c_iflag, before.c_iflag);
	CHECK_EQ(after.c_oflag, before.c_oflag);
	terminal_close(&t);
}

static void the_terminal_is_set_back(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "create -q -n box");
	terminal_after(0, "\x1d", 0);
	terminal_after(0, "\x03", 130);
	terminal_after(SIGTERM, NULL, 143);
	terminal_after(SIGHUP, NULL, 129);
	terminal_after(SIGKILL, NULL, 137);
	terminal_after(SIGABRT, NULL, 134);
	sh(&c, "wisp rm -f box");
	end(&c);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	static const struct test_case cases[] = {
	        {"run_is_the_command", run_is_the_command},
	        {"streams_are_byte_faithful", streams_are_byte_faithful},
	        {"options_of_an_execution", options_of_an_execution},
	        {"a_sandbox_lives", a_sandbox_lives},
	        {"what_users_get_wrong", what_users_get_wrong},
	        {"what_benchmarks_refuse", what_benchmarks_refuse},
	        {"benchmarks_run", benchmarks_run},
	        {"help_is_everywhere", help_is_everywhere},
	        {"help_fits_the_terminal", help_fits_the_terminal},
	        {"bench_is_a_program", bench_is_a_program},
	        {"completions_are_scripts", completions_are_scripts},
	        {"doctor_says_it", doctor_says_it},
	        {"signals_are_passed_on", signals_are_passed_on},
	        {"packing_is_interrupted", packing_is_interrupted},
	        {"sigkill_leaves_nothing", sigkill_leaves_nothing},
	        {"logs_are_printed", logs_are_printed},
	        {"the_terminal_is_set_back", the_terminal_is_set_back},
	};
	return test_main("cli", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
