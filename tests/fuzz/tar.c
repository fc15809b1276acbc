/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What wisp cp receives: an archive of any bytes, unpacked into a directory that holds a link, a FIFO and a file
 * already. Nothing outside changes. A byte says what an entry is, and its names come from a
 * short list that holds every way out; or else the bytes are the archive themselves.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/cli/cp_unpack.h"

#define OUT_MAX (1u << 20)

struct bytes {
	uint8_t *data;
	size_t length, at;
};

static size_t read_bytes(void *context, void *to, size_t length)
{
	struct bytes *bytes = context;
	size_t n = bytes->length - bytes->at < length ? bytes->length - bytes->at : length;
	memcpy(to, bytes->data + bytes->at, n);
	bytes->at += n;
	return n;
}

static void add(struct bytes *bytes, const void *data, size_t length)
{
	if (length > OUT_MAX - bytes->length)
		length = OUT_MAX - bytes->length;
	memcpy(bytes->data + bytes->length, data, length);
	bytes->length += length;
}

static void add_entry(struct input *in, struct bytes *bytes)
{
	static char *const names[] = {"src", "src/a", "src/d", "src/d/b", "src/link/x", "src/link",
	        "src/../../victim/f", "/victim/f", "src/fifo", "src/d/..", "src//a", "./src/a", "../victim", "src/old",
	        "src/.", ""};
	static char *const links[] = {"../../victim", "src/a", "src/link", "src/old", "../victim/f", "/", "src", ""};
	static const char types[] = "0125012534670x";
	char data[1024] = {0};
	uint8_t kind = in8(in), which = in8(in);
	struct tar_entry entry = {.name = names[which % 16],
	        .link = links[which / 16 % 8],
	        .type = types[kind % 14],
	        .mode = in16(in),
	        .size = kind & 16 ? in64(in) : kind >> 5,
	        .mtime = in8(in)};
	size_t length;
	char *header = tar_make_header(&entry, &length);
	MUST(header);
	add(bytes, header, length);
	free(header);
	in_bytes(in, data, entry.size < 8 ? entry.size : 8);
	if (entry.type == '0' && entry.size > 0)
		add(bytes, data, 512);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int open_rights(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	MUST(type == FTW_SL || S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) || S_ISFIFO(st->st_mode));
	MUST(type == FTW_SL || !(st->st_mode & (S_ISUID | S_ISGID)));
	MUST(!strstr(path, ".wisp-cp-"));
	return 0;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static void check_victim(void)
{
	struct stat st;
	char text[8] = "";
	int fd = open("victim/f", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	MUST(fd >= 0 && fstat(fd, &st) == 0 && read(fd, text, sizeof(text)) == 4 && memcmp(text, "safe", 4) == 0);
	MUST(st.st_nlink == 1 && (st.st_mode & 07777) == 0600);
	close(fd);
	MUST(rmdir("victim") < 0 && unlink("victim/f") == 0 && rmdir("victim") == 0);
}

static void enter(void)
{
	static bool entered;
	char dir[] = "/tmp/wisp-fuzz-tar-XXXXXX";
	if (entered)
		return;
	entered = true;
	MUST(mkdtemp(dir) && chdir(dir) == 0 && rmdir(dir) == 0);
	MUST(chdir("/tmp") == 0 && mkdir(dir, 0700) == 0 && chdir(dir) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct bytes bytes = {.data = malloc(OUT_MAX)};
	struct progress progress = {0};
	MUST(bytes.data);
	enter();
	MUST(mkdir("victim", 0700) == 0 && mkdir("out", 0700) == 0 && mkdir("out/src", 0700) == 0);
	write_file("victim/f", "safe");
	write_file("out/src/old", "old");
	MUST(symlink("../../victim", "out/src/link") == 0 && mkfifo("out/src/fifo", 0600) == 0);
	bool raw = in8(&in) & 1;
	for (unsigned i = 0; !raw && i < 64 && in.left > 0; i++)
		add_entry(&in, &bytes);
	add(&bytes, in.at, in.left);
	struct unpack unpack = {.reader = {.read = read_bytes, .context = &bytes},
	        .progress = &progress,
	        .root_fd = open("out", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
	        .from = "src",
	        .to = "src"};
	MUST(unpack.root_fd >= 0);
	unpack_archive(&unpack);
	close(unpack.root_fd);
	struct stat st;
	MUST(lstat("out/src/fifo", &st) == 0 && S_ISFIFO(st.st_mode));
	check_victim();
	MUST(nftw("out", open_rights, 16, FTW_PHYS) == 0);
	MUST(nftw("out", remove_one, 16, FTW_PHYS | FTW_DEPTH) == 0);
	free(bytes.data);
	return 0;
}
