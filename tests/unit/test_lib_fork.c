/* SPDX-License-Identifier: Apache-2.0 */
/* Clones, made by the fake monitor of test_lib.h, which really forks; and monitors that answer anything. */
#include <pthread.h>
#include <sys/eventfd.h>

#include "tests/unit/test_place.h"

static void expect(int got, int wanted, const struct wisp_error *error, const char *word)
{
	if (got != wanted || (wanted < 0 && !strstr(error->message, word)))
		printf("# %d: %s\n", got, got < 0 ? error->message : "");
	CHECK_EQ(got, wanted);
	CHECK(wanted == 0 || strstr(error->message, word));
}

static void read_description(const struct wisp_sandbox *sandbox, struct description *d)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/description", wisp_get_sandbox_dir(sandbox));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, d, sizeof(*d)) != (ssize_t)sizeof(*d))
		memset(d, 0, sizeof(*d));
	close(fd);
}

static bool runs(struct wisp_sandbox *sandbox)
{
	const char *argv[] = {"sh", "-c", "echo $A $PWD", NULL};
	struct wisp_output *output;
	struct wisp_error error;
	if (wisp_exec(sandbox, argv, NULL, &output, &error) < 0) {
		printf("# %s\n", error.message);
		return false;
	}
	bool good = strcmp((const char *)output->stdout_data, "1 /tmp\n") == 0;
	wisp_free_output(output);
	return good;
}

/* A source with what its clones inherit. */
static bool start(struct place *p, struct wisp_sandbox **source)
{
	static const char *env[] = {"A=1", NULL};
	struct wisp_error error;
	if (!make_place(p))
		return false;
	p->options.env = env;
	p->options.workdir = "/tmp";
	p->options.memory_mib = 96;
	if (wisp_create_sandbox(&p->options, source, &error) == 0)
		return true;
	printf("# %s\n", error.message);
	return false;
}

static void one_clone(void)
{
	struct place p;
	struct wisp_sandbox *source, *clone;
	struct wisp_error error;
	struct description d;
	struct wisp_fork_options options = {.size = sizeof(options), .name = "twin"};
	REQUIRE(start(&p, &source));
	expect(wisp_fork_sandbox(source, 1, &options, &clone, &error), 0, &error, "");
	REQUIRE(clone);
	CHECK_STR(wisp_get_sandbox_name(clone), "twin");
	CHECK_EQ(wisp_get_pause_us(source), 1234);
	read_description(clone, &d);
	CHECK_EQ(d.flags, DESCRIPTION_FORK | DESCRIPTION_IMAGE | DESCRIPTION_EPHEMERAL);
	CHECK_EQ(d.memory_mib, 96);
	CHECK_EQ(d.disk_count, 1);
	CHECK_STR(d.hostname, "twin");
	CHECK(runs(clone) && runs(source));
	/* The source's end is not the clone's. */
	wisp_close_sandbox(source);
	CHECK(runs(clone));
	/* A clone of a clone, with a random name. */
	struct wisp_sandbox *third;
	expect(wisp_fork_sandbox(clone, 1, NULL, &third, &error), 0, &error, "");
	CHECK(third && strncmp(wisp_get_sandbox_name(third), "wisp-", 5) == 0 && runs(third));
	wisp_close_sandbox(clone);
	CHECK(runs(third));
	CHECK_EQ(wisp_stop_sandbox(third, 0, &error), 0);
	wisp_close_sandbox(third);
	end_place(&p, 0);
}

static void many_clones(void)
{
	struct place p;
	struct wisp_sandbox *source, *clones[6];
	struct wisp_error error;
	struct wisp_sandbox_info **list;
	enum wisp_sandbox_state state;
	struct wisp_fork_options options = {.size = sizeof(options), .name = "c", .detach = true, .keep = true};
	REQUIRE(start(&p, &source));
	int fds = count_entries("/proc/self/fd");
	expect(wisp_fork_sandbox(source, 6, &options, clones, &error), 0, &error, "");
	CHECK(wisp_get_pause_us(source) > 0);
	CHECK_EQ(wisp_list_sandboxes(p.root, &list, &error), 7);
	CHECK_STR(list[1]->name, "c-1");
	CHECK_STR(list[6]->name, "c-6");
	CHECK(list[6]->detach && list[6]->keep && list[6]->pid > 1 && list[6]->pid != list[0]->pid);
	wisp_free_sandbox_list(list);
	CHECK_EQ(wisp_get_sandbox_state(source, &state, &error), 0);
	CHECK_EQ(state, WISP_SANDBOX_RUNNING);
	for (size_t i = 0; i < 6; i++)
		wisp_close_sandbox(clones[i]);
	CHECK_EQ(count_entries("/proc/self/fd"), fds);
	for (size_t i = 1; i <= 6; i++) {
		char name[8];
		snprintf(name, sizeof(name), "c-%zu", i);
		REQUIRE(wisp_open_sandbox(p.root, name, &clones[0], &error) == 0);
		CHECK(runs(clones[0]));
		CHECK_EQ(wisp_kill_sandbox(clones[0], &error), 0);
		wisp_close_sandbox(clones[0]);
		CHECK_EQ(wisp_remove_sandbox(p.root, name, &error), 0);
	}
	/* A paused source stays paused. */
	const char *names[] = {"x", "y"};
	options = (struct wisp_fork_options){.size = sizeof(options), .names = names, .hostname = "both"};
	CHECK_EQ(wisp_pause_sandbox(source, &error), 0);
	expect(wisp_fork_sandbox(source, 2, &options, clones, &error), 0, &error, "");
	CHECK_EQ(wisp_get_sandbox_state(source, &state, &error), 0);
	CHECK_EQ(state, WISP_SANDBOX_PAUSED);
	struct description d;
	read_description(clones[1], &d);
	CHECK_STR(d.hostname, "both");
	wisp_close_sandbox(clones[0]);
	wisp_close_sandbox(clones[1]);
	wisp_close_sandbox(source);
	end_place(&p, 0);
}

static void all_or_none(void)
{
	struct place p;
	struct wisp_sandbox *source, *taken, *clones[4];
	struct wisp_error error;
	enum wisp_sandbox_state state;
	struct wisp_fork_options options = {.size = sizeof(options), .name = "c"};
	REQUIRE(start(&p, &source));
	/* The last of four. */
	p.options.name = "c-4";
	REQUIRE(wisp_create_sandbox(&p.options, &taken, &error) == 0);
	for (int detach = 0; detach < 2; detach++) {
		options.detach = options.keep = detach;
		expect(wisp_fork_sandbox(source, 4, &options, clones, &error), -EEXIST, &error, "c-4");
		CHECK_EQ(error.status, WISP_ERR_NAME_TAKEN);
		for (size_t i = 0; i < 4; i++)
			CHECK(!clones[i]);
		CHECK_EQ(count_entries(p.root), 2);
		for (int tries = 0; tries < 1000; tries++) {
			CHECK_EQ(wisp_get_sandbox_state(source, &state, &error), 0);
			if (state == WISP_SANDBOX_RUNNING)
				break;
			sleep_ms(10);
		}
		CHECK_EQ(state, WISP_SANDBOX_RUNNING);
	}
	wisp_close_sandbox(taken);
	/* Given up. */
	int fd = eventfd(1, EFD_CLOEXEC);
	struct wisp_cancel cancel = {.size = sizeof(cancel), .fd = &fd};
	options.cancel = &cancel;
	expect(wisp_fork_sandbox(source, 4, &options, clones, &error), -ECANCELED, &error, "cancelled");
	expect(wisp_fork_sandbox(source, 1, &options, clones, &error), -ECANCELED, &error, "cancelled");
	CHECK_EQ(count_entries(p.root), 1);
	close(fd);
	wisp_close_sandbox(source);
	end_place(&p, 0);
}

static void bad_requests(void)
{
	struct place p;
	struct wisp_sandbox *source, *clones[2];
	struct wisp_error error;
	const char *names[] = {"good", "B A D"};
	char name[64];
	REQUIRE(start(&p, &source));
	expect(wisp_fork_sandbox(source, 0, NULL, clones, &error), -EINVAL, &error, "make 1 to 1000");
	expect(wisp_fork_sandbox(source, 10000, NULL, clones, &error), -EINVAL, &error, "10000 clones");
	struct wisp_fork_options options = {.size = sizeof(options), .name = "a", .names = names};
	expect(wisp_fork_sandbox(source, 2, &options, clones, &error), -EINVAL, &error, "omit one");
	options.name = NULL;
	expect(wisp_fork_sandbox(source, 2, &options, clones, &error), -EINVAL, &error, "not a name");
	/* With its number, it is too long. */
	memset(name, 'a', 63);
	name[63] = '\0';
	options = (struct wisp_fork_options){.size = sizeof(options), .name = name};
	expect(wisp_fork_sandbox(source, 2, &options, clones, &error), -EINVAL, &error, "longer than 63");
	options = (struct wisp_fork_options){.size = sizeof(options), .hostname = "a b"};
	expect(wisp_fork_sandbox(source, 1, &options, clones, &error), -EINVAL, &error, "host name");
	CHECK_EQ(count_entries(p.root), 1);
	CHECK_EQ(wisp_stop_sandbox(source, 0, &error), 0);
	expect(wisp_fork_sandbox(source, 1, NULL, clones, &error), -ESRCH, &error, "not running");
	wisp_close_sandbox(source);
	end_place(&p, 0);
}

static void disks_of_clones(void)
{
	struct place p;
	struct wisp_sandbox *source, *clones[2];
	struct wisp_error error;
	struct description d;
	char disk[128], other[128], text[32];
	REQUIRE(make_place(&p));
	snprintf(disk, sizeof(disk), "%s/disk", p.dir);
	snprintf(other, sizeof(other), "%s/other", p.dir);
	write_file(p.dir, "disk", "written");
	write_file(p.dir, "other", "read");
	struct wisp_disk disks[] = {{.path = disk, .cache = WISP_CACHE_UNSAFE}, {.path = other, .read_only = true}};
	p.options.disks = disks;
	p.options.disk_count = 2;
	REQUIRE(wisp_create_sandbox(&p.options, &source, &error) == 0);
	struct wisp_fork_options options = {.size = sizeof(options), .name = "c"};
	expect(wisp_fork_sandbox(source, 2, &options, clones, &error), -EBUSY, &error, disk);
	options.copy_disks = true;
	expect(wisp_fork_sandbox(source, 2, &options, clones, &error), 0, &error, "");
	REQUIRE(clones[0] && clones[1]);
	for (size_t i = 0; i < 2; i++) {
		read_description(clones[i], &d);
		CHECK_EQ(d.disk_count, 3);
		CHECK(d.disk[0].read_only && !d.disk[1].read_only && d.disk[2].read_only);
		CHECK_EQ(d.disk[1].cache, WISP_CACHE_UNSAFE);
		read_text(wisp_get_sandbox_dir(clones[i]), "disk1.img", text, sizeof(text));
		CHECK_STR(text, "written");
	}
	/* A clone's clone copies the clone's copy. */
	struct wisp_sandbox *third;
	write_file(wisp_get_sandbox_dir(clones[1]), "disk1.img", "mine");
	options.name = "third";
	expect(wisp_fork_sandbox(clones[1], 1, &options, &third, &error), 0, &error, "");
	REQUIRE(third);
	read_text(wisp_get_sandbox_dir(third), "disk1.img", text, sizeof(text));
	CHECK_STR(text, "mine");
	wisp_close_sandbox(third);
	wisp_close_sandbox(clones[0]);
	wisp_close_sandbox(clones[1]);
	/* The path is another file's by now. */
	unlink(other);
	write_file(p.dir, "other", "read");
	expect(wisp_fork_sandbox(source, 1, &options, &third, &error), -ESTALE, &error, "another file");
	wisp_close_sandbox(source);
	end_place(&p, 0);
}

/* ---- Monitors that are not what they should be ---- */

struct liar {
	int listener;
	const void *bytes;
	size_t length;
};

static void *lie(void *opaque)
{
	const struct liar *liar = opaque;
	struct manage_request request;
	int file, fd = accept4(liar->listener, NULL, NULL, SOCK_CLOEXEC);
	fake_receive(fd, &request, &file);
	if (file >= 0)
		close(file);
	if (liar->length > 0 && send(fd, liar->bytes, liar->length, MSG_NOSIGNAL) < 0)
		abort();
	close(fd);
	return NULL;
}

static void hostile_replies(void)
{
	const struct manage_reply good = {.magic = MANAGE_MAGIC, .version = MANAGE_VERSION};
	struct manage_reply version = good, magic = good, positive = good, huge = good, endless = good, escapes = good;
	version.version++;
	magic.magic++;
	positive.error = 5;
	huge.error = -5000;
	endless.error = -EIO;
	memset(endless.text, 'a', sizeof(endless.text));
	escapes.error = -EIO;
	snprintf(escapes.text, sizeof(escapes.text), "\033[31mred\nline");
	const struct {
		const void *bytes;
		size_t length;
		int ret;
		const char *word;
	} cases[] = {
	        {&good, 0, -ECONNRESET, "hung up"},
	        {&good, 20, -ECONNRESET, "hung up"},
	        {&version, sizeof(good), -EPROTO, "of another version"},
	        {&magic, sizeof(good), -EPROTO, "violated the protocol"},
	        {&positive, sizeof(good), -EPROTO, "violated the protocol"},
	        {&huge, sizeof(good), -EPROTO, "violated the protocol"},
	        {&endless, sizeof(good), -EPROTO, "violated the protocol"},
	        {&escapes, sizeof(good), -EIO, "cannot pause the sandbox 'box': ?[31mred line"},
	};
	struct fixture f;
	struct wisp_error error;
	char file[128];
	REQUIRE(fixture_dir(&f, "cpus=1\nmemory_mib=64\ndisk=ro /dev/null\n"));
	REQUIRE(wisp_open_sandbox(f.root, "box", &f.sandbox, &error) == 0);
	expect(wisp_pause_sandbox(f.sandbox, &error), -ESRCH, &error, "not running");
	struct liar liar = {.listener = fake_listen(f.dir)};
	pthread_t thread;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		liar.bytes = cases[i].bytes;
		liar.length = cases[i].length;
		REQUIRE(pthread_create(&thread, NULL, lie, &liar) == 0);
		expect(wisp_pause_sandbox(f.sandbox, &error), cases[i].ret, &error, cases[i].word);
		pthread_join(thread, NULL);
		CHECK(!strchr(error.message, '\n') && !strchr(error.message, '\033'));
	}
	/* It says that it has written a snapshot. */
	snprintf(file, sizeof(file), "%s/file", f.root);
	struct manage_reply nothing = good;
	nothing.layout = (struct snapshot_layout){.state_size = 1,
	        .extents_offset = SNAPSHOT_HEAD_SIZE + SNAPSHOT_PAGE,
	        .data_offset = SNAPSHOT_HEAD_SIZE + SNAPSHOT_PAGE};
	for (int i = 0; i < 2; i++) {
		liar.bytes = i ? &nothing : &good;
		liar.length = sizeof(good);
		REQUIRE(pthread_create(&thread, NULL, lie, &liar) == 0);
		expect(wisp_snapshot_sandbox(f.sandbox, file, NULL, &error), -EPROTO, &error, "invalid snapshot");
		pthread_join(thread, NULL);
		CHECK_EQ(access(file, F_OK), -1);
	}
	close(liar.listener);
	fixture_end(&f);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"one_clone", one_clone},
	        {"many_clones", many_clones},
	        {"all_or_none", all_or_none},
	        {"bad_requests", bad_requests},
	        {"disks_of_clones", disks_of_clones},
	        {"hostile_replies", hostile_replies},
	};
	fake_vmm_main(argc, argv);
	return test_main("lib_fork", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
