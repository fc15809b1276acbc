/* SPDX-License-Identifier: Apache-2.0 */
/* Callers of other versions of wisp.h, whose structures are smaller or larger; and what a handle knows. */
#include "tests/unit/test_place.h"

/* Two files to be disks. */
struct disks {
	char path[2][80];
};

static bool make_disks(struct place *p, struct disks *disks)
{
	if (!make_place(p))
		return false;
	for (int i = 0; i < 2; i++) {
		snprintf(disks->path[i], sizeof(disks->path[i]), "%s/disk%d", p->dir, i);
		write_file(p->dir, i ? "disk1" : "disk0", "data");
	}
	return true;
}

/* The disks that the monitor is told of. */
static bool described(struct place *p, struct description *d)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	char path[PATH_MAX];
	if (wisp_create_sandbox(&p->options, &sandbox, &error) < 0) {
		printf("# %s\n", error.message);
		return false;
	}
	snprintf(path, sizeof(path), "%s/description", wisp_get_sandbox_dir(sandbox));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, d, sizeof(*d)) : -1;
	if (fd >= 0)
		close(fd);
	wisp_close_sandbox(sandbox);
	return n == (ssize_t)sizeof(*d);
}

static void set_disks(struct place *p, const void *disks, size_t size)
{
	/* The cast stands for a program that was compiled with another version of the header. */
	p->options.disks = (const struct wisp_disk *)disks;
	p->options.disk_count = 2;
	p->options.disk_size = size;
}

static void older_and_newer_disks(void)
{
	struct older {
		const char *path;
	};
	struct newer {
		struct wisp_disk disk;
		uint64_t more;
	};
	struct place p;
	struct disks disks;
	struct description d;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	REQUIRE(make_disks(&p, &disks));
	struct older older[] = {{disks.path[0]}, {disks.path[1]}};
	_Static_assert(sizeof(struct older) < sizeof(struct wisp_disk), "it is older");
	set_disks(&p, older, sizeof(older[0]));
	REQUIRE(described(&p, &d));
	CHECK_EQ(d.disk_count, 3);
	CHECK(!d.disk[1].read_only && !d.disk[2].read_only);
	CHECK_EQ(d.disk[2].cache, WISP_CACHE_WRITEBACK);
	struct newer newer[] = {{.disk = {.path = disks.path[0], .cache = WISP_CACHE_UNSAFE}},
	        {.disk = {.path = disks.path[1], .read_only = true}}};
	set_disks(&p, newer, sizeof(newer[0]));
	REQUIRE(described(&p, &d));
	CHECK(!d.disk[1].read_only && d.disk[2].read_only);
	CHECK_EQ(d.disk[1].cache, WISP_CACHE_UNSAFE);
	/* What this library does not know must not be asked for. */
	newer[1].more = 1;
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -EINVAL);
	CHECK(strstr(error.message, "wisp_disk") && strstr(error.message, "use a newer libwisp"));
	static const size_t bad[] = {0, 1, 65537, SIZE_MAX};
	for (size_t i = 0; i < 4; i++) {
		p.options.disk_size = bad[i];
		CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), -EINVAL);
		CHECK(strstr(error.message, "wisp_disk"));
	}
	end_place(&p, 0);
}

static void older_and_newer_rlimits(void)
{
	struct newer {
		struct wisp_rlimit limit;
		uint64_t more;
	} limits[] = {{.limit = {"nofile", 77, 88}}, {.limit = {"core", 0, 0}}};
	const char *argv[] = {"sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c", NULL};
	struct fixture f;
	struct wisp_error error;
	struct wisp_output *output;
	REQUIRE(fixture_start(&f, ""));
	struct wisp_exec_options options = {.size = sizeof(options),
	        .rlimits = (const struct wisp_rlimit *)(const void *)limits,
	        .rlimit_count = 2,
	        .rlimit_size = sizeof(limits[0])};
	CHECK_EQ(wisp_exec(f.sandbox, argv, &options, &output, &error), 0);
	CHECK_STR(output ? (const char *)output->stdout_data : "", "77\n88\n0\n");
	wisp_free_output(output);
	limits[1].more = 1;
	CHECK_EQ(wisp_exec(f.sandbox, argv, &options, &output, &error), -EINVAL);
	CHECK(strstr(error.message, "wisp_rlimit") && strstr(error.message, "use a newer libwisp"));
	/* Without `hard`, which is then 0. */
	options.rlimit_size = offsetof(struct wisp_rlimit, hard);
	options.rlimit_count = 1;
	CHECK_EQ(wisp_exec(f.sandbox, argv, &options, &output, &error), -EINVAL);
	CHECK(strstr(error.message, "above the hard limit 0"));
	options.rlimit_size = 0;
	CHECK_EQ(wisp_exec(f.sandbox, argv, &options, &output, &error), -EINVAL);
	CHECK(strstr(error.message, "wisp_rlimit"));
	fixture_end(&f);
}

/* Descriptor 0 is one like any other. */
static void console_on_descriptor_0(void)
{
	struct place p;
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	int ends[2], saved = fcntl(0, F_DUPFD_CLOEXEC, 10);
	static const int zero = 0;
	REQUIRE(make_place(&p) && pipe2(ends, O_CLOEXEC) == 0 && dup2(ends[1], 0) == 0);
	p.options.console = true;
	p.options.console_fd = &zero;
	CHECK_EQ(wisp_create_sandbox(&p.options, &sandbox, &error), 0);
	/* The monitor has it as its standard error, while we have it twice. */
	char link[64], own[64], path[64];
	struct wisp_sandbox_info *info;
	REQUIRE(wisp_inspect_sandbox(p.root, "box", &info, &error) == 0);
	snprintf(path, sizeof(path), "/proc/%d/fd/2", info->pid);
	ssize_t n = readlink(path, link, sizeof(link) - 1), m = readlink("/proc/self/fd/0", own, sizeof(own) - 1);
	CHECK(n > 0 && n == m && memcmp(link, own, (size_t)n) == 0);
	wisp_free_sandbox_info(info);
	wisp_close_sandbox(sandbox);
	if (saved >= 0) {
		dup2(saved, 0);
		close(saved);
	}
	close(ends[0]);
	close(ends[1]);
	end_place(&p, 0);
}

/* What does not start has an id: that of its line in exec.log, which no session gets. */
static void what_failed_has_an_id(void)
{
	const char *missing[] = {"/no/such/program", NULL}, *argv[] = {"true", NULL};
	struct fixture f;
	struct wisp_error error;
	struct wisp_session *session;
	const struct wisp_event *event;
	uint64_t id, failed = 0;
	uint32_t pid;
	REQUIRE(fixture_start(&f, ""));
	REQUIRE(wisp_exec_stream(f.sandbox, missing, NULL, &session, &error) == 0);
	CHECK_EQ(wisp_get_session_pid(session, &pid, &error), -ENOENT);
	CHECK_EQ(wisp_recv_event(session, -1, &event, &error), 0);
	CHECK_EQ(event->type, WISP_EVENT_FAILED);
	failed = event->id;
	CHECK(failed > 0);
	wisp_close_session(session);
	CHECK_EQ(wisp_open_session(f.sandbox, failed, NULL, &session, &error), -ENOENT);
	REQUIRE(wisp_exec_stream(f.sandbox, argv, NULL, &session, &error) == 0);
	CHECK_EQ(wisp_get_session_id(session, &id, &error), 0);
	CHECK_EQ(id, failed + 1);
	wisp_close_session(session);
	fixture_end(&f);
}

static void what_a_session_knows(void)
{
	const char *argv[] = {"sh", "-c", "echo $$; echo ${TERM:-none}; cat", NULL};
	struct fixture f;
	struct wisp_error error;
	struct wisp_session *session, *again;
	struct wisp_session_info **list;
	uint64_t id;
	uint32_t pid, other;
	REQUIRE(fixture_start(&f, ""));
	for (int tty = 0; tty < 2; tty++) {
		struct wisp_exec_options options = {.size = sizeof(options), .tty = tty, .stdin_mode = WISP_STDIN_PIPE};
		REQUIRE(wisp_exec_stream(f.sandbox, argv, &options, &session, &error) == 0);
		CHECK_EQ(wisp_session_has_tty(session), tty);
		CHECK_EQ(wisp_get_session_pid(session, &pid, &error), 0);
		REQUIRE(wisp_get_session_id(session, &id, &error) == 0);
		REQUIRE(wisp_list_sessions(f.sandbox, &list, &error) == tty + 1);
		CHECK_EQ(list[tty]->pid, pid);
		wisp_free_session_list(list);
		/* By another's handle. */
		REQUIRE(wisp_open_session(f.sandbox, id, NULL, &again, &error) == 0);
		CHECK_EQ(wisp_session_has_tty(again), tty);
		CHECK_EQ(wisp_get_session_pid(again, &other, &error), 0);
		CHECK_EQ(other, pid);
		wisp_close_session(again);
		wisp_kill_session(session, &error);
		struct wisp_output *output;
		char text[64];
		snprintf(text, sizeof(text), tty ? "%u\r\nxterm-256color\r\n" : "%u\nnone\n", pid);
		CHECK_EQ(wisp_collect_output(session, &output, &error), 0);
		if (output && output->stdout_length > 0)
			CHECK(strncmp(text, (const char *)output->stdout_data, output->stdout_length) == 0);
		wisp_free_output(output);
		wisp_close_session(session);
	}
	fixture_end(&f);
}

static void what_a_sandbox_knows(void)
{
	struct place p;
	struct wisp_sandbox *sandbox, *other;
	struct wisp_error error;
	enum wisp_sandbox_state state;
	REQUIRE(make_place(&p));
	set_kernel(&p, "fake-hang");
	p.options.no_wait = true;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_get_sandbox_state(sandbox, &state, &error), 0);
	CHECK_EQ(state, WISP_SANDBOX_BOOTING);
	wisp_close_sandbox(sandbox);
	set_kernel(&p, "fake-ready");
	p.options.no_wait = false;
	p.options.detach = true;
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	REQUIRE(wisp_open_sandbox(p.root, "box", &other, &error) == 0);
	CHECK_EQ(wisp_get_sandbox_state(other, &state, &error), 0);
	CHECK_EQ(state, WISP_SANDBOX_RUNNING);
	CHECK_EQ(wisp_stop_sandbox(sandbox, 0, &error), 0);
	wisp_close_sandbox(sandbox);
	/* Another one has its name: that is not what the handle is asked about. */
	REQUIRE(wisp_create_sandbox(&p.options, &sandbox, &error) == 0);
	CHECK_EQ(wisp_get_sandbox_state(other, &state, &error), 0);
	CHECK_EQ(state, WISP_SANDBOX_STOPPED);
	wisp_close_sandbox(other);
	CHECK_EQ(wisp_kill_sandbox(sandbox, &error), 0);
	CHECK_EQ(wisp_get_sandbox_state(sandbox, &state, &error), 0);
	CHECK_EQ(state, WISP_SANDBOX_STOPPED);
	wisp_close_sandbox(sandbox);
	end_place(&p, 0);
}

/* It is the caller's: programs that were compiled with an older header have given it this much room. */
_Static_assert(sizeof(struct wisp_exit_status) == 32, "its size never changes");
_Static_assert(sizeof(struct wisp_error) == 1040, "its size never changes");

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {{"older_and_newer_disks", older_and_newer_disks},
	        {"older_and_newer_rlimits", older_and_newer_rlimits},
	        {"console_on_descriptor_0", console_on_descriptor_0}, {"what_failed_has_an_id", what_failed_has_an_id},
	        {"what_a_session_knows", what_a_session_knows}, {"what_a_sandbox_knows", what_a_sandbox_knows}};
	fake_vmm_main(argc, argv);
	return test_main("lib_abi", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
