/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest, an image or another user of the host can do to the monitor's files and tables. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/host.h"
#include "tests/unit/test.h"
#include "vmm/monitor/logfile.h"
#include "vmm/monitor/sandbox_dir.h"
#include "vmm/shared/sandbox_files.h"

#define LOG_LIMIT 65536u

/* A guest that writes to its serial port, byte by byte, for ever has a log of two files of the limit each. */
static void serial_flood(void)
{
	char dir[] = "/tmp/wisp-test-XXXXXX", path[64], old[64];
	struct logfile log;
	REQUIRE(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	snprintf(old, sizeof(old), "%s/log.1", dir);
	logfile_init(&log, AT_FDCWD, path, LOG_LIMIT);
	REQUIRE(logfile_create(&log, NULL) == 0);
	for (unsigned i = 0; i < 5 * LOG_LIMIT; i++) {
		uint8_t byte = (uint8_t)i;
		logfile_write(&log, &byte, 1);
	}
	struct stat st;
	CHECK(stat(path, &st) == 0 && st.st_size <= LOG_LIMIT);
	CHECK(stat(old, &st) == 0 && st.st_size <= LOG_LIMIT);
	logfile_close(&log);
	unlink(path);
	unlink(old);
	rmdir(dir);
}

/* A link where a log or the state is to be written leads nowhere. */
static void links(void)
{
	char dir[] = "/tmp/wisp-test-XXXXXX", victim[64], path[64];
	struct logfile log;
	struct stat st;
	REQUIRE(mkdtemp(dir));
	snprintf(victim, sizeof(victim), "%s/victim", dir);
	int fd = open(victim, O_WRONLY | O_CREAT, 0600);
	REQUIRE(fd >= 0 && write(fd, "precious", 8) == 8);
	close(fd);
	snprintf(path, sizeof(path), "%s/exec.log", dir);
	REQUIRE(symlink(victim, path) == 0);
	logfile_init(&log, AT_FDCWD, path, LOG_LIMIT);
	CHECK_EQ(logfile_create(&log, NULL), -ELOOP);
	logfile_close(&log);
	unlink(path);
	snprintf(path, sizeof(path), "%s/state.new", dir);
	REQUIRE(symlink(victim, path) == 0);
	int dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
	sandbox_files_write_state(dir_fd, "ready");
	CHECK(stat(victim, &st) == 0 && st.st_size == 8);
	unlink(victim);
	CHECK_EQ(sandbox_files_remove(AT_FDCWD, dir_fd, dir), 0);
	CHECK(stat(dir, &st) < 0);
	close(dir_fd);
}

/* A sandbox whose directory was removed and whose name was taken anew leaves the new directory alone. */
static void a_successor_keeps_its_directory(void)
{
	char root[] = "/tmp/wisp-test-XXXXXX";
	struct stat st;
	REQUIRE(mkdtemp(root));
	int root_fd = open(root, O_RDONLY | O_DIRECTORY);
	REQUIRE(mkdirat(root_fd, "box", 0700) == 0);
	int old_fd = openat(root_fd, "box", O_RDONLY | O_DIRECTORY);
	REQUIRE(unlinkat(root_fd, "box", AT_REMOVEDIR) == 0 && mkdirat(root_fd, "box", 0700) == 0);
	int new_fd = openat(root_fd, "box", O_RDONLY | O_DIRECTORY);
	sandbox_files_write_state(new_fd, "ready");
	sandbox_files_write_state(old_fd, "exit killed");
	CHECK(sandbox_files_remove(root_fd, old_fd, "box") < 0);
	CHECK_EQ(fstatat(root_fd, "box/state", &st, 0), 0);
	CHECK_EQ(st.st_size, strlen("ready\n"));
	/* Not even one that is still empty. */
	REQUIRE(unlinkat(new_fd, "state", 0) == 0);
	CHECK(sandbox_files_remove(root_fd, old_fd, "box") < 0);
	CHECK_EQ(fstatat(root_fd, "box", &st, 0), 0);
	CHECK_EQ(sandbox_files_remove(root_fd, new_fd, "box"), 0);
	CHECK(fstatat(root_fd, "box", &st, 0) < 0);
	close(old_fd);
	close(new_fd);
	close(root_fd);
	rmdir(root);
}

/* The end is recorded even where no new file can be written. */
static void state_on_a_full_disk(void)
{
	char dir[] = "/tmp/wisp-test-XXXXXX", text[64] = "", page[4096] = {0};
	REQUIRE(mkdtemp(dir));
	if (!mount_tmpfs(dir, "size=64k")) {
		rmdir(dir);
		SKIP("this user cannot mount a tmpfs");
	}
	int dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
	sandbox_files_write_state(dir_fd, "ready and a longer line than the next");
	int fill = openat(dir_fd, "fill", O_WRONLY | O_CREAT, 0600);
	while (write(fill, page, sizeof(page)) > 0)
		;
	CHECK_EQ(errno, ENOSPC);
	sandbox_files_write_state(dir_fd, "exit poweroff");
	int fd = openat(dir_fd, "state", O_RDONLY);
	CHECK(read(fd, text, sizeof(text) - 1) > 0);
	CHECK_STR(text, "exit poweroff\n");
	CHECK(faccessat(dir_fd, "state.new", F_OK, 0) < 0);
	close(fd);
	close(fill);
	close(dir_fd);
	umount(dir);
	rmdir(dir);
}

TEST_MAIN("hostile_host", {"serial_flood", serial_flood}, {"links", links},
        {"a_successor_keeps_its_directory", a_successor_keeps_its_directory},
        {"state_on_a_full_disk", state_on_a_full_disk})
