/* SPDX-License-Identifier: Apache-2.0 */
/* What libwisp reads and writes: text, configurations, logs, detach keys. */
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "tests/unit/test_lib.h"
#include "vmm/lib/config.h"
#include "vmm/lib/keys.h"
#include "vmm/lib/logline.h"
#include "vmm/lib/state.h"

static void utf8(void)
{
	static const struct {
		const char *text;
		bool valid;
	} cases[] = {{"", true}, {"abc", true}, {"\xc3\xbc", true}, {"\xe2\x82\xac", true}, {"\xf0\x9f\x98\x80", true},
	        {"\xf4\x8f\xbf\xbf", true}, {"\xff", false}, {"\x80", false}, {"\xc3", false}, {"\xc0\xaf", false},
	        {"\xe0\x80\x80", false}, {"\xed\xa0\x80", false}, {"\xf4\x90\x80\x80", false},
	        {"\xf0\x8f\xbf\xbf", false}, {"\xf8\x88\x80\x80\x80", false}, {"a\xe2\x82", false}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t valid;
		CHECK_EQ(lib_is_utf8(cases[i].text, strlen(cases[i].text), &valid), cases[i].valid);
		CHECK(valid <= strlen(cases[i].text));
	}
}

static void printable(void)
{
	static const struct {
		const char *from, *to;
	} cases[] = {{"plain", "plain"}, {"a\nb\tc", "a b c"}, {"\033[2J", "?[2J"},
	        {"\xc3\xbc\xff\xe2\x82", "\xc3\xbc???"}, {"\xc2\x9b", "?"}, {"\x7f", "?"}};
	char to[64];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		lib_printable(to, sizeof(to), cases[i].from, strlen(cases[i].from));
		CHECK_STR(to, cases[i].to);
	}
	lib_printable(to, 4, "ab\xe2\x82\xac", 5);
	CHECK_STR(to, "ab");
	lib_printable(to, 1, "ab", 2);
	CHECK_STR(to, "");
}

static void config_survives(void)
{
	char dir[] = "/tmp/wisp-test-XXXXXX";
	REQUIRE(mkdtemp(dir));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *env[] = {"A=1", "B=line\nline \\n back\\slash", "C=a=b", "D=", NULL};
	struct config out = {.image = "/with\nnewline",
	        .cpus = 3,
	        .memory_mib = 77,
	        .env = env,
	        .workdir = "/x y",
	        .user = "u",
	        .shell = "/bin/bash",
	        .created_ns = 1234567890123456789,
	        .stop_grace_ms = 5,
	        .max_duration_ms = 6,
	        .idle_timeout_ms = 7,
	        .limits = {8, 9, 10},
	        .cgroup = "/a/b",
	        .vsock_rate = {11, 12},
	        .console_rate = {UINT64_MAX, 0},
	        .disks = (const char *[]){"rw /a", "ro /b", NULL},
	        .disk_info = (struct config_disk[]){{1, 2, 3, {4, 5}}, {0}},
	        .disk_info_count = 2,
	        .keep = true};
	struct config in;
	CHECK_EQ(config_write(fd, &out), 0);
	CHECK_EQ(config_write(fd, &out), -EEXIST);
	REQUIRE(config_read(fd, &in) == 0);
	CHECK_STR(in.image, out.image);
	CHECK_STR(in.workdir, out.workdir);
	CHECK_EQ(in.cpus, 3);
	CHECK_EQ(in.memory_mib, 77);
	CHECK_EQ(in.created_ns, out.created_ns);
	CHECK(in.max_duration_ms == 6 && in.idle_timeout_ms == 7);
	CHECK(in.limits.memory_mib == 8 && in.limits.cpu_milli == 9 && in.limits.pids == 10);
	CHECK_STR(in.cgroup, "/a/b");
	CHECK(in.vsock_rate.bytes == 11 && in.vsock_rate.operations == 12 && in.console_rate.bytes == UINT64_MAX);
	REQUIRE(in.disk_info_count == 2);
	CHECK(in.disk_info[0].cache == 1 && in.disk_info[0].dev == 2 && in.disk_info[0].ino == 3);
	CHECK(in.disk_info[0].rate.bytes == 4 && in.disk_info[0].rate.operations == 5);
	CHECK_EQ(in.env_count, 4);
	for (size_t i = 0; i < 4; i++)
		CHECK_STR(in.env[i], env[i]);
	CHECK(!in.env[4] && in.keep && !in.detach && !in.hostname);
	config_free(&in);
	close(fd);
	remove_all(dir);
}

/* Those of earlier versions have no rates. */
static void disks_of_old_configs(void)
{
	struct config in;
	REQUIRE(config_parse(strdup("disk=rw /a\ndisk=ro /b\ndisk=ro /c\ndisk_info=1 2 3\ndisk_info=1 2 3x\n"
	                            "disk_info=1 2 3 4"),
	                &in) == 0);
	CHECK(in.disk_info[0].ino == 3 && in.disk_info[0].rate.bytes == 0);
	CHECK_EQ(in.disk_info[1].ino, 0);
	CHECK(in.disk_info[2].ino == 3 && in.disk_info[2].rate.bytes == 0);
	config_free(&in);
}

static void strange_configs(void)
{
	char dir[] = "/tmp/wisp-test-XXXXXX";
	struct config in;
	REQUIRE(mkdtemp(dir));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_EQ(config_read(fd, &in), -ENOENT);
	write_file(dir, "config", "\n=\nnonsense\nlater=thing\ncpus=many\nenv=A=\\\nuser=x\\");
	REQUIRE(config_read(fd, &in) == 0);
	CHECK_EQ(in.cpus, 0);
	CHECK_STR(in.env[0], "A=\\");
	CHECK_STR(in.user, "x\\");
	config_free(&in);
	/* Numbers that no sandbox has. */
	write_file(
	        dir, "config", "cpus=-1\nmemory_mib=4294967296\ncreated_ns=-9223372036854775808\nstop_grace_ms=1e9\n");
	REQUIRE(config_read(fd, &in) == 0);
	CHECK_EQ(in.cpus, 0);
	CHECK_EQ(in.memory_mib, 0);
	CHECK_EQ(in.created_ns, 0);
	CHECK_EQ(in.stop_grace_ms, 0);
	config_free(&in);
	close(fd);
	remove_all(dir);
}

static void detach_keys(void)
{
	static const struct {
		const char *keys, *typed, *passed;
		bool detached;
	} cases[] = {
	        {NULL, "ab\x1d", "ab", true},
	        {NULL, "abc", "abc", false},
	        {"ctrl-p,ctrl-q", "a\x10\x11z", "a", true},
	        {"ctrl-p,ctrl-q", "a\x10z", "a\x10z", false},
	        {"ctrl-p,ctrl-q", "\x10\x10\x11", "\x10", true},
	        {"ctrl-p,ctrl-q", "\x10\x10\x10z", "\x10\x10\x10z", false},
	        {"a,a,b", "aaab", "a", true},
	        {"a,b,a,c", "ababac", "ab", true},
	        {"q", "xq", "x", true},
	        {",", "x,", "x", true},
	        {"a,,,b", "a,b", "", true},
	        {"CTRL-], ", "\x1d ", "", true},
	        {"ctrl-@", "", "", false},
	        {"ctrl-[", "\x1b", "", true},
	        {"ctrl-\\", "\x1c", "", true},
	        {"ctrl-^", "\x1e", "", true},
	        {"ctrl-_", "\x1f", "", true},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct keys keys;
		unsigned char out[64];
		size_t total = 0, n;
		bool detached = false;
		REQUIRE(keys_parse(cases[i].keys, &keys, NULL) == 0);
		/* One by one, as they are typed. */
		for (const char *at = cases[i].typed; *at && !detached; at++) {
			detached = keys_filter(&keys, (const unsigned char *)at, 1, out + total, &n);
			total += n;
		}
		out[total] = '\0';
		CHECK_EQ(detached, cases[i].detached);
		CHECK_STR((char *)out, cases[i].passed);
		/* All at once. */
		REQUIRE(keys_parse(cases[i].keys, &keys, NULL) == 0);
		detached = keys_filter(&keys, (const unsigned char *)cases[i].typed, strlen(cases[i].typed), out, &n);
		out[n] = '\0';
		CHECK_EQ(detached, cases[i].detached);
		CHECK_STR((char *)out, cases[i].passed);
	}
	static const char *const bad[] = {
	        "", "ctrl-", "ctrl-1", "ab", "a,", "ctrl-a,,", "escape", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct keys keys;
		struct wisp_error error;
		if (i == 4 || i == 5) /* a comma may be the last key */
			continue;
		CHECK_EQ(keys_parse(bad[i], &keys, &error), -EINVAL);
		CHECK_EQ(error.status, WISP_ERR_INVALID);
	}
}

static void log_lines(void)
{
	struct logline line = {0};
	static const char good[] = "{\"time\":\"2026-01-31T12:00:00.000000007Z\",\"session\":12,\"stream\":\"stdout\","
	                           "\"data\":\"a\\n\\\"\\\\\\u00e9"
	                           "\\ud83d\\ude00\\u0000z\"}";
	REQUIRE(logline_parse(good, sizeof(good) - 1, &line));
	CHECK_EQ(line.time_ns, 1769860800000000007ll);
	CHECK_EQ(line.session, 12);
	CHECK_STR(line.stream, "stdout");
	CHECK_EQ(line.data.length, 12);
	CHECK(memcmp(line.data.text, "a\n\"\\\xc3\xa9\xf0\x9f\x98\x80\0z", 12) == 0);
	static const char b64[] =
	        "{\"time\":\"2026-01-31T12:00:00Z\",\"session\":1,\"stream\":\"stderr\",\"data_b64\":\"/wD+YQ==\"}";
	REQUIRE(logline_parse(b64, sizeof(b64) - 1, &line));
	CHECK_EQ(line.data.length, 4);
	CHECK(memcmp(line.data.text,
	              "\xff\0\xfe"
	              "a",
	              4) == 0);
	static const char event[] = "{\"time\":\"2026-01-31T12:00:00.5Z\",\"session\":1,\"stream\":\"exited\",\"code\":"
	                            "3,\"signal\":0,\"timeout\":false}";
	REQUIRE(logline_parse(event, sizeof(event) - 1, &line));
	CHECK_STR(line.data.text, "code=3 signal=0 timeout=false");
	/* The guest's clock may say anything. */
	static const char late[] =
	        "{\"time\":\"3369-01-02T03:04:05.1Z\",\"session\":1,\"stream\":\"stdout\",\"data\":\"\"}";
	REQUIRE(logline_parse(late, sizeof(late) - 1, &line));
	CHECK_EQ(line.time_ns, INT64_MAX);
	static const char *const bad[] = {"", "{", "{}", "null", "{\"stream\":\"stdout\"", "{\"stream\":\"x\",}",
	        "{\"time\":\"never\",\"stream\":\"x\"}", "{\"stream\":\"\\x\"}", "{\"stream\":\"\\ud800\"}",
	        "{\"stream\":\"stdout\"} more", "[\"stream\"]", "{\"stream\":{}}"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!logline_parse(bad[i], strlen(bad[i]), &line));
	free(line.data.text);
}

static void add_line(char *text, size_t size, int number, const char *stream)
{
	size_t used = strlen(text);
	snprintf(text + used, size - used,
	        "{\"time\":\"2026-01-31T12:00:%02d.000000000Z\",\"session\":%d,\"stream\":\"%s\",\"data\":\"%d\"}\n",
	        number, number % 2 + 1, stream, number);
}

/* The records that options choose, as their data one after another. */
static void check_logs(struct fixture *f, const struct wisp_logs_options *options, const char *wanted)
{
	struct wisp_logs *logs;
	struct wisp_error error;
	const struct wisp_log_record *record;
	char got[256] = "";
	REQUIRE(wisp_open_logs(f->root, "box", options, &logs, &error) == 0);
	int r;
	while ((r = wisp_recv_log(logs, -1, &record, &error)) > 0) {
		size_t used = strlen(got);
		snprintf(got + used, sizeof(got) - used, "%.*s ", (int)record->length, (const char *)record->data);
	}
	CHECK_EQ(r, 0);
	CHECK_STR(got, wanted);
	wisp_close_logs(logs);
}

static void logs_are_chosen(void)
{
	struct fixture f;
	char old[2048] = "", new[2048] = "";
	REQUIRE(fixture_dir(&f, "cpus=1\n"));
	close(f.lock_fd);
	f.lock_fd = -1;
	for (int i = 0; i < 5; i++)
		add_line(old, sizeof(old), i, i == 4 ? "stderr" : "stdout");
	strcat(old, "nonsense\n");
	for (int i = 5; i < 8; i++)
		add_line(new, sizeof(new), i, i == 7 ? "exited" : "stdout");
	struct wisp_logs_options options = {.size = sizeof(options)};
	check_logs(&f, &options, "");
	write_file(f.dir, "exec.log.1", old);
	write_file(f.dir, "exec.log", new);
	check_logs(&f, NULL, "0 1 2 3 4 5 6 7 ");
	options.session = 2;
	check_logs(&f, &options, "1 3 5 7 ");
	options = (struct wisp_logs_options){.size = sizeof(options), .sources = WISP_LOG_STDERR | WISP_LOG_EVENTS};
	check_logs(&f, &options, "4 7 ");
	options = (struct wisp_logs_options){.size = sizeof(options), .tail = 2};
	check_logs(&f, &options, "6 7 ");
	options.sources = WISP_LOG_STDOUT;
	check_logs(&f, &options, "5 6 ");
	options.tail = 100;
	options.since_ns = 1769860803000000000ll;
	check_logs(&f, &options, "3 5 6 ");
	struct wisp_logs *logs;
	struct wisp_error error;
	CHECK_EQ(wisp_open_logs(f.root, "nobox", NULL, &logs, &error), -ENOENT);
	CHECK_EQ(error.status, WISP_ERR_NO_SANDBOX);
	fixture_end(&f);
}

/* A monitor that writes, starts a new file, writes, and ends. */
static void logs_are_followed(void)
{
	struct fixture f;
	struct wisp_logs *logs;
	struct wisp_error error;
	const struct wisp_log_record *record;
	char text[512] = "", path[128], moved[128];
	REQUIRE(fixture_dir(&f, "cpus=1\n"));
	snprintf(path, sizeof(path), "%s/exec.log", f.dir);
	snprintf(moved, sizeof(moved), "%s/exec.log.1", f.dir);
	struct wisp_logs_options options = {.size = sizeof(options), .follow = true};
	REQUIRE(wisp_open_logs(f.root, "box", &options, &logs, &error) == 0);
	CHECK_EQ(wisp_recv_log(logs, 0, &record, &error), -EAGAIN);
	for (int i = 1; i < 4; i++) {
		text[0] = '\0';
		add_line(text, sizeof(text), i, "stdout");
		if (i == 3)
			CHECK_EQ(rename(path, moved), 0);
		FILE *file = fopen(path, "a");
		REQUIRE(file);
		/* In two writes: half a line is no record. */
		fwrite(text, 1, 20, file);
		fflush(file);
		CHECK_EQ(wisp_recv_log(logs, 20, &record, &error), -EAGAIN);
		fputs(text + 20, file);
		fclose(file);
		struct pollfd pfd = {.fd = wisp_get_logs_fd(logs), .events = POLLIN};
		CHECK_EQ(poll(&pfd, 1, 5000), 1);
		REQUIRE(wisp_recv_log(logs, 5000, &record, &error) == 1);
		CHECK_EQ(record->data[0], '0' + i);
		CHECK_EQ(strlen(record->line), strlen(text) - 1);
	}
	text[0] = '\0';
	add_line(text, sizeof(text), 9, "stdout");
	FILE *file = fopen(path, "a");
	REQUIRE(file);
	fputs(text, file);
	fclose(file);
	close(f.lock_fd);
	f.lock_fd = -1;
	CHECK_EQ(wisp_recv_log(logs, 5000, &record, &error), 1);
	CHECK_EQ(wisp_recv_log(logs, 5000, &record, &error), 0);
	wisp_close_logs(logs);
	fixture_end(&f);
}

/* Whoever follows a log can stop, and go on. */
static void following_is_cancelled(void)
{
	struct fixture f;
	struct wisp_logs *logs;
	struct wisp_error error;
	const struct wisp_log_record *record;
	char text[512] = "";
	int fd = eventfd(1, EFD_CLOEXEC);
	struct wisp_cancel cancel = {.size = sizeof(cancel), .fd = &fd};
	struct wisp_logs_options options = {.size = sizeof(options), .follow = true, .cancel = &cancel};
	eventfd_t value;
	REQUIRE(fixture_dir(&f, "cpus=1\n"));
	REQUIRE(wisp_open_logs(f.root, "box", &options, &logs, &error) == 0);
	CHECK_EQ(wisp_recv_log(logs, -1, &record, &error), -ECANCELED);
	CHECK_EQ(error.status, WISP_ERR_CANCELLED);
	CHECK_EQ(eventfd_read(fd, &value), 0);
	add_line(text, sizeof(text), 1, "stdout");
	write_file(f.dir, "exec.log", text);
	CHECK_EQ(wisp_recv_log(logs, -1, &record, &error), 1);
	wisp_close_logs(logs);
	close(fd);
	fixture_end(&f);
}

/* ---- Rotations while a log is opened ---- */

/* What the monitor does at the opens of the reader. The library's calls of openat come here. */
static struct {
	char log[128], old[128], fresh[128];
	int at;    /* the reader's open before which it does something; 0: none */
	int steps; /* how much it does: two steps are a rotation */
	int done, opens, number;
} rotation;

static void add_record(const char *path)
{
	char text[256] = "";
	add_line(text, sizeof(text), rotation.number++, "stdout");
	FILE *file = fopen(path, "a");
	if (!file || fputs(text, file) < 0 || fclose(file) != 0)
		abort();
}

/* As in vmm/monitor/logfile.c, with a record after each step. */
static void take_step(void)
{
	if (rotation.done++ % 2 == 0) {
		if (link(rotation.log, rotation.fresh) < 0 || rename(rotation.fresh, rotation.old) < 0)
			abort();
	} else {
		int fd = creat(rotation.fresh, 0600);
		if (fd < 0)
			abort();
		close(fd);
		if (rename(rotation.fresh, rotation.log) < 0)
			abort();
	}
	add_record(rotation.log);
}

int openat(int dir_fd, const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	int mode = flags & O_CREAT ? va_arg(args, int) : 0;
	va_end(args);
	if (strncmp(path, "exec.log", 8) == 0 && ++rotation.opens == rotation.at) {
		for (int i = 0; i < rotation.steps; i++)
			take_step();
	}
	return (int)syscall(SYS_openat, dir_fd, path, flags, mode);
}

/* Whatever the monitor does meanwhile, a record is read once, and none is left out behind the first. */
static void rotations_while_opening(void)
{
	for (int at = 1; at <= 3; at++) {
		for (int steps = 0; steps <= 4; steps++) {
			struct fixture f;
			struct wisp_logs *logs;
			struct wisp_error error;
			const struct wisp_log_record *record;
			int expected = -1, r;
			struct wisp_logs_options options = {.size = sizeof(options), .follow = true};
			REQUIRE(fixture_dir(&f, "cpus=1\n"));
			flock(f.lock_fd, LOCK_UN);
			memset(&rotation, 0, sizeof(rotation));
			snprintf(rotation.log, sizeof(rotation.log), "%s/exec.log", f.dir);
			snprintf(rotation.old, sizeof(rotation.old), "%s/exec.log.1", f.dir);
			snprintf(rotation.fresh, sizeof(rotation.fresh), "%s/exec.log.new", f.dir);
			add_record(rotation.old);
			add_record(rotation.log);
			rotation.at = at;
			rotation.steps = steps;
			REQUIRE(wisp_open_logs(f.root, "box", &options, &logs, &error) == 0);
			rotation.at = 0;
			if (at == 3) { /* after both */
				for (int i = 0; i < steps; i++)
					take_step();
			}
			while ((r = wisp_recv_log(logs, -1, &record, &error)) > 0) {
				int number = atoi((const char *)record->data);
				if (expected < 0)
					CHECK(number <= 1 || (at == 1 && steps > 2));
				else
					CHECK_EQ(number, expected);
				expected = number + 1;
			}
			CHECK_EQ(r, 0);
			CHECK_EQ(expected, rotation.number);
			if (test_failed)
				printf("# before open %d, %d steps\n", at, steps);
			wisp_close_logs(logs);
			fixture_end(&f);
		}
	}
}

static void names_of_numbers(void)
{
	CHECK_STR(wisp_get_status_name(WISP_ERR_TIMEOUT), "timeout");
	CHECK_STR(wisp_get_failure_name(WISP_FAILURE_BAD_CWD), "bad_cwd");
	CHECK_STR(wisp_get_stage_name(WISP_STAGE_RLIMIT), "rlimit");
	CHECK_STR(wisp_get_end_name(WISP_END_TRIPLE_FAULT), "triple-fault");
	CHECK_STR(wisp_get_errno_name(ENOENT), "ENOENT");
	CHECK_STR(wisp_get_errno_name(0), "");
	CHECK_STR(wisp_get_errno_name(99999), "");
	CHECK_STR(wisp_get_status_name((enum wisp_status)999), "unknown");
	for (int i = WISP_OK; i <= WISP_ERR_REFUSED; i++)
		CHECK(strcmp(wisp_get_status_name((enum wisp_status)i), "unknown") != 0);
}

static void version(void)
{
	char text[32];
	snprintf(text, sizeof(text), "%d.%d.%d", WISP_VERSION_MAJOR, WISP_VERSION_MINOR, WISP_VERSION_PATCH);
	CHECK_STR(wisp_get_version(), text);
	CHECK_EQ(WISP_VERSION_NUMBER / 1000000, WISP_VERSION_MAJOR);
	CHECK_EQ(WISP_VERSION_NUMBER / 1000 % 1000, WISP_VERSION_MINOR);
	CHECK_EQ(WISP_VERSION_NUMBER % 1000, WISP_VERSION_PATCH);
}

/* The monitor's last line, as the library understands it. */
static void end_reasons(void)
{
	struct state state;
	for (int end = WISP_END_UNKNOWN; end <= WISP_END_IDLE_TIMEOUT; end++) {
		char line[64];
		snprintf(line, sizeof(line), "exit %s some words\n", wisp_get_end_name((enum wisp_end)end));
		state_parse(line, &state);
		CHECK_EQ(state.kind, STATE_EXIT);
		CHECK_EQ(state.end, end);
		CHECK_STR(state.text, "some words");
		free(state.text);
	}
	/* The guest's words have no escape sequences. */
	state_parse("exit panic \x1b[2J\xc2\x9b\xff\x7f caf\xc3\xa9\nmore", &state);
	CHECK_STR(state.text, "?[2J??? caf\xc3\xa9");
	free(state.text);
	state_parse("exit panics x", &state);
	CHECK_EQ(state.end, WISP_END_UNKNOWN);
	free(state.text);
	CHECK_STR(wisp_get_end_name((enum wisp_end) - 1), "unknown");
	CHECK_STR(wisp_get_end_name((enum wisp_end)99), "unknown");
}

static void layers_of_the_jail(void)
{
	struct state state;
	state_parse("ready jail=0x3f engine=2\n", &state);
	CHECK_EQ(state.kind, STATE_READY);
	CHECK_EQ(state.jail, WISP_LAYER_ALL);
	CHECK_EQ(state.engine, WISP_ENGINE_EPOLL);
	state_parse("paused jail=0x10 engine=1\n", &state);
	CHECK_EQ(state.kind, STATE_PAUSED);
	CHECK_EQ(state.jail, WISP_LAYER_SECCOMP);
	CHECK_EQ(state.engine, WISP_ENGINE_IO_URING);
	state_parse("ready jail=0x10 engine=3\n", &state);
	CHECK_EQ(state.engine, WISP_ENGINE_AUTO);
	state_parse("ready\n", &state); /* by an older monitor */
	CHECK_EQ(state.jail, 0);
	CHECK_EQ(state.engine, WISP_ENGINE_AUTO);
	state_parse("exit panic jail=0x10 engine=1\n", &state); /* the guest's words */
	CHECK_EQ(state.jail, 0);
	CHECK_EQ(state.engine, WISP_ENGINE_AUTO);
	free(state.text);
	CHECK_STR(wisp_get_layer_name(WISP_LAYER_SECCOMP), "seccomp");
	CHECK(wisp_get_layer_name(WISP_LAYER_ALL) == NULL);
	for (unsigned layer = 1; layer & WISP_LAYER_ALL; layer <<= 1)
		CHECK(wisp_get_layer_name((enum wisp_jail_layer)layer) != NULL);
}

TEST_MAIN("lib_files", {"utf8", utf8}, {"printable", printable}, {"config_survives", config_survives},
        {"disks_of_old_configs", disks_of_old_configs}, {"strange_configs", strange_configs},
        {"detach_keys", detach_keys}, {"log_lines", log_lines}, {"logs_are_chosen", logs_are_chosen},
        {"logs_are_followed", logs_are_followed}, {"following_is_cancelled", following_is_cancelled},
        {"rotations_while_opening", rotations_while_opening}, {"names_of_numbers", names_of_numbers},
        {"version", version}, {"end_reasons", end_reasons}, {"layers_of_the_jail", layers_of_the_jail})
