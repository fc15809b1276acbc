/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes whose guest counts (tests/payload/payload.c), with a real wisp-vmm: console.log tells where a clone went
 * on, and whether anything of it changed.
 */
#ifndef WISP_TEST_COUNTING_H
#define WISP_TEST_COUNTING_H

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/engine.h"
#include "tests/unit/test.h"
#include "wisp.h"

#define UNUSED __attribute__((unused))
#define HANG_MS 60000
#define LINE_SIZE 19u /* "n=0000000000000001\n" */
#define LOG_MAX (1u << 20)

static char libdir[PATH_MAX], payload[PATH_MAX];
static char root[] = "/tmp/wisp-test-XXXXXX";
static char file[PATH_MAX], cache[PATH_MAX];

static void pause_ms(int ms)
{
	struct timespec pause = {.tv_nsec = ms * 1000000L};
	nanosleep(&pause, NULL);
}

static size_t read_log(const char *name, char *to)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s/console.log", root, name);
	FILE *log = fopen(path, "re");
	size_t length = log ? fread(to, 1, LOG_MAX, log) : 0;
	if (log)
		fclose(log);
	return length;
}

UNUSED static size_t log_length(const char *name)
{
	static char text[LOG_MAX];
	return read_log(name, text);
}

/* Waits until the sandbox has counted on by some lines. */
UNUSED static bool counts_on(const char *name)
{
	size_t before = log_length(name);
	for (int i = 0; i < HANG_MS / 5; i++) {
		if (log_length(name) >= before + 5 * LINE_SIZE)
			return true;
		pause_ms(5);
	}
	return false;
}

/*
 * Whether a log is a count without a gap. `*first` is the number in which it begins; the rest of that line may have
 * been printed by the source.
 */
UNUSED static bool is_count(const char *name, uint64_t *first)
{
	static char text[LOG_MAX];
	size_t length = read_log(name, text), at = 0;
	const char *newline = memchr(text, '\n', length);
	if (!newline || length < 2 * LINE_SIZE)
		return false;
	at = (size_t)(newline - text) + 1;
	/* A line that begins in the source is incomplete here: the next one says which it was. */
	uint64_t n = strtoull(text + at + 2, NULL, 16);
	*first = n - 1;
	for (; at + LINE_SIZE <= length; at += LINE_SIZE, n++) {
		char line[32];
		snprintf(line, sizeof(line), "n=%016llx\n", (unsigned long long)n);
		if (memcmp(text + at, line, LINE_SIZE) != 0) {
			printf("# %s: expected %.18s, found %.18s\n", name, line, text + at);
			return false;
		}
	}
	return true;
}

UNUSED static bool exists(const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	snprintf(path, sizeof(path), "%s/%s", root, name);
	return stat(path, &st) == 0;
}

static struct wisp_create_options options_for(const char *name)
{
	return (struct wisp_create_options){.size = sizeof(struct wisp_create_options),
	        .state_root = root,
	        .name = name,
	        .libdir = libdir,
	        .engine = test_engine()};
}

/* The guest counts before the monitor takes requests. */
UNUSED static bool takes_requests(const char *name)
{
	char socket[PATH_MAX];
	snprintf(socket, sizeof(socket), "%s/monitor.sock", name);
	for (int i = 0; i < HANG_MS / 5 && !exists(socket); i++)
		pause_ms(5);
	return exists(socket);
}

UNUSED static struct wisp_sandbox *start_counting(const char *name)
{
	struct wisp_create_options options = options_for(name);
	struct wisp_sandbox *sandbox = NULL;
	struct wisp_error error;
	options.kernel = payload;
	options.kernel_args = "payload=count fill=4";
	options.memory_mib = 64;
	options.bare = options.no_wait = true;
	if (wisp_create_sandbox(&options, &sandbox, &error) < 0)
		printf("# %s\n", error.message);
	if (sandbox && (!counts_on(name) || !takes_requests(name)))
		printf("# %s does not count\n", name);
	return sandbox;
}

UNUSED static struct wisp_sandbox *restore_as(const char *name, bool template)
{
	struct wisp_create_options options = options_for(name);
	struct wisp_sandbox *sandbox = NULL;
	struct wisp_error error;
	options.from = file;
	options.cache_dir = cache;
	options.is_template = options.detach = template;
	options.no_wait = true;
	if (wisp_create_sandbox(&options, &sandbox, &error) < 0)
		printf("# %s\n", error.message);
	if (sandbox && wisp_wait_ready(sandbox, HANG_MS, &error) < 0)
		printf("# %s\n", error.message);
	return sandbox;
}

UNUSED static bool stop(struct wisp_sandbox *sandbox)
{
	struct wisp_error error;
	enum wisp_end end = WISP_END_UNKNOWN;
	int r = wisp_stop_sandbox(sandbox, 0, &error);
	if (r == 0)
		r = wisp_wait_sandbox(sandbox, HANG_MS, &end, &error);
	if (r < 0)
		printf("# %s\n", error.message);
	wisp_close_sandbox(sandbox);
	return r == 0 && end == WISP_END_KILLED;
}

UNUSED static int save(struct wisp_sandbox *sandbox, bool compress, bool end)
{
	struct wisp_snapshot_options options = {
	        .size = sizeof(options), .compress = compress, .stop = end, .replace = true};
	struct wisp_error error;
	int r = wisp_snapshot_sandbox(sandbox, file, &options, &error);
	if (r < 0)
		printf("# %s\n", error.message);
	return r;
}

UNUSED static int fork_into(struct wisp_sandbox *source, size_t count, const char *name, struct wisp_sandbox **clones)
{
	struct wisp_fork_options options = {.size = sizeof(options), .name = name};
	struct wisp_error error;
	int r = wisp_fork_sandbox(source, count, &options, clones, &error);
	if (r < 0)
		printf("# %s\n", error.message);
	return r;
}

UNUSED static int count_entries(const char *path)
{
	DIR *list = opendir(path);
	int count = 0;
	while (list && readdir(list))
		count++;
	if (list)
		closedir(list);
	return count;
}

static void empty(const char *path)
{
	struct dirent *entry;
	DIR *list = opendir(path);
	while (list && (entry = readdir(list)))
		unlinkat(dirfd(list), entry->d_name, 0);
	if (list)
		closedir(list);
}

/* Runs the cases, or skips them without a /dev/kvm. */
static int counting_main(const char *suite, const struct test_case *cases, size_t count, int argc, char **argv)
{
	const char *path = getenv("PAYLOAD");
	if (!realpath(path ? path : "build/tests/payload/payload", payload)) {
		perror("payload");
		return 1;
	}
	/* <build>/tests/payload/test_NAME */
	if (!realpath("/proc/self/exe", libdir))
		return 1;
	for (int i = 0; i < 3; i++)
		*strrchr(libdir, '/') = '\0';
	strncat(libdir, "/lib/wisp", sizeof(libdir) - strlen(libdir) - 1);
	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		for (size_t i = 0; i < count; i++)
			printf("skip %s/%s: no /dev/kvm\n", suite, cases[i].name);
		return 0;
	}
	if (!mkdtemp(root))
		return 1;
	snprintf(file, sizeof(file), "%s.snapshot", root);
	snprintf(cache, sizeof(cache), "%s.cache", root);
	int code = test_main(suite, cases, count, argc, argv);
	unlink(file);
	rmdir(root);
	empty(cache);
	rmdir(cache);
	return code;
}

#define COUNTING_MAIN(suite, ...)                                                                 \
	int main(int argc, char **argv)                                                           \
	{                                                                                         \
		static const struct test_case cases[] = {__VA_ARGS__};                            \
		return counting_main(suite, cases, sizeof(cases) / sizeof(cases[0]), argc, argv); \
	}

#endif
