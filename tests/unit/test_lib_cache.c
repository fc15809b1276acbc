/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of packed directories: what is deleted from it, and in which order; and mksquashfs, which fills it. */
#include "tests/unit/test_lib.h"
#include "vmm/lib/cache.h"
#include "vmm/lib/pack.h"

#define DAY (24 * 60 * 60)

/* An image of 64 KiB of a directory, last used so long ago. */
static void put(const char *dir, unsigned directory, unsigned contents, const char *end, int age_s, char path[PATH_MAX])
{
	static const char bytes[65536];
	snprintf(path, PATH_MAX, "%s/%016x-%032x.squashfs%s", dir, directory, contents, end);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes) || fsync(fd) < 0)
		abort();
	struct timespec used[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = time(NULL) - age_s}};
	futimens(fd, used);
	close(fd);
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static bool make_cache(char dir[32], int *fd)
{
	snprintf(dir, 32, "/tmp/wisp-test-XXXXXX");
	return mkdtemp(dir) && (*fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0;
}

static void oldest_first(void)
{
	char dir[32], path[6][PATH_MAX];
	struct wisp_error error;
	int fd;
	REQUIRE(make_cache(dir, &fd));
	for (unsigned i = 0; i < 6; i++)
		put(dir, i, i, "", (int)(i + 1) * 1000, path[i]);
	/* By number. */
	CHECK_EQ(cache_trim(fd, &(struct cache_limits){5, UINT64_MAX, INT64_MAX}), 1);
	CHECK(!exists(path[5]) && exists(path[4]));
	/* By age. */
	CHECK_EQ(cache_trim(fd, &(struct cache_limits){SIZE_MAX, UINT64_MAX, 4500}), 1);
	CHECK(!exists(path[4]) && exists(path[3]));
	/* By size. */
	CHECK_EQ(wisp_prune_cache(dir, 2 * 65536 + 32768, &error), 2);
	CHECK(!exists(path[2]) && exists(path[1]) && exists(path[0]));
	/* Nothing is over a limit. */
	CHECK_EQ(cache_trim(fd, &CACHE_LIMITS), 0);
	CHECK_EQ(wisp_prune_cache(dir, UINT64_MAX, &error), 0);
	CHECK_EQ(wisp_prune_cache(dir, 0, &error), 2);
	CHECK_EQ(count_entries(dir), 0);
	close(fd);
	remove_all(dir);
	CHECK_EQ(wisp_prune_cache(dir, 0, &error), 0);
}

/* Never an image that a sandbox uses, nor one that a process has just found, nor what is not the cache's. */
static void what_is_spared(void)
{
	char dir[32], used[PATH_MAX], fresh[PATH_MAX], old[PATH_MAX], foreign[PATH_MAX];
	struct wisp_error error;
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	int fd;
	REQUIRE(make_cache(dir, &fd));
	put(dir, 1, 1, "", 40 * DAY, used);
	put(dir, 2, 2, "", 0, fresh);
	put(dir, 3, 3, "", 40 * DAY, old);
	put(dir, 4, 4, ".mine", 40 * DAY, foreign);
	int sandbox = open(used, O_RDONLY | O_CLOEXEC);
	REQUIRE(sandbox >= 0 && fcntl(sandbox, F_OFD_SETLK, &lock) == 0);
	CHECK_EQ(wisp_prune_cache(dir, 0, &error), 1);
	CHECK(exists(used) && exists(fresh) && exists(foreign) && !exists(old));
	close(sandbox);
	CHECK_EQ(wisp_prune_cache(dir, 0, &error), 1);
	CHECK(!exists(used) && exists(fresh));
	/* Whoever can write to the cache could give sandboxes any image. */
	chmod(dir, 0777);
	CHECK_EQ(wisp_prune_cache(dir, 0, &error), -EPERM);
	CHECK(strstr(error.message, dir) && strstr(error.message, "chmod go-w"));
	close(fd);
	remove_all(dir);
}

/* What dead processes left: half an image, its messages, a lock that nobody needs. */
static void leftovers(void)
{
	char dir[32], image[PATH_MAX], half[PATH_MAX], said[PATH_MAX], growing[PATH_MAX], lock[3][PATH_MAX];
	int fd;
	REQUIRE(make_cache(dir, &fd));
	put(dir, 1, 1, "", 100, image);
	put(dir, 2, 2, ".new", 2 * DAY, half);
	put(dir, 2, 2, ".said", 2 * DAY, said);
	put(dir, 3, 3, ".new", 0, growing);
	int held = -1;
	for (unsigned i = 0; i < 3; i++) {
		char name[32];
		snprintf(name, sizeof(name), "%016x.lock", i + 1);
		snprintf(lock[i], sizeof(lock[i]), "%s/%s", dir, name);
		int one = cache_lock(fd, name, NULL);
		CHECK(one >= 0);
		if (i == 2)
			held = one;
		else
			close(one);
	}
	CHECK_EQ(cache_trim(fd, &CACHE_LIMITS), 0);
	CHECK(exists(image) && exists(growing) && !exists(half) && !exists(said));
	CHECK(exists(lock[0]) && !exists(lock[1]) && exists(lock[2]));
	close(held);
	close(fd);
	remove_all(dir);
}

/* The first child of a process, or 0. */
static pid_t child_of(pid_t pid)
{
	char path[64], text[32] = "";
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	if (fd >= 0)
		close(fd);
	return atoi(text);
}

static void the_packer_dies_with_its_parent(void)
{
	char dir[32], tree[64], path[96];
	int fd;
	if (!pack_find())
		SKIP("no mksquashfs");
	if (!exists("/proc/self/task"))
		SKIP("no /proc");
	REQUIRE(make_cache(dir, &fd) && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	close(fd);
	snprintf(tree, sizeof(tree), "%s/tree", dir);
	snprintf(path, sizeof(path), "%s/large", tree);
	REQUIRE(mkdir(tree, 0700) == 0 && (fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) >= 0);
	REQUIRE(ftruncate(fd, 1ll << 40) == 0); /* keeps it busy */
	close(fd);
	pid_t pid = fork(), packer = 0;
	if (pid == 0) {
		char out[64], said[64];
		snprintf(out, sizeof(out), "%s/out", dir);
		snprintf(said, sizeof(said), "%s/said", dir);
		pack_run(tree, out, said, NULL, NULL);
		_exit(0);
	}
	for (int i = 0; i < 1000 && packer == 0; i++) {
		packer = child_of(pid);
		sleep_ms(5);
	}
	CHECK(packer > 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	/* It is ours now. */
	int status = 0;
	pid_t dead = 0;
	for (int i = 0; i < 1000 && packer > 0 && dead == 0; i++) {
		dead = waitpid(packer, &status, WNOHANG);
		sleep_ms(5);
	}
	CHECK(packer > 0 && dead == packer);
	if (packer > 0 && dead == 0) {
		kill(packer, SIGKILL);
		waitpid(packer, NULL, 0);
	}
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	remove_all(dir);
}

TEST_MAIN("lib_cache", {"oldest_first", oldest_first}, {"what_is_spared", what_is_spared}, {"leftovers", leftovers},
        {"the_packer_dies_with_its_parent", the_packer_dies_with_its_parent})
