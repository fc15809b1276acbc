/* SPDX-License-Identifier: Apache-2.0 */
/* Log files: their bound, their rotation as a reader sees it, and a full disk. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/logfile.h"

static char dir[] = "/tmp/wisp-logfile-XXXXXX";
static int dir_fd = -1;

static void put(struct logfile *file, const char *text)
{
	logfile_write(file, text, strlen(text));
}

static char *slurp(const char *name)
{
	static char text[4096];
	int fd = openat(dir_fd, name, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static struct logfile open_log(const char *name, uint64_t limit)
{
	struct logfile file;
	logfile_init(&file, dir_fd, name, limit);
	CHECK_EQ(logfile_create(&file, NULL), 0);
	return file;
}

static void a_full_file_is_rotated(void)
{
	struct logfile file = open_log("rotated", 1000);
	for (int i = 0; i < 100; i++)
		put(&file, "012345678901234567890123456789012345678\n");
	logfile_close(&file);
	struct stat now, before;
	CHECK(fstatat(dir_fd, "rotated", &now, 0) == 0 && now.st_size <= 1000 && now.st_size > 0);
	CHECK(fstatat(dir_fd, "rotated.1", &before, 0) == 0 && before.st_size == 1000);
	CHECK_EQ(now.st_mode & 0777, 0600);
	CHECK_EQ(now.st_nlink, 1);
	CHECK(faccessat(dir_fd, "rotated.new", F_OK, 0) < 0);
}

/* A link or a leftover where the new file is made is neither followed nor in the way. */
static void a_leftover_is_replaced(void)
{
	struct logfile file = open_log("leftover", 10);
	CHECK_EQ(symlinkat("victim", dir_fd, "leftover.new"), 0);
	put(&file, "12345678\n");
	put(&file, "abcdefgh\n");
	logfile_close(&file);
	CHECK(faccessat(dir_fd, "victim", F_OK, 0) < 0);
	CHECK_STR(slurp("leftover"), "abcdefgh\n");
	CHECK_STR(slurp("leftover.1"), "12345678\n");
}

#define ROTATIONS 3000u

static void *rotate_often(void *context)
{
	for (unsigned i = 0; i < ROTATIONS; i++)
		put(context, "one entry fills the file\n");
	return NULL;
}

/* Whenever a reader comes, there is a file, and the one before it. */
static void a_reader_always_finds_both(void)
{
	struct logfile file = open_log("sought", 10);
	pthread_t writer;
	struct stat st;
	unsigned missing = 0;
	put(&file, "first\n");
	put(&file, "entry that rotates\n");
	CHECK_EQ(pthread_create(&writer, NULL, rotate_often, &file), 0);
	for (unsigned i = 0; i < 10 * ROTATIONS; i++) {
		missing += fstatat(dir_fd, "sought", &st, 0) < 0;
		missing += fstatat(dir_fd, "sought.1", &st, 0) < 0;
	}
	pthread_join(writer, NULL);
	CHECK_EQ(missing, 0);
	logfile_close(&file);
}

/* A limit on the file's size stands for a full disk: the write that reaches it is cut short, the next one fails. */
static void set_room(rlim_t bytes)
{
	struct rlimit limit;
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = bytes;
	setrlimit(RLIMIT_FSIZE, &limit);
}

static void a_torn_entry_ends_its_line(void)
{
	signal(SIGXFSZ, SIG_IGN);
	struct logfile file = open_log("full", 1000);
	put(&file, "whole 1\n");
	set_room(12);
	put(&file, "torn 22222\n"); /* four bytes fit */
	put(&file, "lost\n");
	set_room(RLIM_INFINITY);
	put(&file, "whole 2\n");
	put(&file, "whole 3\n");
	logfile_close(&file);
	CHECK_STR(slurp("full"), "whole 1\ntorn\nwhole 2\nwhole 3\n");
}

/* Only the separator fits: the next entry does not write a second one. */
static void a_separator_is_written_once(void)
{
	struct logfile file = open_log("separator", 1000);
	set_room(4);
	put(&file, "torn 1\n");
	set_room(5);
	put(&file, "lost\n");
	set_room(RLIM_INFINITY);
	put(&file, "whole\n");
	logfile_close(&file);
	CHECK_STR(slurp("separator"), "torn\nwhole\n");
}

/* The rest of an entry whose beginning was lost, or torn, is not written. */
static void pieces_of_a_lost_entry_are_dropped(void)
{
	struct logfile file = open_log("pieces", 1000);
	put(&file, "whole 1\n");
	set_room(8);
	put(&file, "lost ");
	set_room(RLIM_INFINITY);
	logfile_continue(&file, "piece\n", 6);
	put(&file, "torn 1 ");
	set_room(17);
	logfile_continue(&file, "piece 2 ", 8);
	set_room(RLIM_INFINITY);
	logfile_continue(&file, "piece 3\n", 8);
	put(&file, "whole 2\n");
	logfile_close(&file);
	CHECK_STR(slurp("pieces"), "whole 1\ntorn 1 pi\nwhole 2\n");
}

/* The pieces of an entry stay together, whatever the limit. */
static void pieces_are_not_rotated_apart(void)
{
	struct logfile file = open_log("together", 10);
	put(&file, "12345678");
	logfile_continue(&file, "abcdefgh\n", 9);
	logfile_close(&file);
	CHECK_STR(slurp("together"), "12345678abcdefgh\n");
}

static void creation_is_in_two_steps(void)
{
	struct logfile file;
	struct err err = {0};
	logfile_init(&file, AT_FDCWD, "/nonexistent/exec.log", 1);
	put(&file, "x");
	CHECK_EQ(logfile_create(&file, &err), -ENOENT);
	CHECK(strstr(err.text, "/nonexistent/exec.log") != NULL);
	put(&file, "x"); /* a log that could not be created takes nothing, harmlessly */
	logfile_close(&file);
	/* What is written between the two steps, or was there before, stays. */
	logfile_init(&file, dir_fd, "steps", 100);
	put(&file, "x");
	CHECK_EQ(logfile_create(&file, NULL), 0);
	CHECK_STR(slurp("steps"), "x");
	logfile_close(&file);
	file = open_log("steps", 100);
	put(&file, "y");
	logfile_close(&file);
	CHECK_STR(slurp("steps"), "xy");
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"a_full_file_is_rotated", a_full_file_is_rotated},
	        {"a_leftover_is_replaced", a_leftover_is_replaced},
	        {"a_reader_always_finds_both", a_reader_always_finds_both},
	        {"a_torn_entry_ends_its_line", a_torn_entry_ends_its_line},
	        {"a_separator_is_written_once", a_separator_is_written_once},
	        {"pieces_of_a_lost_entry_are_dropped", pieces_of_a_lost_entry_are_dropped},
	        {"pieces_are_not_rotated_apart", pieces_are_not_rotated_apart},
	        {"creation_is_in_two_steps", creation_is_in_two_steps},
	};
	if (!mkdtemp(dir) || (dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		return 1;
	int ret = test_main("logfile", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
	char command[64];
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command) == 0 ? ret : 1;
}
