/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What programs do with files, in the directory given: foldercheck DIR [WORD...]; or foldercheck open FILE. Prints each
 * expectation that is not met, and at the end how many were. The words name what the file system does not have: xattr,
 * owners.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static unsigned good, bad;
static int words;
static char **word;

static bool lacks(const char *what)
{
	for (int i = 0; i < words; i++)
		if (strcmp(word[i], what) == 0)
			return true;
	return false;
}

static void note(bool met, const char *text, int line)
{
	met ? good++ : bad++;
	if (!met)
		printf("line %d: %s (%s)\n", line, text, strerror(errno));
}
#define OK(x) note(x, #x, __LINE__)
#define FAILS(x, error) note((errno = 0, (x) < 0 && errno == (error)), #x " fails with " #error, __LINE__)

static char page[4096], other[4096];
static const char zeros[4096];

static bool put(const char *name, const void *data, size_t size)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	bool done = fd >= 0 && write(fd, data, size) == (ssize_t)size;
	return close(fd) == 0 && done;
}

static bool has(const char *name, const void *data, size_t size)
{
	static char got[1 << 20];
	int fd = open(name, O_RDONLY);
	ssize_t n = read(fd, got, sizeof(got));
	close(fd);
	return n == (ssize_t)size && memcmp(got, data, size) == 0;
}

static off_t size_of(const char *name)
{
	struct stat st;
	return lstat(name, &st) < 0 ? -1 : st.st_size;
}

static unsigned links_of(const char *name)
{
	struct stat st;
	return lstat(name, &st) < 0 ? 0 : (unsigned)st.st_nlink;
}

static mode_t mode_of(const char *name)
{
	struct stat st;
	return lstat(name, &st) < 0 ? 0 : st.st_mode & 07777;
}

static void names(void)
{
	static char longest[256], toolong[257];
	memset(longest, 'n', 255);
	memset(toolong, 'n', 256);
	const char *const odd[] = {"new\nline", " ", "...", "\xff\xfe", "\xc3", "\x01\x7f\t", "-rf", "a\\b", "\xc3\xa9",
	        "*?[", "'\"`$", longest};
	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		OK(put(odd[i], "x", 1));
		OK(has(odd[i], "x", 1));
		OK(rename(odd[i], "plain") == 0 && access(odd[i], F_OK) < 0);
		OK(rename("plain", odd[i]) == 0);
		unsigned seen = 0;
		DIR *dir = opendir(".");
		for (struct dirent *e; dir && (e = readdir(dir));)
			seen += strcmp(e->d_name, odd[i]) == 0;
		closedir(dir);
		OK(seen == 1);
		OK(unlink(odd[i]) == 0);
	}
	FAILS(open(toolong, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
	FAILS(open("no/file", O_RDONLY), ENOENT);
	FAILS(mkdir("no/dir", 0755), ENOENT);
	FAILS(unlink("no"), ENOENT);
	FAILS(rmdir("no"), ENOENT);
}

static void files(void)
{
	OK(put("f", "hello", 5) && size_of("f") == 5);
	FAILS(open("f", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
	FAILS(open("f/x", O_RDONLY), ENOTDIR);
	FAILS(mkdir("f", 0755), EEXIST);
	FAILS(rmdir("f"), ENOTDIR);
	FAILS(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	OK(truncate("f", 2) == 0 && has("f", "he", 2));
	OK(truncate("f", 5) == 0 && has("f", "he\0\0\0", 5));
	int fd = open("f", O_RDWR);
	OK(ftruncate(fd, 0) == 0 && size_of("f") == 0);
	OK(pwrite(fd, "end", 3, 100000) == 3 && size_of("f") == 100003);
	OK(pread(fd, other, 10, 99990) == 10 && other[0] == 0 && other[9] == 0);
	OK(pread(fd, other, 10, 100003) == 0);
	OK(lseek(fd, 0, SEEK_END) == 100003);
	OK(lseek(fd, 0, SEEK_DATA) >= 0);
	OK(lseek(fd, 0, SEEK_HOLE) >= 0);
	FAILS(lseek(fd, 200000, SEEK_DATA), ENXIO);
	OK(fsync(fd) == 0 && fdatasync(fd) == 0);
	OK(posix_fallocate(fd, 0, 200000) == 0 && size_of("f") == 200000);
	OK(fallocate(fd, 1 /* KEEP_SIZE */, 0, 300000) == 0 && size_of("f") == 200000);
	OK(close(fd) == 0);
	fd = open("f", O_RDONLY);
	FAILS(write(fd, "x", 1), EBADF);
	close(fd);
	OK(open("f", O_WRONLY | O_TRUNC) >= 0 && size_of("f") == 0);
	OK(unlink("f") == 0);
	struct statvfs vfs;
	OK(statvfs(".", &vfs) == 0 && vfs.f_bsize > 0 && vfs.f_namemax == 255);
}

/* Both stay for the host to look at: how much of its disk they take. */
static void sparse(void)
{
	int fd = open("hole", O_RDWR | O_CREAT, 0644);
	OK(ftruncate(fd, 64 << 20) == 0 && pwrite(fd, "far", 3, 32 << 20) == 3 && size_of("hole") == 64 << 20);
	OK(pread(fd, other, 4096, 1 << 20) == 4096 && memcmp(other, zeros, 4096) == 0);
	close(fd);
	fd = open("punched", O_RDWR | O_CREAT, 0644);
	unsigned written = 0;
	for (unsigned i = 0; i < 1024; i++)
		written += write(fd, page, sizeof(page)) == sizeof(page);
	OK(written == 1024);
	OK(fallocate(fd, 3 /* KEEP_SIZE, PUNCH_HOLE */, 4096, (4 << 20) - 8192) == 0 && size_of("punched") == 4 << 20);
	OK(pread(fd, other, 4096, 4096) == 4096 && memcmp(other, zeros, 4096) == 0);
	OK(pread(fd, other, 4096, 0) == 4096 && memcmp(other, page, 4096) == 0);
	OK(pread(fd, other, 4096, (4 << 20) - 4096) == 4096 && memcmp(other, page, 4096) == 0);
	close(fd);
}

static void large(void)
{
	static char data[3 << 20], back[3 << 20];
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 31 + i / 4093);
	OK(put("large", data, sizeof(data)));
	int fd = open("large", O_RDONLY);
	OK(read(fd, back, sizeof(back)) == (ssize_t)sizeof(back) && memcmp(data, back, sizeof(data)) == 0);
	for (unsigned i = 0; i < 20; i++) {
		off_t at = (off_t)(i * 104729 % sizeof(data));
		size_t size = 200000 < sizeof(data) - (size_t)at ? 200000 : sizeof(data) - (size_t)at;
		OK(pread(fd, back, size, at) == (ssize_t)size && memcmp(back, data + at, size) == 0);
	}
	close(fd);
	fd = open("large", O_RDONLY | O_DIRECT);
	void *aligned = NULL;
	OK(posix_memalign(&aligned, 4096, 1 << 20) == 0);
	OK(fd >= 0 && pread(fd, aligned, 1 << 20, 4096) == 1 << 20 && memcmp(aligned, data + 4096, 1 << 20) == 0);
	close(fd);
	fd = open("direct", O_RDWR | O_DIRECT | O_CREAT, 0644);
	OK(fd >= 0 && pwrite(fd, aligned, 1 << 20, 0) == 1 << 20 && size_of("direct") == 1 << 20);
	close(fd);
	OK(has("direct", data + 4096, 1 << 20));
	fd = open("copy", O_WRONLY | O_CREAT, 0644);
	int from = open("large", O_RDONLY);
	ssize_t n, total = 0;
	while ((n = syscall(SYS_copy_file_range, from, NULL, fd, NULL, sizeof(data), 0)) > 0)
		total += n;
	OK(n == 0 && total == (ssize_t)sizeof(data));
	close(fd);
	close(from);
	fd = open("copy", O_RDONLY);
	OK(read(fd, back, sizeof(back)) == (ssize_t)sizeof(back) && memcmp(data, back, sizeof(data)) == 0);
	close(fd);
	free(aligned);
	OK(unlink("large") == 0 && unlink("copy") == 0 && unlink("direct") == 0);
}

static void appending(void)
{
	int one = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644), two = open("log", O_WRONLY | O_APPEND);
	for (unsigned i = 0; i < 5; i++)
		OK(write(one, "1", 1) == 1 && write(two, "2", 1) == 1);
	OK(has("log", "1212121212", 10));
	OK(pwrite(one, "x", 1, 0) == 1 && size_of("log") == 11); /* as Linux has it */
	close(one);
	close(two);
	OK(unlink("log") == 0);
}

static void renames(void)
{
	OK(put("a", "a", 1) && put("b", "bb", 2));
	int fd = open("b", O_RDWR);
	OK(rename("a", "b") == 0 && has("b", "a", 1));
	OK(read(fd, other, 10) == 2 && memcmp(other, "bb", 2) == 0);
	OK(write(fd, "more", 4) == 4);
	struct stat st;
	OK(fstat(fd, &st) == 0 && st.st_size == 6 && st.st_nlink == 0);
	close(fd);
	OK(put("a", "A", 1));
	OK(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 2 /* EXCHANGE */) == 0 && has("a", "a", 1) &&
	        has("b", "A", 1));
	FAILS(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 1 /* NOREPLACE */), EEXIST);
	OK(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0 && put("d/e/f", "f", 1));
	FAILS(rename("d", "d/e/x"), EINVAL);
	FAILS(rename("a", "d"), EISDIR);
	FAILS(rename("d", "a"), ENOTDIR);
	FAILS(rmdir("d"), ENOTEMPTY);
	OK(mkdir("g", 0755) == 0);
	FAILS(rename("g", "d"), ENOTEMPTY);
	fd = open("d/e/f", O_RDONLY);
	OK(rename("d", "moved") == 0 && has("moved/e/f", "f", 1) && read(fd, other, 2) == 1);
	close(fd);
	OK(rename("moved/e/f", "f") == 0 && rename("moved/e", "g/e") == 0);
	OK(rmdir("moved") == 0 && rmdir("g/e") == 0 && rmdir("g") == 0);
	OK(unlink("a") == 0 && unlink("b") == 0 && unlink("f") == 0);
}

static void removed(void)
{
	int fd = open("gone", O_RDWR | O_CREAT, 0600);
	OK(fd >= 0 && unlink("gone") == 0);
	OK(write(fd, "still", 5) == 5 && pread(fd, other, 10, 0) == 5);
	struct stat st;
	OK(fstat(fd, &st) == 0 && st.st_size == 5 && st.st_nlink == 0);
	OK(ftruncate(fd, 2) == 0 && fchmod(fd, 0644) == 0);
	close(fd);
	FAILS(open("gone", O_RDONLY), ENOENT);
	OK(mkdir("dir", 0755) == 0);
	fd = open("dir", O_RDONLY | O_DIRECTORY);
	OK(rmdir("dir") == 0);
	FAILS(openat(fd, "x", O_WRONLY | O_CREAT, 0644), ENOENT);
	close(fd);
}

static void links(void)
{
	OK(put("a", "x", 1) && link("a", "b") == 0 && links_of("a") == 2 && links_of("b") == 2);
	struct stat a, b;
	OK(stat("a", &a) == 0 && stat("b", &b) == 0 && a.st_ino == b.st_ino);
	FAILS(link("a", "b"), EEXIST);
	OK(put("b", "yy", 2) && has("a", "yy", 2));
	OK(unlink("a") == 0 && links_of("b") == 1 && has("b", "yy", 2));
	OK(symlink("b", "s") == 0 && readlink("s", other, 10) == 1 && has("s", "yy", 2));
	OK(symlink("/etc/hostname", "out") == 0);
	FAILS(symlink("b", "s"), EEXIST);
	OK(symlink("loop", "loop") == 0);
	FAILS(open("loop", O_RDONLY), ELOOP);
	FAILS(open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
	OK(symlink("nowhere", "dangling") == 0);
	FAILS(open("dangling", O_RDONLY), ENOENT);
	OK(put("dangling", "z", 1) && has("nowhere", "z", 1)); /* through the link */
	OK(link("s", "s2") == 0 && readlink("s2", other, 10) == 1);
	const char *const all[] = {"b", "s", "out", "loop", "dangling", "nowhere", "s2"};
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		OK(unlink(all[i]) == 0);
}

static void attributes(void)
{
	OK(put("f", "x", 1));
	for (mode_t mode = 0; mode < 0777; mode += 0123)
		OK(chmod("f", mode) == 0 && mode_of("f") == mode);
	OK(chmod("f", 0644) == 0);
	struct timespec times[2] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 2000, .tv_nsec = 7}};
	struct stat st;
	OK(utimensat(AT_FDCWD, "f", times, 0) == 0 && stat("f", &st) == 0);
	OK(st.st_mtim.tv_sec == 2000 && st.st_mtim.tv_nsec == 7 && st.st_atim.tv_sec == 1000);
	OK(utimensat(AT_FDCWD, "f", NULL, 0) == 0 && stat("f", &st) == 0 && st.st_mtim.tv_sec > 2000);
	OK(chown("f", 0, 0) == 0);
	if (!lacks("owners"))
		OK(chown("f", 1234, 2345) == 0 && stat("f", &st) == 0 && st.st_uid == 1234 && st.st_gid == 2345);
	umask(027);
	OK(put("masked", "", 0) && mode_of("masked") == 0640);
	OK(mkdir("maskdir", 0777) == 0 && mode_of("maskdir") == 0750);
	umask(022);
	OK(mkfifo("fifo", 0600) == 0 && lstat("fifo", &st) == 0 && S_ISFIFO(st.st_mode));
	OK(unlink("fifo") == 0 && unlink("masked") == 0 && rmdir("maskdir") == 0);
	if (!lacks("xattr")) {
		OK(setxattr("f", "user.x", "value", 5, 0) == 0 && getxattr("f", "user.x", other, 10) == 5);
		OK(listxattr("f", other, sizeof(other)) == 7 && removexattr("f", "user.x") == 0);
		FAILS(getxattr("f", "user.x", other, 10), ENODATA);
	}
	OK(unlink("f") == 0);
}

static void mappings(void)
{
	int fd = open("map", O_RDWR | O_CREAT, 0644);
	OK(ftruncate(fd, 16384) == 0);
	char *at = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	OK(at != MAP_FAILED);
	if (at == MAP_FAILED)
		return;
	memset(at + 5000, 'm', 3000);
	OK(pread(fd, other, 3000, 5000) == 3000 && other[0] == 'm' && other[2999] == 'm');
	OK(pwrite(fd, "w", 1, 5001) == 1 && at[5001] == 'w');
	OK(msync(at, 16384, MS_SYNC) == 0);
	memset(at, 'n', 100);
	OK(munmap(at, 16384) == 0 && close(fd) == 0);
	at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd = open("map", O_RDONLY), 0);
	OK(at != MAP_FAILED && at[0] == 'n' && at[99] == 'n' && at[100] == 0);
	close(fd);
	/* It stays for the host to look at. */
}

static void locks(void)
{
	int one = open("lock", O_RDWR | O_CREAT, 0644), two = open("lock", O_RDWR);
	OK(flock(one, LOCK_EX | LOCK_NB) == 0);
	FAILS(flock(two, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	OK(flock(one, LOCK_UN) == 0 && flock(two, LOCK_SH | LOCK_NB) == 0 && flock(one, LOCK_SH | LOCK_NB) == 0);
	struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
	OK(fcntl(one, F_SETLK, &range) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct flock mine = range;
		_exit(fcntl(two, F_SETLK, &mine) < 0 && errno == EAGAIN ? 0 : 1);
	}
	int status = -1;
	waitpid(pid, &status, 0);
	OK(status == 0);
	close(one);
	close(two);
	OK(unlink("lock") == 0);
}

static void *appender(void *context)
{
	int fd = open("threads", O_WRONLY | O_APPEND);
	for (unsigned i = 0; i < 100; i++)
		if (write(fd, context, 8) != 8)
			break;
	close(fd);
	return NULL;
}

static void threads(void)
{
	pthread_t thread[4];
	char text[4][9] = {"aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"};
	OK(put("threads", "", 0));
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, appender, text[i]);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	OK(size_of("threads") == 3200);
	OK(unlink("threads") == 0);
}

static void folders(void)
{
	enum { FILES = 1500 };
	char name[32];
	OK(mkdir("many", 0755) == 0);
	unsigned made = 0, seen = 0, removed_ones = 0;
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "many/%u", i);
		made += put(name, "", 0);
	}
	OK(made == FILES);
	DIR *dir = opendir("many");
	for (struct dirent *e; (e = readdir(dir));)
		seen += e->d_name[0] != '.';
	OK(seen == FILES);
	rewinddir(dir);
	/* Removing while reading: each is seen once. */
	for (struct dirent *e; (e = readdir(dir));)
		removed_ones += e->d_name[0] != '.' && unlinkat(dirfd(dir), e->d_name, 0) == 0;
	OK(removed_ones == FILES);
	closedir(dir);
	OK(rmdir("many") == 0);
	/* Step by step: on a slow host, the first names of a long path have expired when the last one is found. */
	char deep[1200] = "d";
	int top = open(".", O_RDONLY | O_DIRECTORY);
	unsigned depth = 0;
	for (; depth < 300 && mkdir("d", 0755) == 0 && chdir("d") == 0; depth++)
		strcat(deep, depth > 0 ? "/d" : "");
	OK(depth == 300);
	OK(fchdir(top) == 0 && chdir(deep) == 0);
	while (depth > 0 && chdir("..") == 0 && rmdir("d") == 0)
		depth--;
	OK(depth == 0);
	OK(fchdir(top) == 0 && close(top) == 0);
}

static void not_allowed(void)
{
	struct stat st;
	if (!lacks("devices")) {
		return;
	}
	FAILS(mknod("null", S_IFCHR | 0666, 0x103), EPERM);
	OK(put("su", "x", 1) && chmod("su", 06755) == 0 && stat("su", &st) == 0 && !(st.st_mode & 06000));
	OK(unlink("su") == 0);
}

/* Opens the file until that fails: an error, after which all is as before. */
static int open_all(const char *name)
{
	struct rlimit files = {110000, 110000};
	unsigned count = 0;
	setrlimit(RLIMIT_NOFILE, &files);
	while (count < 100000 && open(name, O_RDONLY) >= 0)
		count++;
	printf("%u %s\n", count, count < 100000 ? strerror(errno) : "");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "open") == 0)
		return open_all(argv[2]);
	if (argc < 2 || chdir(argv[1]) < 0)
		return 2;
	words = argc - 2;
	word = argv + 2;
	memset(page, 'p', sizeof(page));
	names();
	files();
	sparse();
	large();
	appending();
	renames();
	removed();
	links();
	attributes();
	mappings();
	locks();
	threads();
	folders();
	not_allowed();
	printf("%u of %u expectations are met\n", good, good + bad);
	return bad > 0;
}
