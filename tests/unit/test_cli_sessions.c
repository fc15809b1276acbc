/* SPDX-License-Identifier: Apache-2.0 */
/* What the command does to sessions, and must not do: signals, standard input, looking at them, killing them. */
#include <pty.h>
#include <utmp.h>

#include "tests/unit/test_cli.h"

/* Runs in the background, in `up`, until the command says that it is up. The pid is wisp's. */
#define UP "up() { \"$@\" >o 2>e & pid=$!; until grep -q up o; do sleep 0.02; done; }; "

static void ignored_signals_stay_ignored(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	/* The command ends by itself once it is told to, which a signal that was forwarded or obeyed would prevent. */
	expect(&c,
	        UP "up env --ignore-signal=HUP --ignore-signal=INT \"$WISP\" run --kernel $READY -- sh -c 'echo up; "
	           "until [ "
	           "-e '$DIR/go' ]; do sleep 0.02; done; exit 7' </dev/null;"
	           "for i in 1 2 3; do kill -HUP $pid; kill -INT $pid; done; touch go; wait $pid; echo $?",
	        0, "7\n");
	expect(&c,
	        "rm go o; " UP
	        "up nohup \"$WISP\" run --kernel $READY -- sh -c 'echo up; until [ -e '$DIR/go' ]; do sleep "
	        "0.02; done; exit 7' </dev/null; kill -HUP $pid; touch go; wait $pid; echo $?",
	        0, "7\n");
	end(&c);
}

static void other_signals_are_forwarded(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	static const char *const names[] = {"USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "RTMIN", "RTMAX"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char script[1024];
		snprintf(script, sizeof(script),
		        UP
		        "rm -f o; up \"$WISP\" run --kernel $READY -- bash -c 'trap \"echo got; n=x\\$n\" %s; echo up; "
		        "until [ \"$n\" = xxx ]; do sleep 0.02; done; exit 0' </dev/null;"
		        "for i in 1 2 3; do kill -%s $pid; until [ $(grep -c got o) = $i ]; do sleep 0.02; done; done;"
		        "wait $pid; echo $?",
		        names[i], names[i]);
		expect(&c, script, 0, "0\n");
	}
	end(&c);
}

/* A session that waits for a file, then ends with 7. */
#define START \
	"create -q -n box; wisp exec -d box -- sh -c 'until [ -e '$DIR/go' ]; do echo up; sleep 0.02; done; exit 7'"

static void looking_changes_nothing(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, START, 0, "1\n");
	/* A reader that leaves. */
	expect(&c,
	        "for w in --watch ''; do { wisp attach $w box 1 </dev/null; echo $? >code; } | head -n 1; cat code; "
	        "done",
	        0, "up\n141\nup\n141\n");
	/* Signals to a watcher, even if its parent blocked them, and HUP to a writer, end only them. */
	expect(&c,
	        UP "for s in HUP TERM USR1; do rm -f o; up env --block-signal \"$WISP\" attach --watch box 1; kill -$s "
	           "$pid; wait "
	           "$pid; echo "
	           "$?; done 2>/dev/null; rm o; up \"$WISP\" attach box 1; kill -HUP $pid; wait $pid; echo $?",
	        0, "129\n143\n138\n129\n");
	expect(&c, "touch go; wisp attach box 1 | tail -n 1; wisp attach box 1 >o", 7, "up\n");
	/* No input is not the end of the session's input, which a client that died has left open. */
	expect(&c,
	        UP "rm -f o; mkfifo in; sleep 1000 >in & holder=$!; \"$WISP\" exec box -- sh -c 'echo up; cat "
	           ">'$DIR/got <in >o & "
	           "pid=$!; until grep -q up o; do sleep 0.02; done; kill -KILL $pid; wait $pid; kill $holder;"
	           "rm o; up \"$WISP\" attach box 2; kill -HUP $pid; wait $pid; echo $?;"
	           "echo in | wisp attach box 2; cat got",
	        0, "129\nup\nin\n");
	sh(&c, "wisp rm -f box");
	end(&c);
}

static void standard_input_is_chosen(void)
{
	static struct cli c;
	static struct cli_terminal terminal;
	if (!begin(&c))
		return;
	expect(&c,
	        "create -q -n box; printf '1\\n2\\n3\\n' | while read -r n; do wisp exec -n box -- sh -c \"cat; echo "
	        "$n\"; done",
	        0, "1\n2\n3\n");
	expect(&c,
	        "echo in | wisp exec -i box -- cat; echo in | wisp exec box -- cat; wisp exec -i box -- cat </dev/null",
	        0, "in\nin\n");
	/* A terminal is read only with -i. */
	if (terminal_start(&terminal, "exec -i box -- sed 's/.*/<&>/'", NULL)) {
		terminal_type(&terminal, "typed\n\4");
		CHECK(terminal_shows(&terminal, "<typed>"));
		CHECK_EQ(terminal_wait(&terminal), 0);
		terminal_close(&terminal);
	}
	expect_error(&c, "wisp exec -i -n box -- true", 125, "contradict");
	expect_error(&c, "wisp exec -it box -- true </dev/null", 125, "standard input to be a terminal");
	sh(&c, "wisp rm -f box");
	end(&c);
}

static void sessions_are_killed(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c,
	        "create -q -n box; wisp exec -d box -- bash -c 'trap \"exit 5\" USR1; while :; do echo up; sleep 0.02; "
	        "done'; wisp attach box 1 --watch | head -n 1; wisp kill --signal sigusr1 box 1; wisp attach box 1 >o",
	        5, "1\nup\n");
	expect(&c, "wisp exec -d box -- sleep 1000; wisp kill box 2; wisp attach box 2 </dev/null", 137, "2\n");
	expect(&c, "wisp exec -d box -- sleep 1000; wisp kill -s 15 box 3; wisp attach box 3 </dev/null", 143, "3\n");
	expect_error(&c, "wisp kill box 1", 125, "has ended");
	expect_error(&c, "wisp kill box 77", 125, "no such session");
	expect_error(&c, "wisp kill box x", 125, "session 'x'");
	expect_error(&c, "wisp kill -s NONE box 1", 125, "not a signal");
	expect_error(&c, "wisp kill -s 65 box 1", 125, "--signal '65'");
	sh(&c, "wisp rm -f box");
	end(&c);
}

static void dead_sandboxes_are_pruned(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "create -q -n dead; create -q -n alive; create -q -n stopped; wisp stop stopped; mkdir "
	       "$WISP_STATE/foreign;"
	       "kill -9 $(wisp inspect dead | grep -o '\"pid\":[0-9]*' | cut -d: -f2)");
	sh(&c, "for i in $(seq 200); do wisp ls | grep -q 'dead  *dead' && break; sleep 0.02; done");
	expect(&c, "wisp prune --dry-run; wisp ls -q", 0, "dead\nalive\ndead\nstopped\n");
	expect(&c, "wisp prune; wisp prune; wisp ls -q; ls $WISP_STATE", 0,
	        "dead\nalive\nstopped\nalive\nforeign\nstopped\n");
	sh(&c, "wisp rm -f alive stopped; rmdir $WISP_STATE/foreign");
	end(&c);
}

static void the_cache_is_pruned(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "wisp prune --cache | sed s,$DIR,,", 0, "0 files deleted from /cache/wisp/images\n");
	expect(&c,
	        "images=$XDG_CACHE_HOME/wisp/images; mkdir -p -m 700 $images; for i in 1 2; do "
	        "echo image >$images/000000000000000$i-0000000000000000000000000000000$i.squashfs; done; "
	        "touch -d '1 hour ago' $images/*1.squashfs; wisp prune --cache | sed s,$DIR,,; ls $images",
	        0,
	        "1 file deleted from /cache/wisp/images\n"
	        "0000000000000002-00000000000000000000000000000002.squashfs\n");
	expect_error(&c, "wisp prune --cache --dry-run", 125, "cannot be combined");
	end(&c);
}

static void guests_do_not_control_terminals(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	/* ESC, C1 as a byte and as UTF-8, DEL; a letter of two bytes stays. */
	sh(&c, "create -q -n box; wisp exec -d box -- sh -c 'true \"$1\"' x $(printf "
	       "'a\\033b\\233c\\302\\233d\\177e\\303\\251')");
	sh(&c, "wisp sessions box");
	CHECK(strstr(c.out, "a?b?c??d?e\xc3\xa9"));
	sh(&c, "wisp ps box --json");
	CHECK(strstr(c.out, "a\\u001bb\\ufffdc\\u009bd\\u007fe\xc3\xa9"));
	expect_error(&c, "wisp exec box -- $(printf '/no/a\\033b\\233c\\302\\233d') </dev/null", 127, "/no/a?b?c?");
	sh(&c, "wisp rm -f box");
	end(&c);
}

static void only_new_records(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "create -q -n box");
	expect(&c,
	        "cd $WISP_STATE/box; l() { echo "
	        "'{\"time\":\"2026-01-31T12:00:05Z\",\"session\":1,\"stream\":\"stdout\","
	        "\"data\":\"'$1'\"}' >>exec.log; }; l old; wisp logs box --tail 0; wisp logs box --source console "
	        "--tail 0;"
	        "\"$WISP\" logs -f --tail 0 box >o & pid=$!; until grep -q exec.log /proc/$pid/maps || ls -l "
	        "/proc/$pid/fd | "
	        "grep -q exec.log; do sleep 0.02; done; sleep 0.2; l new; until grep -q new o; do sleep 0.02; done; "
	        "wisp "
	        "stop box; wait $pid; cat o; rm o",
	        0, "new");
	sh(&c, "wisp rm -f box");
	end(&c);
}

/* Output of a terminal session belongs to a terminal: it is refused instead of written to another place. */
static void a_terminal_is_for_terminals(void)
{
	static struct cli c;
	int keyboard, tty, status;
	char seen[4096] = "";
	if (!begin(&c))
		return;
	sh(&c, "create -q -n box");
	REQUIRE(openpty(&keyboard, &tty, NULL, NULL, NULL) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(keyboard);
		login_tty(tty);
		execlp("sh", "sh", "-c", "\"$WISP\" exec -t box -- echo hello >\"$DIR/file\"", (char *)NULL);
		_exit(99);
	}
	close(tty);
	for (ssize_t n, at = 0; (n = read(keyboard, seen + at, sizeof(seen) - 1 - (size_t)at)) > 0; at += n)
		;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(WEXITSTATUS(status), 125);
	CHECK(strstr(seen, "-t requires standard output to be a terminal"));
	close(keyboard);
	sh(&c, "wisp rm -f box");
	end(&c);
}

/* What attach does on a terminal: a watcher sees everything and changes nothing. */
static void watching_on_a_terminal(void)
{
	static struct cli c;
	static struct cli_terminal watcher, writer;
	if (!begin(&c))
		return;
	expect(&c,
	        "create -q -n box; wisp exec -d -t box -- sh -c 'printf \"\\033[?1049hup\"; while read -r line; do "
	        "echo "
	        "\"<$line>\"; done'",
	        0, "1\n");
	/* What the watcher types goes nowhere, ^C included, but for the keys that detach. */
	REQUIRE(terminal_start(&watcher, "attach --watch box 1", NULL));
	CHECK(terminal_shows(&watcher, "up"));
	terminal_type(&watcher, "typed\r\x03\x04\x1d");
	CHECK(terminal_shows(&watcher, "\033[?1049l"));
	CHECK(terminal_shows(&watcher, "wisp: detached from session 1"));
	CHECK_EQ(terminal_wait(&watcher), 0);
	terminal_close(&watcher);
	/* Signals end the watcher alone. */
	static const int signals[] = {SIGTERM, SIGHUP, SIGINT};
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		REQUIRE(terminal_start(&watcher, "attach --watch box 1", NULL));
		CHECK(terminal_shows(&watcher, "up"));
		kill(watcher.pid, signals[i]);
		CHECK_EQ(terminal_wait(&watcher), 128 + signals[i]);
		terminal_close(&watcher);
	}
	/* A second client watches, and says so. */
	REQUIRE(terminal_start(&writer, "attach box 1", NULL));
	CHECK(terminal_shows(&writer, "up"));
	REQUIRE(terminal_start(&watcher, "attach box 1", NULL));
	CHECK(terminal_shows(&watcher, "wisp: another client writes to session 1; only watching it"));
	CHECK(terminal_shows(&watcher, "up"));
	terminal_type(&watcher, "typed\r");
	terminal_type(&writer, "real\r");
	CHECK(terminal_shows(&writer, "real\r\n<real>"));
	CHECK(terminal_shows(&watcher, "real\r\n<real>"));
	terminal_type(&writer, "\x04");
	CHECK_EQ(terminal_wait(&writer), 0);
	CHECK_EQ(terminal_wait(&watcher), 0);
	terminal_close(&writer);
	terminal_close(&watcher);
	/* Nothing else was ever typed. */
	REQUIRE(terminal_start(&watcher, "attach --watch box 1", NULL));
	CHECK(terminal_shows(&watcher, "upreal\r\n<real>\r\n"));
	CHECK_EQ(terminal_wait(&watcher), 0);
	terminal_close(&watcher);
	sh(&c, "wisp rm -f box");
	end(&c);
}

/* Whether the process has blocked the signal: wisp does so once it reads signals from a descriptor. */
static bool blocks(pid_t pid, int number)
{
	char path[64], text[4096];
	unsigned long long mask = 0;
	snprintf(path, sizeof(path), "/proc/%d", pid);
	read_text(path, "status", text, sizeof(text));
	const char *line = strstr(text, "SigBlk:");
	return line && sscanf(line, "SigBlk: %llx", &mask) == 1 && mask >> (number - 1) & 1;
}

/* A guest that does not answer: before it has started the command, ^C ends wisp; afterwards, the detach keys do. */
static void a_guest_that_hangs(void)
{
	static struct cli c;
	static struct cli_terminal t;
	struct termios before, after;
	if (!begin(&c))
		return;
	sh(&c, "create -q -n box; cat /proc/$(wisp inspect box | grep -o '\"pid\":[0-9]*' | cut -d: "
	       "-f2)/task/*/children");
	pid_t agent = atoi(c.out);
	REQUIRE(agent > 0);
	for (int by_key = 0; by_key < 2; by_key++) {
		stop_process(agent);
		REQUIRE(terminal_start(&t, "exec -t box -- true", &before));
		for (int i = 0; i < 1000 && !blocks(t.pid, SIGINT); i++)
			sleep_ms(10);
		if (by_key)
			terminal_type(&t, "\x03");
		else
			kill(t.pid, SIGTERM);
		CHECK_EQ(terminal_wait(&t), by_key ? 130 : 143);
		REQUIRE(tcgetattr(t.tty, &after) == 0);
		CHECK_EQ(after.c_lflag, before.c_lflag);
		terminal_close(&t);
		kill(agent, SIGCONT);
	}
	REQUIRE(terminal_start(&t, "exec -t box -- sh -c 'echo up; exec sleep 1000'", NULL));
	CHECK(terminal_shows(&t, "up"));
	stop_process(agent);
	terminal_type(&t, "\x03\x1d");
	CHECK(terminal_shows(&t, "detached from session"));
	CHECK_EQ(terminal_wait(&t), 0);
	terminal_close(&t);
	kill(agent, SIGCONT);
	sh(&c, "wisp rm -f box");
	end(&c);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	static const struct test_case cases[] = {
	        {"ignored_signals_stay_ignored", ignored_signals_stay_ignored},
	        {"other_signals_are_forwarded", other_signals_are_forwarded},
	        {"looking_changes_nothing", looking_changes_nothing},
	        {"standard_input_is_chosen", standard_input_is_chosen},
	        {"sessions_are_killed", sessions_are_killed},
	        {"dead_sandboxes_are_pruned", dead_sandboxes_are_pruned},
	        {"the_cache_is_pruned", the_cache_is_pruned},
	        {"guests_do_not_control_terminals", guests_do_not_control_terminals},
	        {"only_new_records", only_new_records},
	        {"a_terminal_is_for_terminals", a_terminal_is_for_terminals},
	        {"watching_on_a_terminal", watching_on_a_terminal},
	        {"a_guest_that_hangs", a_guest_that_hangs},
	};
	return test_main("cli_sessions", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
