/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving half of wisp cp: a hostile guest answers with an archive of any bytes. The first bytes choose what is
 * copied (a tree, "." or "/", a file of /proc) and the destination: a directory, a new name, a file that is replaced,
 * or a link or FIFO that is written through. Another byte says what an entry is, and its names come from a short list
 * that holds every way out; or else the bytes are the archive themselves. Nothing but the destination changes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/cli/cp.h"
#include "vmm/cli/tar.h"

#define OUT_MAX (1u << 20) /* no more than a pipe can be made to hold */

struct bytes {
	uint8_t *data;
	size_t length, at;
};

/* The guest: what its programs print, what they exit with, and what kind of file it says the source is. */
static struct {
	struct bytes bytes;
	char kind;
	bool fails;
	bool names_temporaries; /* the archive itself may hold files named like the temporary ones */
} answer;

bool guest_start(struct guest *guest, const struct copy *copy, const char *const *argv, bool feeds)
{
	(void)guest;
	(void)copy;
	MUST(!feeds && (strcmp(argv[0], "tar") == 0 || strcmp(argv[0], "cat") == 0));
	answer.bytes.at = 0;
	return true;
}

size_t guest_read(struct guest *guest, void *to, size_t length)
{
	struct bytes *bytes = &answer.bytes;
	size_t n = bytes->length - bytes->at < length ? bytes->length - bytes->at : length;
	(void)guest;
	memcpy(to, bytes->data + bytes->at, n);
	bytes->at += n;
	return n;
}

bool guest_write(struct guest *guest, const void *data, size_t length)
{
	(void)guest;
	(void)data;
	(void)length;
	abort(); /* nothing is sent */
}

int guest_finish(struct guest *guest, const char *what)
{
	(void)guest;
	(void)what;
	return answer.fails ? CLI_EXIT_FAILED : 0;
}

void guest_abort(struct guest *guest)
{
	(void)guest;
}

int guest_kind(const struct copy *copy, const char *path)
{
	(void)copy;
	(void)path;
	return answer.kind;
}

static void add(struct bytes *bytes, const void *data, size_t length)
{
	if (length > OUT_MAX - bytes->length)
		length = OUT_MAX - bytes->length;
	memcpy(bytes->data + bytes->length, data, length);
	bytes->length += length;
}

/* A name of the list, in which "@" stands for the first component that the archive must have. */
static char *name_of(const char *pattern, const char *from, char out[64])
{
	const char *at = strchr(pattern, '@');
	int before = at ? (int)(at - pattern) : 0;
	snprintf(out, 64, "%.*s%s%s", before, pattern, at ? from : "", at ? at + 1 : pattern);
	return out;
}

static void add_entry(struct input *in, struct bytes *bytes, const char *from)
{
	static const char *const names[] = {"@", "@/a", "@/d", "@/d/b", "@/link/x", "@/link", "@/../../victim/f",
	        "/victim/f", "@/fifo", "@/d/..", "@//a", "./@/a", "../victim", "@/old", "@/.", ""};
	static const char *const links[] = {"../../victim", "@/a", "@/link", "@/old", "../victim/f", "/", "@", ""};
	static const char types[] = "0125012534670x";
	char data[1024] = {0}, name[64], link[64];
	uint8_t kind = in8(in), which = in8(in);
	struct tar_entry entry = {.name = name_of(names[which % 16], from, name),
	        .link = name_of(links[which / 16 % 8], from, link),
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

static int check_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	MUST(type == FTW_SL || S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) || S_ISFIFO(st->st_mode));
	MUST(type == FTW_SL || !(st->st_mode & (S_ISUID | S_ISGID)));
	MUST(answer.names_temporaries || !strstr(path, ".wisp-cp-"));
	return S_ISDIR(st->st_mode) ? chmod(path, 0700) : 0;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static void check_file(const char *path, const char *wanted)
{
	struct stat st;
	char text[8] = "";
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	MUST(fd >= 0 && fstat(fd, &st) == 0 && read(fd, text, sizeof(text)) == (ssize_t)strlen(wanted));
	MUST(memcmp(text, wanted, strlen(wanted)) == 0 && (st.st_mode & 07777) == 0600);
	close(fd);
}

static mode_t type_of(const char *path)
{
	struct stat st;
	return lstat(path, &st) < 0 ? 0 : st.st_mode & S_IFMT;
}

static unsigned count(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;
	MUST(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

/* ---- The host's files ---- */

/* `file` is another name of a file outside: to replace it is right, and to write to it is not. */
static void furnish(int at, const char *up)
{
	char target[64];
	snprintf(target, sizeof(target), "%s/victim", up);
	MUST(symlinkat(target, at, "link") == 0 && mkfifoat(at, "fifo", 0600) == 0);
	MUST(linkat(AT_FDCWD, "victim/linked", at, "file", 0) == 0);
	MUST(linkat(AT_FDCWD, "victim/linked", at, "old", 0) == 0 && close(at) == 0);
}

static void make_files(void)
{
	MUST(mkdir("victim", 0700) == 0 && mkdir("out", 0700) == 0 && mkdir("out/src", 0700) == 0);
	write_file("victim/f", "safe");
	write_file("victim/linked", "safe");
	write_file("target", "old");
	furnish(open("out", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "..");
	furnish(open("out/src", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "../..");
	MUST(symlink("../target", "out/to") == 0 && symlink("nowhere", "out/none") == 0);
}

static void check_files(bool through_link)
{
	struct stat st;
	check_file("victim/f", "safe");
	check_file("victim/linked", "safe");
	MUST(stat("victim/f", &st) == 0 && st.st_nlink == 1 && count("victim") == 2);
	MUST(type_of("out/fifo") == S_IFIFO && type_of("out/src/fifo") == S_IFIFO);
	if (!through_link)
		check_file("target", "old");
	MUST(stat("target", &st) == 0 && st.st_nlink == 1 && (st.st_mode & 07777) == 0600);
	MUST(nftw("out", check_one, 16, FTW_PHYS) == 0);
	MUST(count(".") == 3);
}

static void remove_files(void)
{
	MUST(nftw("out", remove_one, 16, FTW_PHYS | FTW_DEPTH) == 0);
	MUST(unlink("victim/f") == 0 && unlink("victim/linked") == 0 && rmdir("victim") == 0 && unlink("target") == 0);
}

static char place[256];
static int place_fd, home_fd;

static void remove_place(void)
{
	rmdir(place);
}

/* A directory of its own, in TMPDIR. Each input works in it, and libFuzzer, whose paths may be relative, does not. */
static void make_place(void)
{
	const char *parent = getenv("TMPDIR");
	if (place[0])
		return;
	snprintf(place, sizeof(place), "%s/wisp-fuzz-tar-XXXXXX", parent ? parent : "/tmp");
	MUST(mkdtemp(place) && atexit(remove_place) == 0);
	home_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	place_fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(home_fd >= 0 && place_fd >= 0);
}

/* ---- The copy ---- */

static const struct destination {
	const char *path;
	bool into, through;
} destinations[] = {
        {"out", true, false},
        {"out/src", true, false},
        {"out/new", false, false},
        {"out/file", false, false},
        {"out/to", false, true},
        {"out/none", false, true},
        {"out/fifo", false, true},
        {"out", true, false},
};

static void receive(const char *source, const struct destination *destination)
{
	struct copy copy = {.quiet = true, .signals = -1};
	mode_t type = type_of(destination->path);
	unsigned entries = count("out");
	int reader = open("out/fifo", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	MUST(reader >= 0 && fcntl(reader, F_SETPIPE_SZ, OUT_MAX) >= 0);
	cp_receive(&copy, source, destination->path, destination->into);
	close(reader);
	if (destination->through)
		MUST(type_of(destination->path) == type && count("out") == entries);
	check_files(destination == &destinations[4]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct {
		const char *path, *from;
	} sources[] = {{"/d/src", "src"}, {"/", "."}, {"/d/.", "."}, {"/d/..", ".."}, {"/proc/src", "src"},
	        {"/d/src", "src"}, {"/", "."}, {"/src", "src"}};
	struct input in = {data, size};
	struct bytes *bytes = &answer.bytes;
	uint8_t how = in8(&in), what = in8(&in);
	*bytes = (struct bytes){.data = malloc(OUT_MAX)};
	MUST(bytes->data);
	answer.fails = what & 1;
	answer.kind = what & 2 ? 'd' : 'f';
	for (unsigned i = 0; !(how & 1) && i < 64 && in.left > 0; i++)
		add_entry(&in, bytes, sources[how / 2 % 8].from);
	add(bytes, in.at, in.left);
	answer.names_temporaries = memmem(bytes->data, bytes->length, ".wisp-cp-", 9);
	make_place();
	MUST(fchdir(place_fd) == 0);
	make_files();
	receive(sources[how / 2 % 8].path, &destinations[how / 16 % 8]);
	remove_files();
	MUST(fchdir(home_fd) == 0);
	free(bytes->data);
	return 0;
}
